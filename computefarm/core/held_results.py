"""A worker's results that the manager has not settled yet, and how long they are kept while it is away."""

from __future__ import annotations

from collections.abc import Iterable

from computefarm.messages import Finished, TaskKey

Name = tuple[TaskKey, int]
"""Of an attempt; unique in one worker, for one that has the name of an older epoch's waits for its end."""

RESULT_HOLD_S = 3600.0
"""Seconds for which a result is held while the manager is away."""


class HeldResults:
    """Results by attempt, the oldest first."""

    def __init__(self, hold_s: float) -> None:
        self.hold_s = hold_s
        self.entries: dict[Name, Finished] = {}
        self._until: dict[Name, float] = {}
        """While the manager is away: when each of them is let go."""

    def __bool__(self) -> bool:
        return bool(self.entries)

    def add(self, name: Name, finished: Finished, now: float, *, away: bool) -> None:
        """Hold one more."""
        self.entries[name] = finished
        if away:
            self._until[name] = now + self.hold_s

    def settle(self, attempts: Iterable[Name], epoch: str) -> None:
        """The manager has these; one of the same name but of another epoch is not meant."""
        for name in attempts:
            held = self.entries.get(name)
            if held is not None and held.epoch == epoch:
                del self.entries[name]

    def clear(self) -> None:
        """Nobody wants any of them."""
        self.entries.clear()
        self._until.clear()

    def away(self, now: float) -> None:
        """The manager cannot be reached any more."""
        self._until = dict.fromkeys(self.entries, now + self.hold_s)

    def back(self) -> None:
        """The manager is there again."""
        self._until.clear()

    def let_go(self, now: float) -> tuple[Name, ...]:
        """Forget, and return, those that nobody has come for in time."""
        if not self._until:
            return ()
        over = tuple(name for name, until in self._until.items() if now >= until)
        for name in over:
            del self._until[name]
            self.entries.pop(name, None)
        return over

    def let_go_at(self) -> float | None:
        """Return when the next of them is let go; None while the manager is there."""
        return next(iter(self._until.values()), None)
