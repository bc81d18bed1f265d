"""How tasks end, and how they are forgotten."""

from __future__ import annotations

from computefarm.codec import decode_action
from computefarm.messages import Attempt as Past
from computefarm.messages import Done, Outcome, Result

from .commands import Pin, Unpin
from .dispatch import Dispatch
from .entries import Ended
from .state import Task, TaskState, Worker
from .tables import Tables
from .untaken import Untaken
from .wants import Wants

REMEMBERED = 256
"""Ended tasks of one session that `why` still knows."""


class Endings:
    """Ends tasks for good, each with all that share its run."""

    def __init__(self, tables: Tables, dispatch: Dispatch, wants: Wants) -> None:
        self._tables = tables
        self._dispatch = dispatch
        self._wants = wants
        self.untaken = Untaken()

    def end(
        self,
        task: Task,
        result: Result,
        now: float,
        *,
        cached: bool = False,
        worker: Worker | None = None,
        started_at: float | None = None,
    ) -> None:
        """End a task and all that share its run, and say so to each client."""
        followers, task.followers = task.followers, None
        self._dispatch.withdraw(task)
        self._wants.forget(task)
        self.unmerge(task)
        self._end_one(task, result, now, cached, worker, started_at, task.past)
        for key in followers or ():
            follower = self._tables.tasks[key]
            follower.leader = 0
            self._end_one(follower, result, now, True, worker, started_at, task.past)

    def end_cancelled(
        self, task: Task, now: float, *, worker: Worker | None = None, started_at: float | None = None
    ) -> None:
        """End a task that nobody wants any more, or whose deadline has passed."""
        if task.key in self._tables.overdue:
            result = Result(Outcome.FAILED, reason=task.cancelled or "", kind="deadline")
        else:
            result = Result(Outcome.CANCELLED, reason=task.cancelled or "cancelled", kind="cancelled")
        self.end(task, result, now, worker=worker, started_at=started_at)

    def unmerge(self, task: Task) -> None:
        """Let no more identical actions share the run of `task`."""
        if self._tables.by_action.get(task.digest) == task.key:
            del self._tables.by_action[task.digest]

    def unpin_inputs(self, task: Task) -> None:
        """Undo the pin of a task's inputs."""
        inputs = decode_action(task.action).inputs if task.action else ()
        if inputs:
            self._tables.do(Unpin(tuple(entry.digest for entry in inputs)))

    def forget(self, task: Task) -> None:
        """Nobody will ask for this ended task again."""
        session = task.session
        done = task.done
        assert done is not None
        self.untaken.forget(session, done)
        if done.result.outcome is Outcome.SUCCEEDED and done.result.outputs:
            self._tables.do(Unpin(tuple(entry.digest for entry in done.result.outputs)))
        del self._tables.tasks[task.key]
        del session.tasks[task.number]
        if self._tables.journalled:
            self._tables.forgotten.append(task.key)
        session.remembered[task.number] = (task.name, task.past)
        if len(session.remembered) > REMEMBERED:
            del session.remembered[next(iter(session.remembered))]
        if session.closed and not session.tasks:
            self._tables.sessions.pop(session.name, None)

    def _end_one(
        self,
        task: Task,
        result: Result,
        now: float,
        cached: bool,
        worker: Worker | None,
        started_at: float | None,
        past: tuple[Past, ...],
    ) -> None:
        task.move(TaskState.ENDED)
        session = task.session
        if result.outcome is Outcome.SUCCEEDED and result.outputs:
            self._tables.do(Pin(tuple(entry.digest for entry in result.outputs)))
        self.unpin_inputs(task)
        task.action = b""
        task.looking = False
        task.past = past
        task.queue.tasks -= 1
        session.unended -= 1
        if self._tables.deadlines.at or self._tables.overdue:
            self._tables.deadlines.drop(task.key)
            self._tables.overdue.discard(task.key)
        queued_s = max(0.0, (now if started_at is None else started_at) - task.queued_at)
        name, hostname = (worker.name, worker.hostname) if worker is not None else ("", "")
        done = Done(session.name, task.number, result, cached, name, hostname, queued_s, past)
        task.done = self.untaken.keep(session, done)
        if session.closed:
            self.forget(task)
            return
        if self._tables.journalled:
            # The worker holds a result until this is synced. The client need not wait for it: if it is lost,
            # what the client says of the task later tells us that it has the result.
            self._tables.record(Ended(task.key, task.done), urgent=worker is not None)
        self._tables.say(session.peer, done, now)
