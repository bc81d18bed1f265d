"""Read a description and all it includes into one `Problem`; files come through the caller's function."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable

from computefarm.located import Located, read_yaml

from .schema import INCLUDED, NAME, PROBLEM
from .validate import validate
from .words import Problem, ProblemError

Load = Callable[[str], str]
"""Returns the text of a file, by its path relative to the project; raises `OSError`."""

MOST_FILES = 100
"""Descriptions that one may include, all told."""


def read(source: str, load: Load) -> Problem:
    """Return the description in `source` with everything it includes.

    Raises `ProblemError` with file, line, column, key and what was expected.
    """
    top = _file(source, load, None)
    validate(top, PROBLEM)
    fields = top.mapping()
    summary = fields["summary"].text() if "summary" in fields else ""
    problem = Problem(fields["problem"].text(), source, summary, {}, {}, {}, {}, None, {})
    _take(problem, top, source, load, (source,))
    _check_names(problem)
    return problem


def _file(source: str, load: Load, asked: Located | None) -> Located:
    try:
        text = load(source)
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        if asked is not None:
            raise asked.error(f"{source} cannot be read: {what}") from error
        raise ProblemError(f"{source}:1:1: it cannot be read: {what}") from error
    return read_yaml(text, source, ProblemError)


def _take(problem: Problem, top: Located, source: str, load: Load, path: tuple[str, ...]) -> None:
    """Add what one file says. What the including file says of a parameter comes first and wins."""
    fields = top.mapping()
    problem.bases[source] = posixpath.dirname(source)
    for name, value in fields["params"].mapping().items() if "params" in fields else ():
        problem.params.setdefault(name, value)
    for kind, into in (("tasks", problem.tasks), ("packages", problem.packages), ("groups", problem.groups)):
        for name, value in fields[kind].mapping().items() if kind in fields else ():
            if name in into:
                other = into[name]
                raise value.error(f"`{name}` is described already, at {other.source}:{other.line}")
            into[name] = value
    if "default" in fields and problem.default is None:
        problem.default = fields["default"]
    for item in _items(fields["include"]) if "include" in fields else ():
        _include(problem, item, source, load, path)


def _items(value: Located) -> list[Located]:
    return value.items() if isinstance(value.value, list) else [value]


def _include(problem: Problem, item: Located, source: str, load: Load, path: tuple[str, ...]) -> None:
    other = posixpath.normpath(posixpath.join(posixpath.dirname(source), item.text()))
    if other in path:
        circle = " includes ".join((*path[path.index(other) :], other))
        raise item.error(f"descriptions include one another in a circle: {circle}")
    if other in problem.bases:
        return  # two that are included may both need a third
    if len(problem.bases) >= MOST_FILES:
        raise item.error(f"more than {MOST_FILES} files are included")
    included = _file(other, load, item)
    validate(included, INCLUDED)
    _take(problem, included, other, load, (*path, other))


def _check_names(problem: Problem) -> None:
    seen: dict[str, Located] = {}
    for kind, names in (
        ("parameter", problem.params), ("task", problem.tasks), ("group", problem.groups),
    ):  # fmt: skip
        for name, value in names.items():
            if re.fullmatch(NAME, name) is None:
                raise value.error(f"`{name}` is no name for a {kind}: letters, digits, _ and -")
            if name in seen:
                other = seen[name]
                raise value.error(
                    f"`{name}` is the name of something else already, at {other.source}:{other.line}"
                )
            seen[name] = value
