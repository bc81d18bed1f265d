"""How attempts and tasks end: results, refusals, losses, cancellations."""

from __future__ import annotations

import msgspec

from computefarm.codec import decode_action
from computefarm.messages import Attempt as Past
from computefarm.messages import (
    Declined,
    Digest,
    Done,
    Finished,
    Outcome,
    Result,
    Settled,
    TaskKey,
    TaskSpec,
)

from .commands import Keep, PeerId, Pin, Unpin
from .dispatch import Dispatch
from .entries import Cancelled, Ended, Submitted
from .state import Attempt, Avoidance, Session, Task, TaskState, Worker
from .tables import Tables
from .wants import Wants

KILLERS = 3
"""Different worker processes that may vanish while running a task before it is given up."""

LOSSES = 12
"""Attempts of one task that may vanish, however few the workers were."""

REST_S = 1.0
"""How long a task rests from a worker that declined it, the first time; then twice as long each time."""

REST_MAX_S = 60.0

REMEMBERED = 256
"""Ended tasks of one session that `why` still knows."""


class Accept:
    """Takes what comes back from workers and settles tasks."""

    def __init__(self, tables: Tables, dispatch: Dispatch, wants: Wants) -> None:
        self._tables = tables
        self._dispatch = dispatch
        self._wants = wants

    # --- the worker's word ----------------------------------------------------------------------------

    def finished(self, worker: Worker, message: Finished, now: float) -> None:
        """An attempt ended by itself."""
        task = self._expected(worker, message.key, message.attempt, message.epoch, now)
        if task is None or task.live is None:
            self._settle(worker.peer, message.key, message.attempt, message.epoch, now)
            return
        attempt = task.live
        if attempt.result is not None:
            return  # a copy: its outputs are on their way
        result = _honest(message.result)
        if task.cancelled is None and result.outcome is Outcome.SUCCEEDED:
            missing = self._wants.missing(entry.digest for entry in result.outputs)
            if missing:
                self._dispatch.vacate(attempt, now)
                attempt.result = result
                worker.ended[task.key] = attempt
                self._wants.wait(task, missing)
                return
        self._conclude(task, attempt, result, now)

    def complete(self, task: Task, now: float) -> None:
        """All outputs of a success have arrived."""
        attempt = task.live
        assert attempt is not None
        assert attempt.result is not None
        gone = self._wants.missing(entry.digest for entry in attempt.result.outputs)
        if gone:  # one that was here has been damaged meanwhile
            self._wants.wait(task, gone)
            return
        self._conclude(task, attempt, attempt.result, now)

    def declined(self, worker: Worker, message: Declined, now: float) -> None:
        """An attempt was not started, or given back, through no fault of the task."""
        task = self._tables.tasks.get(message.key)
        attempt = task.live if task is not None else None
        if (
            task is None
            or attempt is None
            or not self.current(attempt, worker, message.attempt, message.epoch)
            or attempt.result is not None
        ):
            return
        self._dispatch.release(attempt, now)
        if attempt.begun:
            run_s = now - attempt.sent_at
            task.past += (self._record(attempt, worker, "lost", message.reason, run_s, now),)
        if task.cancelled is not None:
            self.end(task, self._cancelled(task), now)
            return
        if attempt.begun and (text := _hopeless(task)) is not None:
            # Whatever ends it on its worker each time, its own doing perhaps, will do so for ever.
            self.end(task, Result(Outcome.LOST, reason=f"{text}: {message.reason}"), now, worker=worker)
            return
        absent = set(message.absent)
        lost = self._wants.missing(d for d in self._wants.digests(task) if d in absent) if absent else []
        if lost:
            task.move(TaskState.WAITING)
            self._wants.wait(task, lost)
            return
        if not attempt.recalled:
            self._avoid(task, worker.name, message.reason, now)
        self._dispatch.requeue(task, now)

    def undeliverable(self, worker: Worker, digests: tuple[Digest, ...], now: float) -> None:
        """A worker does not have the outputs it reported."""
        for digest in digests:
            for task in self._wants.waiting_for(digest):
                attempt = task.live
                if attempt is not None and attempt.worker == worker.name:
                    self._settle(worker.peer, attempt.key, attempt.attempt, attempt.epoch, now)
                    self.lost(attempt, "the worker could not deliver its outputs", now, blame=True)

    # --- losses ---------------------------------------------------------------------------------------

    def lost(self, attempt: Attempt, reason: str, now: float, *, blame: bool) -> None:
        """An attempt vanished with its worker; `blame` counts the worker towards the task's limit."""
        task = self._tables.tasks[attempt.key]
        worker = self._tables.workers[attempt.worker]
        self._wants.forget(task)
        waited = attempt.backlog and not attempt.begun
        self._dispatch.release(attempt, now)
        if not waited:
            task.past += (self._record(attempt, worker, "lost", reason, now - attempt.sent_at, now),)
            process = f"{worker.name}/{worker.boot}"
            if blame and process not in task.killers:
                task.killers += (process,)
        if task.cancelled is not None:
            self.end(task, self._cancelled(task), now)
        elif (text := _hopeless(task)) is not None:
            self.end(task, Result(Outcome.LOST, reason=f"{text}: {reason}"), now, worker=worker)
        else:
            self._dispatch.requeue(task, now)

    def give_back(self, attempt: Attempt, now: float) -> None:
        """An attempt turned out never to have reached its worker, or to have been dropped there."""
        task = self._tables.tasks[attempt.key]
        self._wants.forget(task)
        self._dispatch.release(attempt, now)
        if task.cancelled is not None:
            self.end(task, self._cancelled(task), now)
        else:
            self._dispatch.requeue(task, now)

    # --- the client's word ----------------------------------------------------------------------------

    def cancel(self, task: Task, reason: str, now: float) -> None:
        """The client wants this task no more; a run that others share goes on for them."""
        if task.state is TaskState.ENDED or task.cancelled is not None:
            return
        task = self.detach(task, now)
        task.cancelled = reason
        self._unmerge(task)
        attempt = task.live
        if task.leader or attempt is None:
            task.leader = 0
            self.end(task, self._cancelled(task), now)
        elif attempt.result is not None:
            self._conclude(task, attempt, attempt.result, now)
        elif not attempt.halted:
            attempt.halted = True
            self._dispatch.halt(attempt, reason or "cancelled", now)
            if self._tables.journalled:
                self._tables.record(Cancelled((task.key,), reason))

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
        for entry in (task, heir):
            entry.session.tasks[entry.number] = entry.key
            self.write_down(entry, now)
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
                self._forget(task)
            else:
                self.cancel(task, "its client has the result already", now)

    def write_down(self, task: Task, now: float) -> None:
        """Have the journal know what was submitted, as it stands in the tables now."""
        if not self._tables.journalled:
            return
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
        )
        session = task.session
        at = now + self._tables.wall_offset
        need = task.queue.need
        entry = Submitted(task.key, session.name, session.owner, spec, need, at, session.lease_s)
        self._tables.record(entry, urgent=True)

    # --- the end --------------------------------------------------------------------------------------

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
        self._unmerge(task)
        self._end_one(task, result, now, cached, worker, started_at, task.past)
        for key in followers or ():
            follower = self._tables.tasks[key]
            follower.leader = 0
            self._end_one(follower, result, now, True, worker, started_at, task.past)

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
        queued_s = max(0.0, (now if started_at is None else started_at) - task.queued_at)
        name, hostname = (worker.name, worker.hostname) if worker is not None else ("", "")
        task.done = Done(session.name, task.number, result, cached, name, hostname, queued_s, past)
        if session.closed:
            self._forget(task)
            return
        if self._tables.journalled:
            # The worker holds a result until this is synced. The client need not wait for it: if it is lost,
            # what the client says of the task later tells us that it has the result.
            self._tables.record(Ended(task.key, task.done), urgent=worker is not None)
        self._tables.say(session.peer, task.done, now)

    def unpin_inputs(self, task: Task) -> None:
        """Undo the pin of a task's inputs."""
        inputs = decode_action(task.action).inputs if task.action else ()
        if inputs:
            self._tables.do(Unpin(tuple(entry.digest for entry in inputs)))

    # --- inside ---------------------------------------------------------------------------------------

    def _conclude(self, task: Task, attempt: Attempt, result: Result, now: float) -> None:
        """Take the result of a task's own attempt, or try once more."""
        worker = self._tables.workers[attempt.worker]
        self._wants.forget(task)
        self._dispatch.release(attempt, now)
        self._take(task, attempt, worker, result, now)
        self._settle(worker.peer, attempt.key, attempt.attempt, attempt.epoch, now)

    def _take(self, task: Task, attempt: Attempt, worker: Worker, result: Result, now: float) -> None:
        record = self._record(attempt, worker, result.outcome.value, result.reason, result.run_s, now)
        task.past += (record,)
        if task.cancelled is not None:
            self.end(task, self._cancelled(task), now, worker=worker, started_at=attempt.sent_at)
            return
        if result.outcome is Outcome.SUCCEEDED:
            worker.done += 1
            task.kind.learn(result.run_s)
            if task.write_cache:
                self._tables.do(Keep(task.digest, result))
        else:
            worker.failed += 1
            if result.outcome in (Outcome.FAILED, Outcome.TIMEOUT) and task.retries > 0:
                task.retries -= 1
                self._dispatch.requeue(task, now)
                return
        self.end(task, result, now, worker=worker, started_at=attempt.sent_at)

    def _expected(self, worker: Worker, key: TaskKey, attempt: int, epoch: str, now: float) -> Task | None:
        """Return the task whose present attempt this is; an attempt given up but not replaced yet counts."""
        task = self._tables.tasks.get(key)
        if task is None:
            return None
        if task.queued and self.adoptable(task, worker, attempt, epoch or self._tables.epoch):
            self.adopt(task, worker, now)
        live = task.live
        return task if live is not None and self.current(live, worker, attempt, epoch) else None

    def current(self, live: Attempt, worker: Worker, attempt: int, epoch: str) -> bool:
        """Return whether a worker that speaks of `attempt` means the live one; an empty epoch is ours."""
        return (
            live.attempt == attempt
            and live.worker == worker.name
            and live.epoch == (epoch or self._tables.epoch)
        )

    def adoptable(self, task: Task, worker: Worker, attempt: int, epoch: str) -> bool:
        """Return whether this is the task's last attempt, given up as lost, with no other in its place."""
        if not task.queued or (task.attempt, task.worker, task.epoch) != (attempt, worker.name, epoch):
            return False
        settled = task.past and task.past[-1].attempt == attempt and task.past[-1].outcome != "lost"
        return not settled

    def adopt(self, task: Task, worker: Worker, now: float) -> None:
        """Take an attempt that was given up as running after all."""
        if task.past and task.past[-1].attempt == task.attempt:
            task.past = task.past[:-1]
        self._dispatch.adopt(task, worker, now)

    def _record(
        self, attempt: Attempt, worker: Worker, outcome: str, reason: str, run_s: float, now: float
    ) -> Past:
        started_at = attempt.sent_at + self._tables.wall_offset
        return Past(attempt.attempt, worker.name, worker.hostname, outcome, reason, started_at, run_s)

    def _settle(self, peer: PeerId, key: TaskKey, attempt: int, epoch: str, now: float) -> None:
        """Let a worker forget a result once the journal has it; of a copy, the first may be on its way."""
        settled = Settled(((key, attempt),), self._tables.abroad(epoch) if epoch else "")
        self._tables.say(peer, settled, now, self._tables.promised)

    def _cancelled(self, task: Task) -> Result:
        return Result(Outcome.CANCELLED, reason=task.cancelled or "cancelled")

    def _avoid(self, task: Task, worker: str, reason: str, now: float) -> None:
        if task.avoid is None:
            task.avoid = {}
        times = task.avoid[worker].times + 1 if worker in task.avoid else 1
        until = now + min(REST_MAX_S, REST_S * 2 ** min(times - 1, 10))
        task.avoid[worker] = Avoidance(until, times, reason)

    def _unmerge(self, task: Task) -> None:
        if self._tables.by_action.get(task.digest) == task.key:
            del self._tables.by_action[task.digest]

    def _forget(self, task: Task) -> None:
        session = task.session
        done = task.done
        assert done is not None
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


def _hopeless(task: Task) -> str | None:
    """Return why a task is not tried again after yet another loss, or None."""
    if len(task.killers) >= KILLERS:
        names = ", ".join(process.split("/")[0] for process in task.killers)
        return f"lost with {KILLERS} different workers ({names})"
    losses = sum(1 for past in task.past if past.outcome == "lost")
    return f"lost {losses} times" if losses >= LOSSES else None


def _honest(result: Result) -> Result:
    """Return `result`; a success that lacks declared outputs is a failure."""
    if result.outcome is not Outcome.SUCCEEDED or not result.missing:
        return result
    reason = f"declared outputs were not produced: {', '.join(result.missing)}"
    return msgspec.structs.replace(result, outcome=Outcome.FAILED, reason=result.reason or reason)
