"""The plug-in that runs TeX as often as a document needs it."""

from __future__ import annotations

import sys
from pathlib import Path

from computefarm.worker_api.contract import Action, TaskContext

SHELL = ("/bin/sh", "-e", "-c")
ENGINES = frozenset({"pdflatex", "lualatex", "xelatex", "latex"})
PASSES = str(Path(__file__).with_name("passes.py"))


class LatexWorker:
    """Runs commands as they are, but one that begins with an engine until the document is stable."""

    name = "latex"

    def commands(self, action: Action, context: TaskContext) -> tuple[tuple[str, ...], ...]:
        """Return one argument vector for each of the action's commands."""
        return tuple(_command(command) for command in action.commands)


def _command(command: str | tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(command, str):
        return (*SHELL, command)
    if command and command[0] in ENGINES:
        # A program of its own, so that all passes are processes of the task.
        return (sys.executable, "-I", "-S", PASSES, *command)
    return command
