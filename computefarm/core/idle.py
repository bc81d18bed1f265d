"""Many free workers, in the order in which they should get a task of one need.

Comparing all of them for each task that arrives would take a millisecond for a thousand. Here a worker is
ranked again only when it comes to the top: what is placed on it makes its rank worse, which is seen then, and
what makes it better (`offer`) enters it anew. Workers that share a host improve each other's rank unnoticed
until the host's next load report.
"""

from __future__ import annotations

import heapq

from .placement import Rank, hindrance, rank
from .state import Queue, Task, Worker


class Idle:
    """The free workers that could run what waits in one queue."""

    def __init__(self, queue: Queue, free: dict[str, Worker], now: float) -> None:
        self._queue = queue
        self._free = free
        """Kept by others."""
        self._heap: list[Rank] = []
        self._ranks: dict[str, Rank] = {}
        """By worker; other entries in the heap are void."""
        for worker in free.values():
            self.offer(worker, now)

    def offer(self, worker: Worker, now: float) -> None:
        """A worker is free, or has become a better choice."""
        name = worker.name
        if name in self._free and name in self._queue.able:
            self._enter(rank(self._queue.need, worker, now))

    def choose(self, task: Task, now: float) -> Worker | None:
        """Return the worker that should finish first among those that do not refuse now, or None."""
        need, heap = self._queue.need, self._heap
        aside: list[Rank] = []
        chosen: Worker | None = None
        while heap and chosen is None:
            entered = heapq.heappop(heap)
            name = entered[-1]
            if self._ranks.get(name) != entered:
                continue
            del self._ranks[name]
            worker = self._free.get(name)
            if worker is None or name not in self._queue.able:
                continue
            present = rank(need, worker, now)
            if present > entered:
                self._enter(present)
                continue
            aside.append(present)
            if not rests(task, worker, now) and hindrance(need, worker, now) is None:
                chosen = worker
        for present in aside:
            self._enter(present)
        return chosen

    def _enter(self, new: Rank) -> None:
        name = new[-1]
        known = self._ranks.get(name)
        if known is None or new < known:
            self._ranks[name] = new
            heapq.heappush(self._heap, new)


def rests(task: Task, worker: Worker, now: float) -> bool:
    """Return whether a task is kept from a worker that declined it."""
    avoidance = task.avoid.get(worker.name) if task.avoid else None
    return avoidance is not None and now < avoidance.until
