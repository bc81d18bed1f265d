"""The plug-in that runs an action's own command lines."""

from __future__ import annotations

from computefarm.worker_api.contract import Action, TaskContext

SHELL = ("/bin/sh", "-e", "-c")
"""Text is a script that stops at its first failing command."""


class ShellWorker:
    """Runs text through the shell, and argument vectors as they are."""

    name = "shell"

    def commands(self, action: Action, context: TaskContext) -> tuple[tuple[str, ...], ...]:
        """Return one argument vector for each of the action's commands."""
        return tuple(
            (*SHELL, command) if isinstance(command, str) else command for command in action.commands
        )
