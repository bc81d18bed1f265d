"""Which server is asked next, and which are left alone for a while. Pure: time comes in as `now`."""

from __future__ import annotations

from collections.abc import Container

import msgspec

from computefarm.core.volatile_servers import in_turn

FAILOVERS = 2
"""After so many other servers a request is given up."""

AHEAD = 2
"""Requests in flight per slot that a server has: one computed, one on its way."""


REST_S = 1.0
"""How long a server is not asked that has said that it is busy."""


class Standing(msgspec.Struct, eq=False):
    """One server as its client sees it."""

    name: str
    weight: float = 1.0
    tier: int = 0
    up: bool = False
    """Connected and welcomed."""
    out_until: float = 0.0
    """Left alone until then: it failed."""
    resting_until: float = 0.0
    """Others are preferred until then: it is busy."""
    failed_at: float | None = None
    relapsed: bool = False
    """It failed a second time within the retry interval."""
    slots: int = 0
    """What it has said that it offers."""
    pending: int = 0
    given: float = 0.0
    trouble: str = ""
    """Why it is not asked, for people."""

    def usable(self, now: float) -> bool:
        """Return whether it may be asked."""
        return self.up and now >= self.out_until


class Balance:
    """Chooses servers: lowest tier first, then the least pending for its weight."""

    def __init__(self, standings: list[Standing], *, retry_s: float, max_in_flight: int = 0) -> None:
        """`max_in_flight` 0: what the servers grant."""
        self.standings = standings
        self._retry_s = retry_s
        self._max_in_flight = max_in_flight

    def limit(self, now: float) -> int:
        """Return how many requests may be in flight."""
        if self._max_in_flight:
            return self._max_in_flight
        return max(1, sum(AHEAD * max(1, one.slots) for one in self.standings if one.usable(now)))

    def choose(self, tried: Container[str], now: float) -> Standing | None:
        """Return who is asked now; one that was tried only when there is nobody else."""
        usable = [one for one in self.standings if one.usable(now)]
        usable = [one for one in usable if now >= one.resting_until] or usable
        fresh = [one for one in usable if one.name not in tried] or usable
        if not fresh:
            return None
        # A reserve helps out when all servers before it have as much as they can do.
        free = [one for one in fresh if one.pending < AHEAD * max(1, one.slots)]
        tier = min(one.tier for one in free or fresh)
        near = [one for one in free or fresh if one.tier == tier]
        return in_turn([(one.pending, one.weight, one.given, one.name, one) for one in near])[-1]

    def give(self, standing: Standing) -> None:
        """Enter that it was asked."""
        standing.pending += 1
        standing.given += 1.0 / standing.weight

    def fail(self, standing: Standing, trouble: str, now: float) -> None:
        """Leave it alone for the retry interval."""
        standing.relapsed = standing.failed_at is not None and now < standing.failed_at + self._retry_s
        standing.failed_at = now
        standing.out_until = now + self._retry_s
        standing.trouble = trouble

    def rest(self, standing: Standing, now: float) -> None:
        """Prefer others for a moment: it can do nothing now."""
        standing.resting_until = now + REST_S

    def readmit(self, standing: Standing) -> None:
        """Enter that it is there: it is asked again at once, unless it fails again and again."""
        standing.up = True
        if not standing.relapsed:
            standing.out_until = 0.0

    def others(self, tried: Container[str], now: float) -> bool:
        """Return whether there is a server to ask that was not tried."""
        return any(one.usable(now) and one.name not in tried for one in self.standings)

    def readmission(self, now: float) -> float | None:
        """Return when the next server is tried again that is connected and left alone."""
        return min((one.out_until for one in self.standings if one.up and one.out_until > now), default=None)
