"""The manager's wall clock, as well as another machine can know it.

A question and its answer bound the manager's time by the time they took; of the last few the quickest is
believed (as NTP does). It is kept relative to this machine's monotonic clock, so that nobody who sets the
wall clock here, or lets it jump, moves a line in the log.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

SAMPLES = 8
"""The quickest of so many answers is believed."""

FIRST = 4
"""Questions asked soon after a connection is made."""

SOON_S = 0.2
"""Between two of these."""

AGAIN_S = 30.0
"""Between two questions later: clocks drift by some milliseconds in this time."""

PATIENCE_S = 10.0
"""An answer that takes longer tells nothing."""


class FarmClock:
    """Asks, listens, and tells the time."""

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._samples: deque[tuple[float, float]] = deque(maxlen=SAMPLES)
        """How long the answer took, and the manager's wall clock less our monotonic one."""
        self._base = wall() - monotonic()
        self.known = False
        """Whether the manager has told the time."""
        self._asked = 0
        self._ask_at: float | None = None

    def now(self) -> float:
        """Return the manager's wall clock; this machine's until it is known."""
        return self._monotonic() + self._base if self.known else self._wall()

    def offset_s(self) -> float:
        """Return how much this machine's wall clock is behind the manager's."""
        return self.now() - self._wall() if self.known else 0.0

    def measured_s(self) -> float | None:
        """Return how much it is ahead, or None while that is not known."""
        return -self.offset_s() if self.known else None

    def connected(self) -> None:
        """A manager is there: it may be another one, so begin anew."""
        self._samples.clear()
        self._asked = 0
        self._ask_at = self._monotonic()

    def disconnected(self) -> None:
        """Nobody answers."""
        self._ask_at = None

    def question(self) -> float | None:
        """Return what to ask with when it is time to ask, else None."""
        now = self._monotonic()
        if self._ask_at is None or now < self._ask_at:
            return None
        self._asked += 1
        self._ask_at = now + (SOON_S if self._asked < FIRST else AGAIN_S)
        return now

    def due_s(self) -> float | None:
        """Return in how many seconds it is time to ask, or None."""
        return None if self._ask_at is None else max(0.0, self._ask_at - self._monotonic())

    def answered(self, asked_s: float, at: float) -> None:
        """Take an answer."""
        now = self._monotonic()
        took = now - asked_s
        if not 0.0 <= took <= PATIENCE_S:
            return
        self._samples.append((took, at - (asked_s + took / 2)))
        self._base = min(self._samples)[1]
        self.known = True
