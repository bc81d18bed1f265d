"""Which folders of a task's outputs are made before its commands run.

The folders of declared targets usually exist in the project, but empty folders do not travel, so the worker
makes them. A command that makes one itself, and would fail over it, finds it absent.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterator

from computefarm.messages import Action

_MKDIR = re.compile(r"(?:^|[\s;&|(/])mkdir\s([^;&|\n)]*)")
_CD = re.compile(r"(?:^|[\s;&|(])cd\s")


def outputs_to_prepare(action: Action) -> tuple[str, ...]:
    """Return paths whose parent folders must exist: the outputs, cut above what the commands make."""
    made = {path for command in action.commands for path in _made_by(command)}
    if not made:
        return action.outputs
    moves = any(isinstance(command, str) and _CD.search(command) for command in action.commands)
    return tuple(_above(output, made, moves) for output in action.outputs)


def _above(output: str, made: set[str], moves: bool) -> str:
    """Return `output`, or the highest folder on the way to it that the commands make."""
    parts = output.rstrip("/").split("/")
    for count in range(1, len(parts)):
        folder = "/".join(parts[:count])
        # After `cd` the name alone does not tell where it is.
        if folder in made or (moves and any(folder.endswith(f"/{path}") for path in made)):
            return folder
    return output


def _made_by(command: str | tuple[str, ...]) -> Iterator[str]:
    """Yield the folders that a command makes with a `mkdir` that fails where one exists."""
    if isinstance(command, tuple):
        if command and posixpath.basename(command[0]) == "mkdir":
            yield from _folders(list(command[1:]))
        return
    if "mkdir" not in command:
        return
    for match in _MKDIR.finditer(command):
        try:
            words = shlex.split(match[1])
        except ValueError:  # a quotation that ends elsewhere
            continue
        yield from _folders(words)


def _folders(words: list[str]) -> Iterator[str]:
    flags = [word for word in words if word.startswith("-")]
    if any(flag == "--parents" or (flag[1:2] != "-" and "p" in flag) for flag in flags):
        return
    yield from (posixpath.normpath(word) for word in words if not word.startswith("-"))
