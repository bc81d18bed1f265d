"""Whose lines the output of an attempt is."""

from __future__ import annotations

import msgspec


class Source(msgspec.Struct, frozen=True, gc=False):
    """Where an attempt runs, and every task that shares it."""

    host: str
    capability: str
    tasks: tuple[tuple[str, str, str], ...]
    """Session, its owner's key, and the task's name."""
    logs: str = ""
    """The line parser of what it prints; empty means its capability's."""
