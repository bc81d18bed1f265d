"""Read what a compiler says it has read: a Makefile rule, as `gcc -MMD -MF FILE` writes it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from .database import FileState

# GNU make's quoting: backslash before space and #, doubled dollar; a backslash at the end joins two lines.
_WORD = re.compile(r"(?:\\[ #\\]|\$\$|[^\s\\]|\\(?![ #\n]))+")
_QUOTED = re.compile(r"\\([ #])|\$(\$)")


def prerequisites(text: str) -> list[str]:
    """Return the files that a rule's targets depend on, as written; raise `ValueError` if it is no rule."""
    joined = text.replace("\\\r\n", " ").replace("\\\n", " ")
    found: dict[str, None] = {}
    rules = [line for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in rules:
        # The colon of a rule is followed by a space or ends the line; those in names are not.
        match = re.search(r":(?=\s|$)", line)
        if match is None:
            raise ValueError(f"{line[:60]!r} is not a rule")
        for word in _WORD.findall(line[match.end() :]):
            found[_QUOTED.sub(lambda quoted: quoted[1] or quoted[2], word)] = None
    return list(found)


def discovered(
    depfile: Path, inputs: Sequence[FileState], inside: Callable[[str], str | None]
) -> Sequence[FileState]:
    """Return those of `inputs` that were read; all of them when the depfile cannot be trusted.

    `inside` returns a path relative to the project, None for one outside of it.
    """
    try:
        named = prerequisites(depfile.read_text(encoding="utf-8", errors="surrogateescape"))
    except (OSError, ValueError):
        return inputs
    read = {path for name in named if (path := inside(name)) is not None}
    absolute = [os.path.normpath(name) for name in named if os.path.isabs(name)]
    return [state for state in inputs if state.path in read or _ends_with(state.path, absolute)]


def _ends_with(path: str, absolute: Iterable[str]) -> bool:
    """Return whether a tool named the file by its place in the task's own directory, wherever that was."""
    tail = os.sep + path
    return any(name.endswith(tail) for name in absolute)
