"""Recognise, in the output of a failed command, a file of the project that the task did not declare."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Container, Iterator, Sequence

_ABSENT = re.compile(
    r"no such file|not found|does not exist|no rule to make target|no module named"
    r"|(cannot|can't|could not|unable to|failed to) (open|read|find|stat|access)",
    re.IGNORECASE,
)
_QUOTED = re.compile("'([^']+)'|\"([^\"]+)\"|\u2018([^\u2019]+)\u2019|`([^']+)'|<([^>]+)>")
_WORD = re.compile("[^\\s:;,()'\"\u2018\u2019`<>=|&]+")
_MODULE = re.compile(r"No module named '([\w.]+)'")
_PLACE = re.compile(r"([^:]+):\d+(?::\d+)?:\s")
"""Where a compiler or make stands: that file was there."""
_LINES = 2000
"""Lines of output looked at; the reason stands near one end of it."""


def undeclared_file(
    log_text: str,
    exists: Callable[[str], bool],
    declared: Container[str],
    *,
    directory: str = "",
    folders: Sequence[str] = (),
) -> str | None:
    """Return the first project file that a "no such file" line names and the task did not declare.

    `exists` answers for paths relative to the project. `directory` is the task's own, as some programs
    print absolute paths. `folders` are tried before a name as include folders are (`include` for `foo.h`).
    """
    lines = log_text.splitlines()
    if len(lines) > 2 * _LINES:
        lines = lines[:_LINES] + lines[-_LINES:]
    asked: set[str] = set()
    for line in lines:
        if not _ABSENT.search(line):
            continue
        beside = folders
        place = _PLACE.match(line)
        if place:
            line = line[place.end() :]
            beside = (posixpath.dirname(place[1]), *folders)
        for name in _names(line):
            for path in _places(name, directory, beside):
                if path in asked or path in declared:
                    continue
                asked.add(path)
                if exists(path):
                    return path
    return None


def _names(line: str) -> Iterator[str]:
    """Yield what may be a path in `line`, the likeliest first: quoted, between colons, single words."""
    module = _MODULE.search(line)
    if module:
        path = module[1].replace(".", "/")
        yield from (f"{path}.py", f"{path}/__init__.py")
    for groups in _QUOTED.findall(line):
        yield from (name for name in groups if name)
    parts = [part.strip() for part in line.split(":")]
    # From the right: `program: place: line: the file: No such file or directory`.
    yield from (part for part in reversed(parts) if part and " " not in part)
    yield from (part for part in reversed(parts) if " " in part)  # names with spaces
    yield from (word.rstrip(".") for word in _WORD.findall(line))


def _places(name: str, directory: str, folders: Sequence[str]) -> Iterator[str]:
    """Yield the project-relative paths that `name` may mean."""
    if directory and name.startswith(directory.rstrip("/") + "/"):
        name = name[len(directory.rstrip("/")) + 1 :]
    name = name.removeprefix("@")
    if not name or name.startswith(("/", "~")) or "\0" in name:
        return
    for folder in dict.fromkeys(("", *folders)):
        path = posixpath.normpath(posixpath.join(folder, name))
        if path not in (".", "..") and not path.startswith("../"):
            yield path
