"""An observer who sees everything at once, which nobody in the world can, and says when a promise is broken.

*A task's outputs are taken exactly once. A task may be started more than once, never knowingly twice at the
same time. An accepted submission survives the manager. A failure is never reported as success.*
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from computefarm.codec import action_digest
from computefarm.core.beats import RETURN_BEATS
from computefarm.core.commands import Record, Send
from computefarm.core.entries import Ended, Forgotten, JournalEntry, Started, Submitted
from computefarm.messages import (
    Accepted,
    Declined,
    Done,
    Finished,
    FromManager,
    Halt,
    Outcome,
    Register,
    Result,
    Run,
    Settled,
    TaskSpec,
    ToManager,
)

from .disk import keys_of

if TYPE_CHECKING:
    from .clients import ClientNode
    from .lines import Line, Process
    from .managers import ManagerNode
    from .workers import WorkerNode
    from .world import World

KILLERS = 3
"""Losses after which a task may be given up."""

_Task = tuple[int, int]
"""Lineage and key."""


class Violation(AssertionError):
    """A promise was broken."""


class Ran(msgspec.Struct, frozen=True):
    """One end of a command, as the worker that ran it saw it."""

    run: Run
    result: Result
    action: bytes


class Audit:
    """What happened, and what follows from it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.runs: dict[tuple[str, int, int], list[Ran]] = {}
        """By epoch, key and attempt; more than one is a broken promise already."""
        self.made: dict[bytes, Ran] = {}
        """By output."""
        self.specs: dict[tuple[str, int], TaskSpec] = {}
        self.submitted: dict[tuple[str, int], float] = {}
        self.told: dict[tuple[str, int], Done] = {}
        """What each client has heard first."""
        self.users: set[tuple[str, int]] = set()
        """What clients have told their users."""
        self.differing = 0
        """Ends that differ from what the client had heard before, which it ignores."""
        self.keys: dict[tuple[str, int], _Task] = {}
        """What the manager called each client's task when it last spoke of it."""
        self.last: dict[_Task, tuple[str, int]] = {}
        """The attempt that was started last: epoch and number."""
        self.taken: dict[_Task, tuple[str, int]] = {}
        """The result that the manager has recorded last: epoch and number of the attempt."""
        self.ended: set[_Task] = set()
        """Tasks whose result a worker has let go of, because the manager said that it is safe."""
        self.accepted: dict[_Task, tuple[str, int]] = {}
        """Tasks that a client was told are safe."""
        self.forgotten: set[_Task] = set()
        self.names: dict[_Task, tuple[str, int]] = {}
        """Session and number of each key, as the journal has it."""
        self.gone: set[tuple[str, int]] = set()
        """The names of what was forgotten."""
        self.redone: set[_Task] = set()
        """Ended tasks whose outputs were lost with the manager, which must run again."""
        self.adoptable: dict[_Task, tuple[str, int]] = {}
        """What the journal says was running when the present manager started, and it has not started anew."""
        self.sent: dict[_Task, tuple[str, int]] = {}
        """The attempt that a manager has sent last, written down or not: epoch and number."""
        self.held: set[_Task] = set()
        """Tasks that the present manager knows from the journal."""
        self.held_until = 0.0
        """On the manager's clock: when it may start those, for until then workers tell what they run."""
        self.offered: set[_Task] = set()
        """What workers have told the present manager they have in hand."""
        self.cancelled: set[tuple[str, int]] = set()
        self.halted: set[tuple[int, int, int]] = set()
        self.lineages: dict[str, int] = {}
        """By epoch."""
        self.counts: dict[str, int] = {}

    def demand(self, holds: bool, text: str, *values: object) -> None:
        """Complain unless it holds."""
        if not holds:
            raise Violation(text % values)

    # --- clients

    def submits(self, client: ClientNode, spec: TaskSpec) -> None:
        """A user wants a task."""
        self.specs[client.boot, spec.task] = spec
        self.submitted[client.boot, spec.task] = self.world.now

    def cancels(self, session: str, number: int) -> None:
        """Somebody gives a task up."""
        self.world.tell("user", "cancels task %d of %s", number, session)
        self.cancelled.add((session, number))

    def heard(self, process: Process, message: FromManager) -> None:
        """A message has reached a process."""
        self.world.tell(process.name, "hears %s", message)
        match message:
            case Done():
                name = (message.session, message.task)
                if self.told.setdefault(name, message).result != message.result:
                    self.differing += 1
            case Settled():
                for key, attempt in message.attempts:
                    self._settled(process, message.epoch, key, attempt)
            case Accepted():
                for number in message.tasks:
                    self.accepted[self.keys[message.session, number]] = (message.session, number)

    def tells(self, client: ClientNode, done: Done) -> None:
        """A client takes an end for true."""
        name = (done.session, done.task)
        self.demand(name not in self.users, "task %s of %s ends twice: %s", done.task, done.session, done)
        self.users.add(name)
        self.world.tell(
            client.name, "task %d: %s %s", done.task, done.result.outcome.value, done.result.reason
        )
        self.counts[done.result.outcome] = self.counts.get(done.result.outcome, 0) + 1
        result = done.result
        match result.outcome:
            case Outcome.SUCCEEDED:
                self._success(done, self.specs[name])
            case Outcome.CANCELLED:
                self._cancelled(client, done, self.specs[name])
            case Outcome.LOST:
                losses = sum(past.outcome == "lost" for past in done.attempts)
                self.demand(losses >= KILLERS, "given up after %d losses: %s", losses, done)
            case _ if (said := re.match(r"attempt (\d+)", result.reason)) and not done.cached:
                self.demand(int(said[1]) == done.attempts[-1].attempt, "not the last attempt's: %s", done)
            case _:
                pass

    def _cancelled(self, client: ClientNode, done: Done, spec: TaskSpec) -> None:
        name = (done.session, done.task)
        age = self.world.now - self.submitted[name]
        late = bool(spec.deadline_s) and age > 0.98 * spec.deadline_s
        self.demand(
            late or name in self.cancelled, "nobody cancelled task %s of %s: %s", *reversed(name), done
        )

    def _success(self, done: Done, spec: TaskSpec) -> None:
        self.demand(bool(done.result.outputs), "a success without outputs: %s", done)
        ran = self.made.get(done.result.outputs[0].digest)
        self.demand(ran is not None, "outputs that nobody made: %s", done)
        assert ran is not None
        self.demand(ran.result.outcome is Outcome.SUCCEEDED, "a failure reported as success: %s", done)
        self.demand(ran.action == action_digest(spec.action), "the outputs of another task: %s", done)
        if not done.cached:
            last = done.attempts[-1]
            self.demand(last.outcome == "succeeded", "a success without a successful attempt: %s", done)
            self.demand(
                last.attempt == ran.run.attempt,
                "the outputs of attempt %d were taken as those of attempt %d: %s", ran.run.attempt, last.attempt, done,
            )  # fmt: skip

    def lost_outputs(self, client: ClientNode, done: Done) -> None:
        """The manager has said that a task succeeded and cannot deliver its outputs."""
        self.world.tell(client.name, "task %d: the outputs are lost; anew", done.task)
        kinds = self.world.faults.kinds
        self.demand(bool(kinds & {"blobs", "power"}), "a success without its outputs: %s", done)

    # --- workers

    def _settled(self, process: Process, epoch: str, key: int, attempt: int) -> None:
        """A worker lets go of a result: when it was the one taken, the task must never run again."""
        epoch = epoch or self.world.manager.epoch
        lineage = self.lineages.get(epoch)
        if lineage is not None and self.taken.get((lineage, key)) == (epoch, attempt):
            self.ended.add((lineage, key))

    def takes(self, worker: WorkerNode, run: Run) -> None:
        """A worker takes an attempt in hand, beside others that may be orphans of an earlier manager."""
        held = sum(execution.run.cpus for execution in worker.hands.values())
        room = worker.slots + worker.session._room.ahead
        self.demand(not held or held + run.cpus <= room, "%s is overfull: %d and %s", worker.name, held, run)

    def begins(self, worker: WorkerNode, run: Run) -> None:
        """A command is started."""
        self.world.tell(worker.name, "runs attempt %d of %d (%s)", run.attempt, run.key, run.epoch)
        running = [each.run.cpus for each in worker.hands.values() if each.running]
        fits = sum(running) <= worker.slots or len(running) == 1
        self.demand(fits, "%s has %d slots and runs %s", worker.name, worker.slots, running)

    def ran(self, worker: WorkerNode, run: Run, result: Result) -> None:
        """A command has ended."""
        self.world.tell(worker.name, "attempt %d of %d ends: %s", run.attempt, run.key, result.outcome.value)
        ran = Ran(run, result, action_digest(run.action))
        self.runs.setdefault((run.epoch, run.key, run.attempt), []).append(ran)
        for entry in result.outputs:
            self.made[entry.digest] = ran

    # --- the manager

    def told_manager(self, line: Line, message: ToManager) -> None:
        """A message has reached the manager."""
        self.world.tell("manager", "hears of %s: %s", line.process.name, message)
        if isinstance(message, Finished | Declined):
            self.adoptable.pop((self.world.manager.lineages, message.key), None)
        elif isinstance(message, Register):
            # Adopted when it was told of first; after that it may be given up like any other.
            for task in [(self.world.manager.lineages, held.key) for held in message.running]:
                if task in self.offered:
                    self.adoptable.pop(task, None)
                self.offered.add(task)

    def decided(self, manager: ManagerNode, command: Send) -> None:
        """The manager means to say something."""
        message = command.message
        self.world.tell("manager", "to %s (after %d): %s", command.peer, command.after, message)
        lineage = manager.lineages
        match message:
            case Run():
                self.lineages[message.epoch] = lineage
                self._starts(manager, message)
            case Halt():
                self._halts(manager, message)
            case Done():
                session = manager.core._tables.sessions[message.session]
                self.keys[message.session, message.task] = (lineage, session.tasks[message.task])
            case Accepted():
                session = manager.core._tables.sessions[message.session]
                for number in message.tasks:
                    self.keys[message.session, number] = (lineage, session.tasks[number])

    def _halts(self, manager: ManagerNode, message: Halt) -> None:
        """Complain when a new manager ends what it should have adopted."""
        lineage = manager.lineages
        self.halted.add((lineage, message.key, message.attempt))
        task = manager.core._tables.tasks.get(message.key)
        if task is None or task.cancelled is not None or message.unless_begun:
            return
        known = self.adoptable.get((lineage, message.key))
        self.demand(
            known != (message.epoch or manager.epoch, message.attempt) or task.done is not None,
            "a running attempt was not adopted: %s", message,
        )  # fmt: skip

    def _starts(self, manager: ManagerNode, message: Run) -> None:
        """Complain when a task is started that has ended, or that still runs on a worker in touch."""
        lineage = manager.lineages
        task = (lineage, message.key)
        self.adoptable.pop(task, None)
        self.demand(task not in self.ended, "a finished task runs again: %s", message)
        early = task in self.held and manager.now < self.held_until
        self.demand(not early, "started before its worker could come back with it: %s", message)
        self.sent[task] = (message.epoch, message.attempt)
        for worker in self.world.workers:
            known = manager.core._tables.workers.get(worker.name)
            if not worker.alive or worker.line is None or known is None:
                continue
            if not known.peer or known.peer != worker.line.peer:
                continue
            for execution in worker.hands.values():
                run = execution.run
                if run.key == message.key and self.lineages[run.epoch] == lineage:
                    self.demand(
                        (lineage, run.key, run.attempt) in self.halted,
                        "%s still runs attempt %d of %d: %s", worker.name, run.attempt, run.key, message,
                    )  # fmt: skip

    def records(self, manager: ManagerNode, record: Record) -> None:
        """The manager writes something down."""
        self.world.tell("manager", "records %s", record)
        entry, lineage = record.entry, manager.lineages
        if isinstance(entry, Submitted):
            self.names[lineage, entry.key] = (entry.session, entry.spec.task)
        elif isinstance(entry, Forgotten):
            self.forgotten.update((lineage, key) for key in entry.keys)
            self.gone.update(self.names[lineage, key] for key in entry.keys if (lineage, key) in self.names)
        elif isinstance(entry, Started):
            self.last[lineage, entry.key] = (entry.epoch, entry.attempt)
        elif isinstance(entry, Ended) and (last := self.last.get((lineage, entry.key))) is not None:
            done = entry.done
            by_itself = done.result.outcome in (Outcome.SUCCEEDED, Outcome.FAILED, Outcome.TIMEOUT)
            if by_itself and done.attempts and done.attempts[-1].attempt == last[1] and not done.cached:
                self.taken[lineage, entry.key] = last

    def lost(self, manager: ManagerNode, entries: list[JournalEntry]) -> None:
        """A crash took entries that were not synced: what they said is not so."""
        for entry in entries:
            for key in keys_of(entry):
                task = (manager.lineages, key)
                if isinstance(entry, Forgotten):
                    self.forgotten.discard(task)
                    self.gone.discard(self.names.get(task, ("", 0)))
                elif isinstance(entry, Started):
                    self.last.pop(task, None)
                elif isinstance(entry, Ended | Submitted):
                    self.taken.pop(task, None)
                    if isinstance(entry, Submitted):
                        self.sent.pop(task, None)

    def restored(self, manager: ManagerNode, survived: list[JournalEntry]) -> None:
        """A new manager has read the journal: what was promised must be there."""
        lineage = manager.lineages
        known = {key for entry in survived for key in keys_of(entry)}
        self.offered.clear()
        started = {entry.key: entry for entry in survived if isinstance(entry, Started)}
        for entry in survived:
            if isinstance(entry, Ended):
                started.pop(entry.key, None)
        self.adoptable = {(lineage, key): (entry.epoch, entry.attempt) for key, entry in started.items()}
        self._unwritten(manager)
        self._ends(manager, survived)
        # By name, for two tasks that share a run may exchange their keys.
        here = {(task.session.name, task.number) for task in manager.core._tables.tasks.values()}
        for task, (session, number) in self.accepted.items():
            key = task[1]
            if task[0] == lineage and (session, number) not in self.gone:
                self.demand((session, number) in here, "task %d of %s was accepted and is lost%s", number, session,
                            "" if key in known else " from the journal")  # fmt: skip

    def _unwritten(self, manager: ManagerNode) -> None:
        """Attempts whose starts were lost with the journal's tail must be adopted as well."""
        self.held_until = manager.now + RETURN_BEATS * 2.0
        tables, lineage = manager.core._tables, manager.lineages
        self.held = {(lineage, key) for key in tables.tasks}
        for key, task in tables.tasks.items():
            self.names[lineage, key] = (task.session.name, task.number)  # an exchange may have been lost
            epoch, attempt = self.sent.get((lineage, key), ("", 0))
            if attempt > task.attempt and epoch in tables.epochs and not task.leader:
                self.adoptable[lineage, key] = (epoch, attempt)

    def _ends(self, manager: ManagerNode, survived: list[JournalEntry]) -> None:
        """Complain of a second end, unless the outputs of the first were found to be lost at some restart."""
        ended: dict[int, Ended] = {}
        for entry in survived:
            if isinstance(entry, Ended):
                allowed = entry.key not in ended or (manager.lineages, entry.key) in self.redone
                self.demand(allowed, "the journal has two ends of task %d", entry.key)
                ended[entry.key] = entry
        for key, entry in ended.items():
            if any(output.digest not in manager.blobs for output in entry.done.result.outputs):
                self.redone.add((manager.lineages, key))
                self.ended.discard((manager.lineages, key))
                self.taken.pop((manager.lineages, key), None)
