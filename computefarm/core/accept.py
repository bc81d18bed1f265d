"""What comes back from workers: results, refusals, losses, and what each kind of failure leads to."""

from __future__ import annotations

import msgspec

from computefarm.codec import decode_action
from computefarm.messages import Attempt as Past
from computefarm.messages import (
    Declined,
    Digest,
    Finished,
    Outcome,
    Result,
    Settled,
    TaskKey,
)

from .ahead import measure
from .commands import Keep, PeerId
from .dispatch import Dispatch
from .endings import Endings
from .failures import KILLERS, LOSSES, acquitted, honest, hopeless, of_kind, out_of_memory, tail_of
from .outputs import stray_output
from .quarantine import Quarantine
from .state import Attempt, Avoidance, Task, TaskState, Withdrawn, Worker
from .tables import Tables
from .wants import Wants

REST_S = 1.0
"""How long a task rests from a worker that declined it, the first time; then twice as long each time."""

REST_MAX_S = 60.0

ENDS = (Outcome.SUCCEEDED, Outcome.FAILED, Outcome.TIMEOUT)
"""What an attempt can come to by itself."""

WORKERS_OWN = ("missing-tool", "preparation")
"""Kinds of refusals that look like the worker's doing."""


class Accept:
    """Takes what comes back from workers and settles tasks."""

    def __init__(
        self, tables: Tables, dispatch: Dispatch, wants: Wants, endings: Endings, quarantine: Quarantine
    ) -> None:
        self._tables = tables
        self._dispatch = dispatch
        self._wants = wants
        self._endings = endings
        self._quarantine = quarantine

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
        result = honest(message.result)
        measure(attempt, worker, result.run_s, now)
        if result.outputs and (stray := stray_output(result.outputs, decode_action(task.action).outputs)):
            # None of it is kept: what else is in this result nobody should want to know.
            text = f"the worker sent what it must not: {stray}"
            self._tables.oddities.append((worker.peer, text))
            result = Result(Outcome.FAILED, reason=text, kind="output")
        if task.cancelled is None and result.outcome is Outcome.SUCCEEDED:
            missing = self._wants.missing(entry.digest for entry in result.outputs)
            if missing:
                self._dispatch.vacate(attempt, now)
                attempt.result = result
                worker.ended[task.key] = attempt
                self._wants.wait(task, missing)
                return
        self.conclude(task, attempt, result, now)

    def complete(self, task: Task, now: float) -> None:
        """All outputs of a success have arrived."""
        attempt = task.live
        assert attempt is not None
        assert attempt.result is not None
        gone = self._wants.missing(entry.digest for entry in attempt.result.outputs)
        if gone:  # one that was here has been damaged meanwhile
            self._wants.wait(task, gone)
            return
        self.conclude(task, attempt, attempt.result, now)

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
        if attempt.begun or message.kind in ("missing-tool", "disk-full"):
            outcome = "lost" if attempt.begun else "declined"
            run_s = now - attempt.sent_at
            self._remember(task, attempt, worker, outcome, message.reason, run_s, message.kind)
        if task.cancelled is not None:
            self._endings.end_cancelled(task, now)
            return
        if attempt.begun and (text := hopeless(task)) is not None:
            # Whatever ends it on its worker each time, its own doing perhaps, will do so for ever.
            self._give_up(task, f"{text}: {message.reason}", worker, now)
            return
        absent = set(message.absent)
        lost = self._wants.missing(d for d in self._wants.digests(task) if d in absent) if absent else []
        if lost:
            task.move(TaskState.WAITING)
            self._wants.wait(task, lost)
            return
        if not attempt.recalled:
            self._avoid(task, worker.name, message.reason, now)
        if message.kind:
            self._refused(task, worker, message, now)
        else:
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
            self._remember(task, attempt, worker, "lost", reason, now - attempt.sent_at, "worker-lost")
            process = f"{worker.name}/{worker.boot}"
            if blame and process not in task.killers:
                task.killers += (process,)
        if task.cancelled is not None:
            self._endings.end_cancelled(task, now)
        else:
            self._again_or_never(task, reason, worker, now)

    def give_back(self, attempt: Attempt, now: float) -> None:
        """An attempt turned out never to have reached its worker, or to have been dropped there."""
        task = self._tables.tasks[attempt.key]
        self._wants.forget(task)
        self._dispatch.release(attempt, now)
        if task.cancelled is not None:
            self._endings.end_cancelled(task, now)
        else:
            self._dispatch.requeue(task, now)

    # --- which attempt is meant -----------------------------------------------------------------------

    def current(self, live: Attempt, worker: Worker, attempt: int, epoch: str) -> bool:
        """Return whether a worker that speaks of `attempt` means the live one; an empty epoch is ours."""
        return (
            live.attempt == attempt
            and live.worker == worker.name
            and live.epoch == (epoch or self._tables.epoch)
        )

    def adoptable(self, task: Task, worker: Worker, attempt: int, epoch: str) -> bool:
        """Return whether this is the task's last attempt, given up as lost, with no other in its place.

        An attempt that a manager before sent, and whose start the journal lost, counts as well.
        """
        if self._unwritten(task, attempt, epoch):
            return True
        # It waits in its queue, or for an input that was lost meanwhile, which this attempt needs no more.
        waits = task.state is TaskState.WAITING and task.live is None and not task.leader
        if not waits or (task.attempt, task.worker, task.epoch) != (attempt, worker.name, epoch):
            return False
        settled = task.past and task.past[-1].attempt == attempt and task.past[-1].outcome != "lost"
        return not settled

    def adopt(self, task: Task, worker: Worker, attempt: int, epoch: str, now: float) -> None:
        """Take an adoptable attempt as running after all."""
        if task.live is not None:  # an earlier one, whose worker has not come back
            self._dispatch.release(task.live, now)
            task.move(TaskState.WAITING)
        if task.past and task.past[-1].attempt == attempt:
            task.past = task.past[:-1]
            task.killers = acquitted(task, worker.name)
        task.attempt, task.worker, task.epoch = attempt, worker.name, epoch
        task.looking = False
        self._wants.forget(task)
        self._dispatch.adopt(task, worker, now)

    def _unwritten(self, task: Task, attempt: int, epoch: str) -> bool:
        """Return whether a manager that knew `task` by this key started an attempt that the journal lacks."""
        if attempt <= task.attempt or task.leader or task.cancelled is not None:
            return False
        if not 0 < task.known_since <= self._tables.epochs.get(epoch, 0):
            return False
        live = task.live
        if live is None:
            return task.state is TaskState.WAITING
        return live.result is None and not self._tables.workers[live.worker].peer

    def _expected(self, worker: Worker, key: TaskKey, attempt: int, epoch: str, now: float) -> Task | None:
        """Return the task whose present attempt this is; an attempt given up but not replaced yet counts."""
        task = self._tables.tasks.get(key)
        if task is None:
            return None
        epoch = epoch or self._tables.epoch
        if (task.live is None or task.known_since) and self.adoptable(task, worker, attempt, epoch):
            self.adopt(task, worker, attempt, epoch, now)
        live = task.live
        return task if live is not None and self.current(live, worker, attempt, epoch) else None

    # --- results --------------------------------------------------------------------------------------

    def conclude(self, task: Task, attempt: Attempt, result: Result, now: float) -> None:
        """Take the result of a task's own attempt, or try once more."""
        worker = self._tables.workers[attempt.worker]
        self._wants.forget(task)
        self._dispatch.release(attempt, now)
        self._take(task, attempt, worker, result, now)
        self._settle(worker.peer, attempt.key, attempt.attempt, attempt.epoch, now)

    def _take(self, task: Task, attempt: Attempt, worker: Worker, result: Result, now: float) -> None:
        if task.cancelled is None and result.outcome not in ENDS:
            # Ended there, by a Halt that came too late for the attempt to be ours again, or with the worker.
            self._remember(task, attempt, worker, "lost", result.reason, result.run_s, result.kind)
            self._again_or_never(task, result.reason, worker, now)
            return
        won = result.outcome is Outcome.SUCCEEDED
        tail = "" if won else tail_of(result)
        self._remember(
            task, attempt, worker, result.outcome.value, result.reason, result.run_s, result.kind, tail
        )
        if task.cancelled is not None:
            self._endings.end_cancelled(task, now, worker=worker, started_at=attempt.sent_at)
            return
        if won:
            worker.done += 1
            task.kind.learn(result.run_s, worker.name, now)
            if worker.strikes or worker.relapses:
                self._quarantine.cleared(worker)
            if task.write_cache:
                self._tables.do(Keep(task.digest, result))
        elif self._once_more(task, attempt, worker, result, now):
            return
        elif result.kind == "out-of-memory":
            result = out_of_memory(result, self._why_no_bigger(task, worker))
        self._endings.end(task, result, now, worker=worker, started_at=attempt.sent_at)

    def _once_more(self, task: Task, attempt: Attempt, worker: Worker, result: Result, now: float) -> bool:
        """See to a failed attempt; return whether that has settled what becomes of its task."""
        if result.kind in ("missing-tool", "disk-full"):
            self._refused(task, worker, result, now, attempt.sent_at)
            return True
        worker.failed += 1
        reason = result.reason or result.kind or result.outcome.value
        self._quarantine.failed(worker, task, f"{task.name}: {reason}", now, own=False)
        if result.kind == "out-of-memory" and self._bigger(task, worker):
            # How much it needs is not known, only that it is more than was there: it gets a worker that has
            # more, nearly to itself.
            need = msgspec.structs.replace(task.queue.need, memory=worker.memory + 1)
            task.queue.tasks -= 1
            task.queue = self._tables.queue(need)
            task.queue.tasks += 1
        elif result.outcome in (Outcome.FAILED, Outcome.TIMEOUT) and task.retries > 0:
            task.retries -= 1
        else:
            return False
        self._dispatch.requeue(task, now)
        return True

    def _bigger(self, task: Task, worker: Worker) -> bool:
        """Return whether a task that ran out of memory is worth another attempt elsewhere."""
        if not task.queue.need.declared or not worker.memory or len(of_kind(task.past, "out-of-memory")) > 1:
            return False
        return any(other.memory > worker.memory for other in task.queue.able.values())

    def _why_no_bigger(self, task: Task, worker: Worker) -> str:
        if not task.queue.need.declared:
            return "declare its memory to have it tried again on a bigger host"
        if len(of_kind(task.past, "out-of-memory")) > 1:
            return "twice, on a bigger host too"
        return f"no worker that offers {task.queue.need.capability} has more memory than {worker.name}"

    # --- refusals with a kind -------------------------------------------------------------------------

    def _refused(
        self,
        task: Task,
        worker: Worker,
        why: Result | Declined,
        now: float,
        started_at: float | None = None,
    ) -> None:
        """A worker could not do what it offers: see to the worker, and let the task go elsewhere at no cost.

        But what fails so on several workers is the task's doing, and ends it.
        """
        text = f"{task.name}: {why.reason or why.kind}"
        if why.kind == "disk-full":
            self._quarantine.rest(worker, f"its disk is full ({text})", now)
        elif why.kind in WORKERS_OWN:
            self._quarantine.failed(worker, task, text, now, own=True)
        tried = of_kind(task.past, why.kind)
        if why.kind == "missing-tool":
            hopeless_now = not self._without_tool(task, worker, text, tried)
        elif why.kind == "preparation":
            hopeless_now = sum(rest.times for rest in (task.avoid or {}).values()) >= LOSSES
        else:
            hopeless_now = len(tried) >= KILLERS
        if not hopeless_now:
            self._dispatch.requeue(task, now)
            return
        places = ", ".join(sorted({past.hostname or past.worker for past in tried} or {worker.hostname}))
        result = why if isinstance(why, Result) else Result(Outcome.FAILED)
        reason = f"{why.reason or why.kind} (on {places})"
        result = msgspec.structs.replace(result, outcome=Outcome.FAILED, reason=reason, kind=why.kind)
        self._endings.end(task, result, now, worker=worker, started_at=started_at)

    def _without_tool(self, task: Task, worker: Worker, text: str, tried: list[Past]) -> bool:
        """Take the capability from a worker that lacks a tool of it; return whether to go on elsewhere.

        When nobody has the tool, or several have not, it is one that only this task wants: then whoever lost
        the capability through it gets it back.
        """
        names = {past.worker for past in tried} | {worker.name}
        others = [name for name in task.queue.able if name not in names]
        capability = task.queue.need.capability
        if others and len(names) < KILLERS:
            offer = worker.offers.pop(capability, None)
            if offer is not None:
                worker.withdrawn[capability] = Withdrawn(offer, task.key, text)
                self._tables.offer_again(worker)
            return True
        for other in self._tables.workers.values():
            gone = other.withdrawn.get(capability)
            if gone is not None and gone.task == task.key:
                other.offers[capability] = other.withdrawn.pop(capability).offer
                self._tables.offer_again(other)
                self._dispatch.freed(other)
        return False

    def _avoid(self, task: Task, worker: str, reason: str, now: float) -> None:
        if task.avoid is None:
            task.avoid = {}
        times = task.avoid[worker].times + 1 if worker in task.avoid else 1
        until = now + min(REST_MAX_S, REST_S * 2 ** min(times - 1, 10))
        task.avoid[worker] = Avoidance(until, times, reason)

    # --- inside ---------------------------------------------------------------------------------------

    def _again_or_never(self, task: Task, reason: str, worker: Worker, now: float) -> None:
        """Let a task whose attempt was lost wait for another one, unless it has been lost too often."""
        if (text := hopeless(task)) is not None:
            self._give_up(task, f"{text}: {reason}", worker, now)
        else:
            self._dispatch.requeue(task, now)

    def _give_up(self, task: Task, reason: str, worker: Worker, now: float) -> None:
        result = Result(Outcome.LOST, reason=reason, kind="worker-lost")
        self._endings.end(task, result, now, worker=worker)

    def _remember(
        self,
        task: Task,
        attempt: Attempt,
        worker: Worker,
        outcome: str,
        reason: str,
        run_s: float,
        kind: str,
        tail: str = "",
    ) -> None:
        """Keep what became of an attempt, for `why` and `history`."""
        at = attempt.sent_at + self._tables.wall_offset
        name, hostname = worker.name, worker.hostname
        task.past += (Past(attempt.attempt, name, hostname, outcome, reason, at, run_s, kind, tail),)

    def _settle(self, peer: PeerId, key: TaskKey, attempt: int, epoch: str, now: float) -> None:
        """Let a worker forget a result once the journal has it; of a copy, the first may be on its way."""
        settled = Settled(((key, attempt),), "" if epoch == self._tables.epoch else epoch)
        self._tables.say(peer, settled, now, self._tables.promised)
