"""Find level, file, line and column in what tools print.

A capability file names its parser in `logs:`; parsers come by entry point, so anybody can ship one.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING

from .words import LEVELS, Parsed, Parser, at_least, place

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib import metadata

__all__ = ["GROUP", "LEVELS", "Parsed", "Parser", "at_least", "names", "parser", "place"]

GROUP = "computefarm.log_parsers"
"""Entry points of this group name a class that takes no arguments and has `feed`."""

LONGEST = 4096
"""Characters of a line that a parser is asked about; a longer one is no message, and may take it for ever."""

log = logging.getLogger("computefarm.logs")


@functools.cache
def _installed() -> dict[str, metadata.EntryPoint]:
    from importlib import metadata  # its import costs more than all of ours here

    return {point.name: point for point in metadata.entry_points(group=GROUP)}


@functools.cache
def _made_by(point: metadata.EntryPoint) -> Callable[[], Parser]:
    return point.load()  # type: ignore[no-any-return]


def names() -> tuple[str, ...]:
    """Return the names of all installed parsers, sorted."""
    return tuple(sorted(_installed()))


def parser(name: str) -> Parser:
    """Return a new parser called `name`, for one stream; one that knows nothing when there is none.

    A parser that raises is named once in the log, and its lines are plain from then on.
    """
    return _Guarded(name) if name else _Plain()


class _Plain:
    """Understands nothing."""

    def feed(self, line: str) -> Parsed | None:
        """Take it as plain text."""
        return None


@functools.cache
def _complain(name: str, text: str) -> None:
    log.warning("log parser %r %s; its lines are shown as they are", name, text)


class _Guarded:
    """A parser from anywhere, which must not harm a run."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._inner: Parser = _Plain()
        point = _installed().get(name)
        if point is None:
            _complain(name, f"is not installed (there are: {', '.join(names()) or 'none'})")
            return
        try:
            self._inner = _made_by(point)()
        except Exception as error:  # a stranger's module may fail in any way
            _complain(name, f"cannot be loaded: {type(error).__name__}: {error}")

    @property
    def both_streams(self) -> bool:
        """Whether one parser reads both streams of an attempt."""
        return bool(getattr(self._inner, "both_streams", False))

    def feed(self, line: str) -> Parsed | None:
        """Ask the parser; forget it when it fails."""
        if len(line) > LONGEST:
            return None
        try:
            parsed: object = self._inner.feed(line)
        except Exception as error:  # a stranger's parser may fail in any way
            _complain(self._name, f"failed: {type(error).__name__}: {error}")
            self._inner = _Plain()
            return None
        if parsed is None or isinstance(parsed, Parsed):
            return parsed
        _complain(self._name, f"returned {type(parsed).__name__} where Parsed was expected")
        self._inner = _Plain()
        return None
