"""Objects that strangers' packages offer by entry point."""

from __future__ import annotations

from importlib import metadata
from typing import TypeVar

from computefarm.errors import FarmError

_T = TypeVar("_T")


def names(group: str) -> tuple[str, ...]:
    """Return the names of all installed entry points of a group, sorted."""
    return tuple(sorted({point.name for point in metadata.entry_points(group=group)}))


def make(
    point: metadata.EntryPoint, what: str, kind: type[_T], expected: str, error: type[FarmError] = FarmError
) -> _T:
    """Return a new object of the class that an entry point names; raises `error` saying whose it is.

    `what` says what it is for people, `expected` what an object of another kind lacks.
    """
    which = f"{what} {point.name!r} ({point.value})"
    try:
        made = point.load()()
    except Exception as cause:  # a stranger's module may fail in any way
        raise error(f"{which} cannot be loaded: {type(cause).__name__}: {cause}") from cause
    if not isinstance(made, kind):
        raise error(f"{which} is not one: expected {expected}")
    return made
