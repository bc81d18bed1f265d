"""From the queues to the workers: who gets what next, and what is sent ahead.

Everybody else only enters tasks and frees slots; `run` then places what can be placed, once per message.
Between two calls this holds: no worker that would take a waiting task has a free slot.
So an arriving task needs to look only at free workers, and a freed worker only at the queues it serves.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from computefarm.messages import Halt, Placed, Run, Waiting

from .ahead import LONG_S, credit, simple
from .entries import Started
from .idle import Idle, rests
from .placement import choose, hindrance, over_limit
from .queues import fairness
from .state import Attempt, Group, Queue, Task, TaskState, Worker
from .tables import Tables

LOOK_PAST = 8
"""Tasks resting from a worker that declined them which are looked past for one that is not."""


MANY = 48
"""Free workers that are simply compared; more are kept in order."""

INDEXES = 64
"""Queues for which they are kept in order."""


class Dispatch:
    """Decides which waiting task goes to which worker."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._queues = tables.queues
        self._arrived: dict[int, Queue] = {}
        self._freed: dict[str, Worker] = {}
        self._ahead: dict[int, Attempt] = {}
        """Everything sent ahead anywhere, by task, oldest first."""
        self.many = MANY
        self._idle: dict[int, Idle] = {}
        """By queue, while many workers are free."""
        self._recall_after = 0.0

    # --- what others report ---------------------------------------------------------------------------

    def enter(self, task: Task, now: float) -> None:
        """Let a WAITING task take its place in the queue."""
        self._queues.push(task, now)
        queue = task.queue
        self._arrived[queue.number] = queue
        if not queue.ever:
            self._tables.unheard[queue.number] = queue

    def withdraw(self, task: Task) -> None:
        """Take a waiting task out of its queue, if it is in one."""
        if task.queued:
            self._queues.remove(task)

    def requeue(self, task: Task, now: float) -> None:
        """Let a RUNNING task without an attempt wait again."""
        task.move(TaskState.WAITING)
        self.enter(task, now)

    def release(self, attempt: Attempt, now: float) -> None:
        """Take an attempt from its worker; what it occupied is free at once."""
        self.vacate(attempt, now)
        worker = self._tables.workers.get(attempt.worker)
        if worker is not None:
            worker.ended.pop(attempt.key, None)
        task = self._tables.tasks[attempt.key]
        assert task.live is attempt
        task.live = None
        task.session.running -= 1

    def vacate(self, attempt: Attempt, now: float) -> None:
        """Free what an attempt occupies; it may still be waiting for its outputs to arrive."""
        worker = self._tables.workers[attempt.worker]
        if worker.backlog.pop(attempt.key, None) is not None:
            del self._ahead[attempt.key]
        elif worker.running.pop(attempt.key, None) is not None:
            worker.used -= attempt.width
            worker.gpus_used -= attempt.need.gpus
            if attempt.charge is not None:
                worker.host.ledger.release(attempt.charge)
                attempt.charge = None
            self._promote(worker, now)
        self.freed(worker)

    def freed(self, worker: Worker) -> None:
        """A worker may have become able to take something."""
        if worker.used < worker.slots and worker.able:
            self._tables.free[worker.name] = worker
        else:
            self._tables.free.pop(worker.name, None)
        self._freed[worker.name] = worker

    def begun(self, attempt: Attempt, now: float) -> None:
        """An attempt has been started; one that was sent ahead occupies its slots from now on."""
        attempt.begun = True
        worker = self._tables.workers[attempt.worker]
        if worker.backlog.pop(attempt.key, None) is not None:
            del self._ahead[attempt.key]
            self._occupy(attempt, worker, now)
            self._tell_placed(self._tables.tasks[attempt.key], worker, now)

    def adopt(self, task: Task, worker: Worker, now: float) -> None:
        """Recognise a task's last attempt, given up or not heard of lately, as running on `worker`."""
        self.withdraw(task)
        task.move(TaskState.RUNNING)
        attempt = Attempt(task.key, task.attempt, worker.name, task.queue.need, now, epoch=task.epoch)
        attempt.begun = attempt.adopted = True
        task.live = attempt
        task.worker = worker.name
        task.session.running += 1
        self._occupy(attempt, worker, now)

    def halt(self, attempt: Attempt, reason: str, now: float, *, unless_begun: bool = False) -> None:
        """Have an attempt ended by its worker."""
        peer = self._tables.workers[attempt.worker].peer
        epoch = self._tables.abroad(attempt.epoch)
        self._tables.say(peer, Halt(attempt.key, attempt.attempt, reason, unless_begun, epoch), now)

    def unreserve(self, worker: Worker) -> None:
        """A worker is anybody's again."""
        worker.reserved = None
        self.freed(worker)

    def resize(self, worker: Worker) -> None:
        """A worker's slots have changed: what must be alone on it takes all of them."""
        for attempt in worker.running.values():
            if attempt.need.exclusive:
                width = max(worker.slots, attempt.need.cpus)
                worker.used += width - attempt.width
                attempt.width = width

    # --- placing --------------------------------------------------------------------------------------

    def run(self, now: float) -> None:
        """Place everything that can be placed after what has happened."""
        if self._tables.holding(now):
            return
        while self._arrived or self._freed:
            arrived, self._arrived = self._arrived, {}
            freed, self._freed = self._freed, {}
            for index in self._idle.values():
                for worker in freed.values():
                    index.offer(worker, now)
            if arrived and self._tables.free:
                self._spread(arrived.values(), now)
            for worker in freed.values():
                if worker.able and self._queues.busy and self._tables.workers.get(worker.name) is worker:
                    self._fill(worker, now)

    def retry(self, now: float) -> None:
        """Look again at everything that waits, because time alone may have changed the answer."""
        if self._tables.free:
            self._arrived.update(self._queues.busy)
            self.run(now)

    def _spread(self, queues: Iterable[Queue], now: float) -> None:
        """Give newly arrived tasks to the best of the free workers."""
        remaining = [queue for queue in queues if queue.groups]
        while remaining and self._tables.free:
            group = self._next_group(remaining)
            if group is None:
                return
            free = self._free_for(group.queue, now)
            if not free or not self._place_from(group, free, now):
                remaining.remove(group.queue)
            remaining = [queue for queue in remaining if queue.groups]

    def _free_for(self, queue: Queue, now: float) -> list[Worker] | Idle:
        """Return the free workers that could run what waits in a queue."""
        free = self._tables.free
        if len(free) <= self.many:
            self._idle.clear()
            return [worker for name, worker in free.items() if name in queue.able]
        index = self._idle.get(queue.number)
        if index is None:
            if len(self._idle) >= INDEXES:
                self._idle.clear()
            index = self._idle[queue.number] = Idle(queue, free, now)
        return index

    def _fill(self, worker: Worker, now: float) -> None:
        """Give a worker what it can take, then a little ahead."""
        name = worker.name
        queues = [queue for queue in self._queues.busy.values() if name in queue.able]
        while queues and worker.used < worker.slots:
            group = self._next_group(queues)
            if group is None:
                return
            if not self._place_from(group, (worker,), now):
                queues.remove(group.queue)
            queues = [queue for queue in queues if queue.groups]
        if queues and worker.used >= worker.slots:
            self._send_ahead(worker, queues, now)

    def _next_group(self, queues: list[Queue]) -> Group | None:
        """Return the group whose turn it is."""
        if len(queues) == 1 and len(queues[0].groups) == 1:
            return next(iter(queues[0].groups.values()))
        best: Group | None = None
        best_rank: tuple[int, float, int] | None = None
        for queue in queues:
            for group in queue.groups.values():
                top = self._queues.top(group)
                if top is not None:
                    rank = fairness(group, top)
                    if best_rank is None or rank < best_rank:
                        best, best_rank = group, rank
        return best

    def _place_from(self, group: Group, workers: Iterable[Worker] | Idle, now: float) -> bool:
        """Place one task of a group; look past a few that rest from just these workers."""
        skipped: list[tuple[float, int, Task]] = []
        placed = False
        while len(skipped) < LOOK_PAST and (task := self._queues.top(group)) is not None:
            if skipped and skipped[-1][2] is task:
                heapq.heappop(group.heap)  # it left the queue and came back: it is in the heap twice
                continue
            if isinstance(workers, Idle):
                worker = workers.choose(task, now)
            else:
                willing = [w for w in workers if not rests(task, w, now)] if task.avoid else workers
                worker = choose(group.queue.need, willing, now)
            if worker is not None:
                self._send(task, worker, now, ahead=False)
                placed = True
                break
            if not task.avoid:
                break
            skipped.append(heapq.heappop(group.heap))
        for entry in skipped:
            heapq.heappush(group.heap, entry)
        return placed

    def _send(self, task: Task, worker: Worker, now: float, *, ahead: bool) -> None:
        group = self._queues.remove(task)
        self._better(group, task, now)
        task.move(TaskState.RUNNING)
        task.attempt += 1
        task.worker = worker.name
        task.epoch = epoch = self._tables.epoch
        need = task.queue.need
        attempt = Attempt(
            task.key, task.attempt, worker.name, need, now, ahead, epoch=epoch, prompt=not ahead
        )
        task.live = attempt
        session = task.session
        session.running += 1
        if ahead:
            worker.backlog[task.key] = attempt
            self._ahead[task.key] = attempt
        else:
            self._occupy(attempt, worker, now)
        run = Run(
            task.key,
            task.attempt,
            task.name,
            task.action,
            need.cpus,
            need.declared,
            session.name,
            epoch,
        )
        if self._tables.journalled:
            at = now + self._tables.wall_offset
            self._tables.record(
                Started(task.key, task.attempt, worker.name, epoch, at, worker.boot, task.retries)
            )
        self._tables.say(worker.peer, run, now)
        if not ahead:
            self._tell_placed(task, worker, now)

    def _tell_placed(self, task: Task, worker: Worker, now: float) -> None:
        for peer, session, number in self._tables.watchers(task):
            placed = Placed(session, number, task.attempt, worker.name, worker.hostname)
            self._tables.say(peer, placed, now)

    def _occupy(self, attempt: Attempt, worker: Worker, now: float) -> None:
        need = attempt.need
        attempt.backlog = False
        attempt.width = max(worker.slots, need.cpus) if need.exclusive else need.cpus
        if worker.reserved is not None and worker.reserved == need and not attempt.adopted:
            self.unreserve(worker)
        worker.running[attempt.key] = attempt
        worker.used += attempt.width
        worker.gpus_used += need.gpus
        attempt.charge = worker.host.ledger.charge(need.load, need.memory)
        if worker.used >= worker.slots:
            self._tables.free.pop(worker.name, None)

    def _better(self, group: Group, task: Task, now: float) -> None:
        """A group moves again; say so if its client was told that it does not."""
        group.since = now
        if group.notice is not None:
            group.notice = None
            numbers = (task.number, *(other.number for other in self._queues.tasks(group)))
            over = Waiting(group.session.name, numbers, group.queue.need, (), True, True)
            self._tables.say(group.session.peer, over, now)

    # --- sending ahead --------------------------------------------------------------------------------

    def _promote(self, worker: Worker, now: float) -> None:
        """The worker starts the next of what was sent ahead by itself; keep its books."""
        while worker.backlog and worker.used < worker.slots:
            attempt = next(iter(worker.backlog.values()))
            del worker.backlog[attempt.key]
            del self._ahead[attempt.key]
            self._occupy(attempt, worker, now)
            self._tell_placed(self._tables.tasks[attempt.key], worker, now)

    def _send_ahead(self, worker: Worker, queues: list[Queue], now: float) -> None:
        """Send short tasks to a full worker, so that it need not wait for us between two of them."""
        while queues:
            group = self._next_group(queues)
            task = self._queues.top(group) if group is not None else None
            if task is None or len(worker.backlog) >= int(credit(task, worker) * worker.slots):
                return
            if not simple(task) or over_limit(worker, now) is not None:
                return
            if worker.reserved is not None or now < worker.quarantined_until:
                return
            if any(attempt.need.exclusive for attempt in worker.running.values()):
                return
            self._send(task, worker, now, ahead=True)
            queues = [queue for queue in queues if queue.groups]

    @property
    def ahead(self) -> int:
        """Return how many tasks wait at their workers."""
        return len(self._ahead)

    def recall(self, now: float) -> None:
        """Ask for the return of what was sent ahead and still waits there while another worker idles."""
        self._recall_after = now + LONG_S
        places = {name: worker.free for name, worker in self._tables.free.items()}
        for attempt in self._ahead.values():
            if not places or now < attempt.sent_at + LONG_S:
                return
            if attempt.recalled:
                continue
            task = self._tables.tasks[attempt.key]
            for name in places:
                worker = self._tables.free[name]
                if name in task.queue.able and hindrance(attempt.need, worker, now) is None:
                    attempt.recalled = True
                    self.halt(attempt, "recalled", now, unless_begun=True)
                    places[name] -= 1
                    if places[name] == 0:
                        del places[name]
                    break

    def recall_at(self) -> float | None:
        """Return when `recall` may have something to do."""
        if self._tables.free:
            for attempt in self._ahead.values():
                if not attempt.recalled:
                    return max(attempt.sent_at + LONG_S, self._recall_after)
        return None
