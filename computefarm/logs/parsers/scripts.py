"""Messages of whatever a script may run: compilers, make and its kin, Python."""

from __future__ import annotations

from .compilers import Make
from .python import Python
from .words import Parsed


class Script:
    """For tasks of which nobody knows the tool."""

    both_streams = True

    def __init__(self) -> None:
        self._make = Make()
        self._python = Python()

    def feed(self, line: str) -> Parsed | None:
        """Return the message in `line`; a traceback is read to its end."""
        if not self._python.inside:
            parsed = self._make.feed(line)
            if parsed is not None:
                return parsed
        return self._python.feed(line)
