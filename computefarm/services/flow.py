"""A running attempt's lines, on their way to the manager: a few at a time, and never too many.

The first 64 KiB of a stream go out as they come, the rest as fast as the worker may talk. What waits is
bounded: of each stream the last 1 MiB, and a line in the place of the rest that says how much it was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from computefarm.messages import Piece

HEAD = 64 * 1024
"""Bytes of each stream that are always sent."""

TAIL = 1024 * 1024
"""Bytes of each stream that may wait."""

TOGETHER = 256 * 1024
"""Bytes of lines in one message, or a little more."""


class Allowance:
    """How much a worker may say: so many bytes and lines a second in the long run, and more for a while."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        bytes_s: float = 4e6,
        lines_s: float = 10_000,
        burst_s: float = 2.0,
    ) -> None:
        self._clock = clock
        self._rates = (bytes_s, lines_s)
        self._burst_s = burst_s
        self._left = [bytes_s * burst_s, lines_s * burst_s]
        self._at = clock()

    def any(self) -> bool:
        """Return whether something may be said now."""
        now = self._clock()
        passed, self._at = now - self._at, now
        for i, rate in enumerate(self._rates):
            self._left[i] = min(rate * self._burst_s, self._left[i] + passed * rate)
        return min(self._left) > 0

    def spend(self, size: int, lines: int) -> None:
        """Book what was said; it may be more than was left."""
        self._left[0] -= size
        self._left[1] -= lines


class _Waiting(msgspec.Struct):
    """What waits of one stream."""

    pieces: deque[tuple[Piece, int]] = msgspec.field(default_factory=deque)
    """Each with its lines: counting them is what costs most here."""
    size: int = 0
    sent: int = 0
    gap: int = 0
    """Lines dropped since the last piece that was sent."""
    after: Piece | None = None
    """The last of them."""


class Flow:
    """The lines of one attempt that wait to be sent."""

    __slots__ = ("_streams", "dropped", "since", "size")

    def __init__(self) -> None:
        self._streams: dict[int, _Waiting] = {}
        self.size = 0
        """Characters that wait."""
        self.since = 0.0
        """When the first of them came."""
        self.dropped = 0
        """Lines left out so far."""

    def put(self, piece: Piece, now: float, lines: int | None = None) -> None:
        """Let a piece of so many lines wait; the oldest of its stream goes when there is too much."""
        waiting = self._streams.get(piece.stream)
        if waiting is None:
            waiting = self._streams[piece.stream] = _Waiting()
        if not self.size:
            self.since = now
        size = len(piece.text)
        waiting.pieces.append((piece, lines_of(piece.text) if lines is None else lines))
        waiting.size += size
        self.size += size
        while waiting.size > TAIL:
            gone, count = waiting.pieces.popleft()
            waiting.size -= len(gone.text)
            self.size -= len(gone.text)
            waiting.gap += count
            waiting.after = gone
            self.dropped += count

    def urgent(self) -> bool:
        """Return whether some of it may be sent whatever the allowance says."""
        return any(waiting.pieces and waiting.sent < HEAD for waiting in self._streams.values())

    def take(self, most: int = TOGETHER, where: str = "") -> tuple[Piece, ...]:
        """Return the next pieces in the order they came; `where` says where all of it is."""
        taken: list[Piece] = []
        size = 0
        while size < most:
            following = [waiting for waiting in self._streams.values() if waiting.pieces]
            if not following:
                break
            waiting = min(following, key=lambda waiting: waiting.pieces[0][0].seq)
            if waiting.after is not None:
                taken.append(_gap(waiting.after, waiting.gap, where))
                waiting.gap, waiting.after = 0, None
            piece, _ = waiting.pieces.popleft()
            length = len(piece.text)
            waiting.size -= length
            waiting.sent += length
            self.size -= length
            size += length
            taken.append(piece)
        return tuple(taken)


def lines_of(text: str) -> int:
    """Return how many lines a piece has; an unfinished one counts."""
    return text.count("\n") + (not text.endswith("\n"))


def _gap(last: Piece, lines: int, where: str) -> Piece:
    note = f"[... {lines:,} lines left out here{where} ...]\n"
    return Piece(last.stream, last.created_at, note, last.seq, last.line)
