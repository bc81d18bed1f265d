"""How long a run waits for a capability that nothing offers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from computefarm.backends.base import Held
from computefarm.core.placement import ONLY
from computefarm.messages import Need, Obstacle

GRACE = 3.0
"""Seconds for workers that start together with the run; exit 5 must come within five."""

WAIT_WORKERS = 60.0
"""Seconds to wait for a capability that was there and vanished."""


class Patience:
    """Decides, from what the backend says, when a task has waited long enough; times are monotonic."""

    def __init__(
        self, wait_workers: float | None, *, vanished_s: float = WAIT_WORKERS, grace: float = GRACE
    ) -> None:
        self._wait_workers = wait_workers
        self._vanished_s = vanished_s
        self._grace = grace
        self._settled_at: float | None = None
        self._held: dict[int, tuple[float, Held]] = {}
        """Per task: held since, and the last word on it."""

    def settled(self, settled: bool, now: float) -> None:
        """Note whether all workers of before had their chance to come back."""
        if settled and self._settled_at is None:
            self._settled_at = now

    def until(self, began: float) -> float | None:
        """Return when the wait that began then, for what was never there, is over; None while nobody knows.

        Nobody does while workers may still be coming back after the manager's start.
        """
        return None if self._settled_at is None else max(began, self._settled_at) + self._grace

    @property
    def told(self) -> bool:
        """Say whether the user has said how long to wait."""
        return self._wait_workers is not None

    def hold(self, event: Held, now: float) -> str:
        """Take the backend's word on some tasks; return what to say about it, mostly nothing."""
        if not event.obstacles or event.offered:
            self.release(event.tasks)
            return ""
        first = True
        for task in event.tasks:
            since, before = self._held.get(task, (now, None))
            first = first and (before is None or before.ever != event.ever)
            self._held[task] = (since if before is None or before.ever == event.ever else now, event)
        if not first:
            return ""
        limit = self._limit(event)
        if event.ever or self._wait_workers is not None:
            return f"{nothing_offers(event.need, event.obstacles)}; waiting for up to {limit:g} s"
        return ""

    def release(self, tasks: Iterable[int]) -> None:
        """Forget tasks that run, ended, or merely wait for a free slot."""
        for task in tasks:
            self._held.pop(task, None)

    def _limit(self, event: Held) -> float:
        if self._wait_workers is not None:
            return self._wait_workers
        return self._vanished_s if event.ever else self._grace

    def _deadline(self, since: float, event: Held) -> float | None:
        if event.ever or self._wait_workers is not None:
            return since + self._limit(event)
        if self._settled_at is None:
            return None
        return max(since, self._settled_at) + self._limit(event)

    def next_deadline(self) -> float | None:
        """Return when `expired` will next have something to say."""
        times = [t for since, event in self._held.values() if (t := self._deadline(since, event)) is not None]
        return min(times, default=None)

    def expired(self, now: float) -> list[tuple[int, Held]]:
        """Return the tasks for which waiting is over, and forget them."""
        over = []
        for task, (since, event) in self._held.items():
            deadline = self._deadline(since, event)
            if deadline is not None and deadline <= now:
                over.append((task, event))
        self.release([task for task, _ in over])
        return over


def nothing_offers(need: Need, obstacles: Sequence[Obstacle]) -> str:
    """Say that no worker offers what is needed, and what each one offers instead."""
    tags = "".join(f" {name}={value}" for name, value in need.tags)
    wanted = f"{need.capability}{need.version}{tags}"
    reasons = [f"{o.name}: {o.reason}" if o.name else o.reason for o in obstacles]
    shown = "; ".join(reasons[:5]) + (f"; and {len(reasons) - 5} more" if len(reasons) > 5 else "")
    return f"no worker offers {wanted} ({shown})"


def next_step(need: Need, obstacles: Sequence[Obstacle], *, local: bool) -> str:
    """Say what to do when no worker offers what is needed."""
    if local:
        return "see what this machine lacks: cf-worker --probe"
    start = f"cf-worker --capability {need.capability}"
    if any(ONLY in obstacle.reason for obstacle in obstacles):
        return (
            f"use one of these: farm.action({need.capability!r}, …), see: majordomo capabilities; "
            f"or start a worker that runs any command: {start}"
        )
    return f"start one where it is installed: {start}; see: majordomo status"
