"""Waiting tasks, grouped so that no decision looks at more than a few of them.

Tasks with equal needs share a `Queue`, for one refusal settles them all; in it each session has a `Group`.
Who is next: the session with the fewest running tasks; inside it the highest priority; then first come.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from computefarm.messages import Need, Offer

from .placement import mismatch, too_small
from .state import Group, Queue, Task, Worker

IDLE_QUEUES = 256
"""Queues without any task that are kept for the next one with the same need."""


class Queues:
    """All queues, and which worker serves which."""

    def __init__(self) -> None:
        self.busy: dict[int, Queue] = {}
        """Queues with waiting tasks, by number."""
        self.waiting = 0
        self._by_need: dict[Need, Queue] = {}
        self._numbers = 0

    def queue(self, need: Need, workers: Iterable[Worker], seen: Iterable[tuple[Offer, str]]) -> Queue:
        """Return the queue of a need; make it when it is new, from the workers and all offers ever seen.

        Raises `ValueError` when the need's version is not a constraint.
        """
        queue = self._by_need.get(need)
        if queue is None:
            queue = self._make(need, workers, seen)
        return queue

    def enrol(self, worker: Worker) -> None:
        """Enter a worker, with what it offers now, into the queues it can serve."""
        for queue in self._by_need.values():
            _enrol(queue, worker)

    def expel(self, worker: Worker) -> None:
        """Take a worker out of all queues."""
        for queue in self._by_need.values():
            queue.offering.pop(worker.name, None)
            queue.able.pop(worker.name, None)

    def push(self, task: Task, now: float) -> Group:
        """Let a task wait its turn."""
        queue = task.queue
        group = queue.groups.get(task.session.name)
        if group is None:
            group = queue.groups[task.session.name] = Group(queue, task.session, since=now)
            self.busy[queue.number] = queue
        heapq.heappush(group.heap, (-task.priority, task.key, task))
        group.waiting += 1
        if task.key > group.newest:
            group.newest = task.key
        self.waiting += 1
        task.queued = True
        return group

    def top(self, group: Group) -> Task | None:
        """Return the task that is next in its group."""
        heap = group.heap
        while heap:
            task = heap[0][2]
            if task.queued and task.session is group.session and task.queue is group.queue:
                return task
            heapq.heappop(heap)
        return None

    def remove(self, task: Task) -> Group:
        """Take a task out of its queue; return the group it left."""
        queue = task.queue
        group = queue.groups[task.session.name]
        task.queued = False
        group.waiting -= 1
        self.waiting -= 1
        if group.waiting == 0:
            del queue.groups[task.session.name]
            if not queue.groups:
                del self.busy[queue.number]
        elif len(group.heap) > 64 and len(group.heap) > 4 * group.waiting:
            self._compact(group)
        return group

    def tasks(self, group: Group) -> list[Task]:
        """Return the waiting tasks of a group, first come first."""
        unique = {entry[1]: entry[2] for entry in group.heap if self._counts(entry[2], group)}
        return [unique[key] for key in sorted(unique)]

    def _counts(self, task: Task, group: Group) -> bool:
        return task.queued and task.session is group.session and task.queue is group.queue

    def _compact(self, group: Group) -> None:
        group.heap = [(-task.priority, task.key, task) for task in self.tasks(group)]
        heapq.heapify(group.heap)

    def _make(self, need: Need, workers: Iterable[Worker], seen: Iterable[tuple[Offer, str]]) -> Queue:
        if len(self._by_need) > IDLE_QUEUES:
            used = {kept: queue for kept, queue in self._by_need.items() if queue.tasks}
            if len(used) <= len(self._by_need) - IDLE_QUEUES // 2:
                self._by_need = used
        self._numbers += 1
        queue = Queue(self._numbers, need)
        for worker in workers:
            _enrol(queue, worker)
        if not queue.ever:
            queue.ever = any(
                offer.capability == need.capability and mismatch(need, offer, platform) is None
                for offer, platform in seen
            )
        self._by_need[need] = queue
        return queue


def fairness(group: Group, top: Task) -> tuple[int, float, int]:
    """Return the rank of a group; the lowest goes first."""
    return group.session.running, -top.priority, top.key


def _enrol(queue: Queue, worker: Worker) -> None:
    offer = worker.offers.get(queue.need.capability)
    if mismatch(queue.need, offer, worker.platform) is None:
        queue.ever = True
        queue.offering[worker.name] = worker
        if too_small(queue.need, worker) is None:
            queue.able[worker.name] = worker
