"""Workers kept free for tasks too wide for what is free anywhere.

A worker with four slots and many narrow tasks never has four free at once: each slot that becomes free is
taken at once, and a task that needs them all would wait for ever. So when such a task has been next in its
group for `RESERVE_BEATS`, one worker is reserved for its need: nothing else begins there until one has.
The others' longest wait is bounded too, for a reserved worker that has begun one is anybody's again.
"""

from __future__ import annotations

from .beats import RESERVE_BEATS
from .dispatch import Dispatch
from .placement import WAITS_FOR_OTHERS, hindrance
from .state import Group, Queue, Worker
from .tables import Tables


class Reservations:
    """Reserves, and lets go of what is reserved for nothing."""

    def __init__(self, tables: Tables, dispatch: Dispatch) -> None:
        self._tables = tables
        self._dispatch = dispatch
        self._patience_s = RESERVE_BEATS * tables.heartbeat_s

    def review(self, now: float) -> None:
        """Look at what waits, and at what is reserved."""
        reserved = self._release(now)
        for queue in self._tables.queues.busy.values():
            if queue.number not in reserved and _wide(queue):
                for group in queue.groups.values():
                    if now >= group.since + self._patience_s and self._reserve(group, now):
                        break

    def _release(self, now: float) -> set[int]:
        """Give back workers for which nothing waits any more; return the queues that have one."""
        reserved = set()
        by_need = {queue.need: queue for queue in self._tables.queues.busy.values()}
        for worker in self._tables.workers.values():
            if worker.reserved is None:
                continue
            queue = by_need.get(worker.reserved)
            if (
                queue is None
                or worker.name not in queue.able
                or not worker.able
                or now < worker.quarantined_until
            ):
                self._dispatch.unreserve(worker)
            else:
                reserved.add(queue.number)
        return reserved

    def _reserve(self, group: Group, now: float) -> bool:
        """Keep the worker free that is likely to be so first, and that nothing but tasks hinders."""
        task = self._tables.queues.top(group)
        if task is None:
            return False
        candidates = []
        for worker in group.queue.able.values():
            said = hindrance(group.queue.need, worker, now)
            if said is None:
                return False  # it rests from a task that it declined, and will be asked again
            if said.kind in WAITS_FOR_OTHERS and _has_room(group.queue.need.memory, worker, now):
                candidates.append(worker)
        if not candidates:
            return False
        chosen = min(candidates, key=_rank)
        chosen.reserved = group.queue.need
        chosen.reserved_for = task.name
        return True


def _has_room(memory: int, worker: Worker, now: float) -> bool:
    """Return whether the host would have the memory if none of our tasks ran there."""
    host = worker.host
    if not memory or host.report is None or host.stale(now):
        return True
    return memory <= host.report.memory_available + host.ledger.memory


def _rank(worker: Worker) -> tuple[float, str]:
    """Sort by how much there is to end first."""
    return worker.used / worker.slots, worker.name


def _wide(queue: Queue) -> bool:
    need = queue.need
    return need.cpus > 1 or need.exclusive or need.gpus > 0 or need.declared > 0
