"""What clients take back: cancelled tasks, shared runs left to others, results taken, deadlines."""

from __future__ import annotations

from computefarm.messages import TaskSpec

from .accept import Accept
from .dispatch import Dispatch
from .endings import Endings
from .entries import Cancelled, Submitted
from .state import Session, Task, TaskState
from .tables import Tables
from .wants import Wants


class Withdrawals:
    """Takes tasks out again, without disturbing those that share their runs."""

    def __init__(
        self, tables: Tables, dispatch: Dispatch, wants: Wants, endings: Endings, accept: Accept
    ) -> None:
        self._tables = tables
        self._dispatch = dispatch
        self._wants = wants
        self._endings = endings
        self._accept = accept

    def cancel(self, task: Task, reason: str, now: float, *, overdue: bool = False) -> bool:
        """Nobody wants this task any more, or (`overdue`) its deadline has passed; tell whether it was news.

        A run that others share goes on for them.
        """
        if task.state is TaskState.ENDED or task.cancelled is not None:
            return False
        task = self.detach(task, now)
        task.cancelled = reason
        if overdue:
            self._tables.overdue.add(task.key)
        self._endings.unmerge(task)
        attempt = task.live
        if task.leader or attempt is None:
            task.leader = 0
            self._endings.end_cancelled(task, now)
        elif attempt.result is not None:
            self._accept.conclude(task, attempt, attempt.result, now)
        elif not attempt.halted:
            attempt.halted = True
            self._dispatch.halt(attempt, reason or "cancelled", now)
            if self._tables.journalled:
                self._tables.record(Cancelled((task.key,), reason), urgent=True)
        return True

    def detach(self, task: Task, now: float) -> Task:
        """Make `task`'s submission stand alone; return the entry it stands in now.

        One that follows another stops doing so. One that others follow leaves them the run: the entry keeps
        its key and attempt but takes the first follower's identity, whose entry takes this one's.
        """
        if task.leader:
            followers = self._tables.tasks[task.leader].followers
            assert followers is not None
            followers.remove(task.key)
            return task
        if not task.followers:
            return task
        heir = self._tables.tasks[task.followers.pop(0)]
        queued = task.queued
        if queued:
            self._dispatch.withdraw(task)
        if task.live is not None:
            task.session.running -= 1
            heir.session.running += 1
        for field in ("number", "name", "session", "queue", "kind", "priority", "retries", "queued_at"):
            mine, theirs = getattr(task, field), getattr(heir, field)
            setattr(task, field, theirs)
            setattr(heir, field, mine)
        self._tables.deadlines.swap(task.key, heir.key)
        for entry in (task, heir):
            entry.session.tasks[entry.number] = entry.key
            self._write_down(entry, now)
        if queued:
            self._dispatch.enter(task, now)
        if task.lacking:
            self._wants.moved()
        return heir

    def taken(self, session: Session, numbers: tuple[int, ...], now: float) -> None:
        """The client has these results: forget the tasks.

        It may have one that we do not know of any more, for we were started again just after we had passed it
        on: then nobody needs another.
        """
        for number in numbers:
            key = session.tasks.get(number)
            if key is None:
                continue
            task = self._tables.tasks[key]
            if task.state is TaskState.ENDED:
                self._endings.forget(task)
            else:
                self.cancel(task, "its client has the result already", now)

    def expire(self, now: float) -> None:
        """End what has a deadline that has passed."""
        for key in self._tables.deadlines.due(now):
            task = self._tables.tasks.get(key)
            if task is not None:
                self.cancel(task, f"deadline passed before {task.name} had ended", now, overdue=True)

    def _write_down(self, task: Task, now: float) -> None:
        """Have the journal know what was submitted, as it stands in the tables now."""
        if not self._tables.journalled:
            return
        deadline = self._tables.deadlines.get(task.key)
        spec = TaskSpec(
            task.number,
            task.name,
            0,
            task.action,
            task.priority,
            task.retries,
            read_cache=task.read_cache,
            write_cache=task.write_cache,
            kind=task.kind.name,
            deadline_s=0.0 if deadline is None else max(0.001, deadline - now),
        )
        session = task.session
        at = now + self._tables.wall_offset
        need = task.queue.need
        epoch = self._tables.epoch
        entry = Submitted(task.key, session.name, session.owner, spec, need, at, session.lease_s, epoch)
        self._tables.record(entry, urgent=True)
