"""What a task's output complains about: counted while it comes, the first complaints kept to be shown."""

from __future__ import annotations

from collections.abc import Sequence

from computefarm.logs.records import Records, line_of
from computefarm.messages import Piece

SHOWN = 10
"""Errors shown with a failure."""

READ = 8 * 1024 * 1024
"""Characters of one task's output that are looked through here; `majordomo logs --level` looks at all."""

ERRORS = ("error", "critical")


class Findings:
    """The warnings and errors of one attempt."""

    __slots__ = ("_left", "_records", "cut", "errors", "first", "warnings")

    def __init__(self, parser: str) -> None:
        """`parser` is the line parser's name; with none, nothing is ever found."""
        self._records = Records(run="", host="", capability="", task="", parser=parser) if parser else None
        self._left = READ
        self.cut = False
        """There was more output than is looked through."""
        self.errors = 0
        self.warnings = 0
        self.first: list[str] = []
        """The first errors, as a compiler writes them: `file:line:column: error: text`."""

    def add(self, pieces: Sequence[Piece]) -> None:
        """Look through the next output."""
        if self._records is None or self.cut:
            return
        self._left -= sum(len(piece.text) for piece in pieces)
        if self._left < 0:
            self.cut = True
            return
        for record in self._records.feed(pieces):
            level = record["level"]
            if level == "warning":
                self.warnings += 1
            elif level in ERRORS:
                self.errors += 1
                if len(self.first) < SHOWN:
                    self.first.append(line_of(record))

    def more(self) -> int:
        """Return how many errors are not among the first."""
        return self.errors - len(self.first)
