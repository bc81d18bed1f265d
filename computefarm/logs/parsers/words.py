"""What a line parser says about a line."""

from __future__ import annotations

import os
from typing import Protocol

import msgspec

LEVELS = ("debug", "info", "warning", "error", "critical")
"""From least to most urgent, as the console and the log window name them."""


class Parsed(msgspec.Struct, frozen=True):
    """One line, understood."""

    level: str
    message: str
    """The line without what the other fields say."""
    dir: str = ""
    """Folder that `file` is relative to, where the tool said so; empty means the task's directory."""
    file: str = ""
    line: int = 0
    """Counted from 1; 0 when unknown."""
    column: int = 0
    """Counted from 1; 0 when unknown."""


class Parser(Protocol):
    """Reads the lines of one stream of one attempt, in order."""

    def feed(self, line: str) -> Parsed | None:
        """Return what `line` (without its newline) means, or None when it is plain text.

        May remember earlier lines: a message often stands below the place it belongs to.
        """


def at_least(level: str, wanted: str) -> bool:
    """Return whether `level` is as urgent as `wanted`; an unknown level counts as info."""
    return _rank(level) >= _rank(wanted)


def _rank(level: str) -> int:
    name = level.lower()
    name = {"warn": "warning", "fatal": "critical", "note": "info"}.get(name, name)
    return LEVELS.index(name) if name in LEVELS else LEVELS.index("info")


def place(path: str) -> tuple[str, str]:
    """Return `(dir, file)` of a path as a tool printed it: an absolute one is split, a relative one kept."""
    if os.path.isabs(path):
        return os.path.dirname(path), os.path.basename(path)
    return "", path[2:] if path.startswith("./") else path
