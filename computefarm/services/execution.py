"""One worker's attempts in hand: fetch, lay out, run, collect, report.

    start ─▶ fetching ─▶ laying out ─▶ running ─▶ collecting ─▶ ended
                │            │            │
                └── declined ┘            └─ halted: the process tree is ended first

Tiny tasks take the short cut: everything but the process runs on the loop's thread,
because two hand-overs between threads cost more than the work.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from computefarm.codec import decode_action
from computefarm.errors import FarmError, StoreError, TaskError
from computefarm.messages import Digest, Outcome, Piece, Result, Run
from computefarm.sandbox.environment import task_environment
from computefarm.sandbox.pool import SpawnerPool
from computefarm.sandbox.spawner import Ended, Launch, SpawnerDied, Started, Text
from computefarm.store.blobs import BlobStore
from computefarm.store.collect import collect
from computefarm.store.copying import DISK_FULL, is_full
from computefarm.store.layout import PrivateDirs, lay_out
from computefarm.worker_api.contract import TaskContext

from .attempts import Attempt, Execution, with_outcome
from .diagnosis import judge, result_of, with_collected
from .disk import Disk
from .equip import Toolbox
from .failures import Failures, GiveBack
from .folders import outputs_to_prepare
from .memory import MemoryWatch
from .offload import Offload
from .printing import Printing

log = logging.getLogger("computefarm.worker")

INLINE_FILES = 32
INLINE_BYTES = 1024 * 1024
"""Up to this much is laid out on the loop's thread: less than a millisecond of work."""


class Executions:
    """All attempts of one worker. Every method runs on the loop's thread."""

    def __init__(
        self,
        *,
        store: BlobStore,
        directories: PrivateDirs,
        spawner: SpawnerPool,
        died: Callable[[int], None],
        offload: Offload,
        toolbox: Toolbox,
        failures: Failures,
        disk: Disk,
        facts: Mapping[str, str],
        fetch: Callable[[list[tuple[Digest, int | None]]], None],
        begun: Callable[[Attempt], None],
        printed: Callable[[Attempt, tuple[Piece, ...]], None],
        ended: Callable[[Attempt, Result], None],
        declined: Callable[[Attempt, str, tuple[Digest, ...], str], None],
        clock: Callable[[], float],
        printing: Printing | None = None,
    ) -> None:
        self._store = store
        self._directories = directories
        self._spawner = spawner
        self._died = died
        self._offload = offload
        self._toolbox = toolbox
        self._failures = failures
        self._disk = disk
        self._memory = MemoryWatch(spawner, self._exceeded, clock)
        self._facts = dict(facts)
        self._fetch = fetch
        self._begun = begun
        self._printing = printing or Printing(printed, clock)
        self._ended = ended
        self._declined = declined
        self._by_attempt: dict[Attempt, Execution] = {}
        self._by_ticket: dict[int, Execution] = {}
        self._awaiting: dict[Digest, list[Execution]] = {}
        self._tickets = 0

    def __len__(self) -> int:
        return len(self._by_attempt)

    # --- before ---

    def start(self, run: Run) -> None:
        """Take an attempt in hand."""
        try:
            action = decode_action(run.action)
        except FarmError as error:
            self._ended(
                (run.key, run.attempt), Result(Outcome.FAILED, reason=f"the task cannot be read: {error}")
            )
            return
        if refused := self._toolbox.refusal(action, run.cpus):
            log.warning("refused %s of run %s: %s", run.name, run.session, refused)
            self._ended((run.key, run.attempt), Result(Outcome.FAILED, reason=refused, kind="refused"))
            return
        self._tickets += 1
        execution = Execution(run, action, self._tickets)
        self._by_attempt[execution.attempt] = execution
        if not action.inputs:
            self._lay_out(execution)
            return
        # Pinned before the check, so that nothing can be evicted between the two.
        self._store.pin([entry.digest for entry in action.inputs])
        wanted: list[tuple[Digest, int | None]] = []
        for entry in action.inputs:
            if entry.digest in self._store or self._store.refresh(entry.digest):
                continue
            if entry.digest not in execution.missing:
                execution.missing.add(entry.digest)
                execution.bytes_in += entry.size
                self._awaiting.setdefault(entry.digest, []).append(execution)
                wanted.append((entry.digest, entry.size))
        if wanted:
            self._fetch(wanted)
        else:
            self._lay_out(execution)

    def arrived(self, digests: list[Digest]) -> None:
        """Blobs came in: lay out the attempts that waited for nothing else."""
        for digest in digests:
            for execution in self._awaiting.pop(digest, ()):
                execution.missing.discard(digest)
                if not execution.missing and self._by_attempt.get(execution.attempt) is execution:
                    self._lay_out(execution)

    def unavailable(self, digests: list[Digest], why: str) -> None:
        """These could not be fetched: give the attempts back."""
        kind = "preparation"
        if why.startswith(DISK_FULL):
            why, kind = self._disk.full(), "disk-full"
        for digest in digests:
            for execution in self._awaiting.pop(digest, ()):
                if self._by_attempt.get(execution.attempt) is execution:
                    paths = [e.path for e in execution.action.inputs if e.digest == digest]
                    reason = f"input {paths[0]} could not be fetched: {why}"
                    absent = tuple(digests) if kind == "preparation" else ()
                    self._give_back(execution, reason, absent, kind)

    def _lay_out(self, execution: Execution) -> None:
        if execution.halted is not None:
            self._give_back(execution, execution.halted, ())
            return
        inputs = execution.action.inputs
        if len(inputs) <= INLINE_FILES and sum(entry.size for entry in inputs) <= INLINE_BYTES:
            try:
                self._laid_out(execution, self._prepare(execution), None)
            except (FarmError, OSError) as error:
                self._laid_out(execution, None, error)
            return
        self._offload.submit(
            lambda: self._prepare(execution), lambda value, error: self._laid_out(execution, value, error)
        )

    def _prepare(self, execution: Execution) -> str:
        directory = self._directories.take()
        execution.directory = directory
        action = execution.action
        if action.inputs or action.outputs:
            outputs = outputs_to_prepare(action)
            lay_out(self._store, action.inputs, directory, outputs, dirs=self._directories)
        return directory

    def _laid_out(self, execution: Execution, directory: str | None, error: BaseException | None) -> None:
        if error is None and execution.halted is None and directory is not None:
            self._launch(execution, directory)
        elif execution.halted is not None:
            self._give_back(execution, execution.halted, ())
        elif error is not None and is_full(error):
            self._give_back(execution, self._disk.full(), (), "disk-full")
        elif isinstance(error, StoreError):
            gone = tuple(e.digest for e in execution.action.inputs if e.digest not in self._store)
            if gone and execution.bytes_in == 0:
                # Damaged or evicted since it was counted on: fetch it again, once.
                self._again(execution, gone)
            else:
                self._give_back(execution, f"the inputs could not be laid out: {error}", (), "preparation")
        elif isinstance(error, TaskError):
            self._finish(execution, Result(Outcome.FAILED, reason=str(error)))
        elif isinstance(error, OSError):
            self._give_back(execution, f"the task's directory could not be made: {error}", (), "preparation")
        elif error is not None:
            raise error

    def _again(self, execution: Execution, gone: tuple[Digest, ...]) -> None:
        self._remove(execution)
        sizes = {entry.digest: entry.size for entry in execution.action.inputs}
        for digest in gone:
            execution.missing.add(digest)
            execution.bytes_in += sizes[digest]
            self._awaiting.setdefault(digest, []).append(execution)
        self._fetch([(digest, sizes[digest]) for digest in gone])

    # --- during ---

    def _launch(self, execution: Execution, directory: str) -> None:
        run, action = execution.run, execution.action
        facts = {
            **self._facts,
            "CF_TASK": run.name,
            "CF_ATTEMPT": str(run.attempt),
            "CF_RUN": run.session,
            "CF_CPUS": str(run.cpus),
            "CF_CAPABILITY": action.capability,
        }
        env = task_environment(directory, self._toolbox.env(action.capability) + action.env, facts)
        context = TaskContext(directory, cpus=run.cpus, memory=run.memory, cache=self._toolbox.compiled)
        try:
            commands = self._toolbox.plugin(action.capability).commands(action, context)
        except FarmError as error:
            self._finish(execution, Result(Outcome.FAILED, reason=str(error)))
            return
        absent = [path for path in action.host_files if not Path(path).exists()]
        if absent:
            self._give_back(execution, f"host file {absent[0]} is not on this machine", ())
            return
        self._by_ticket[execution.ticket] = execution
        execution.running = True
        self._spawner.launch(
            Launch(
                ticket=execution.ticket,
                commands=commands,
                directory=directory,
                env=env,
                timeout_s=action.timeout_s,
            )
        )

    def halt(self, attempt: Attempt, reason: str) -> None:
        """End an attempt; it is still reported."""
        execution = self._by_attempt.get(attempt)
        if execution is None:
            return
        execution.halted = reason or "cancelled"
        if execution.running:
            self._spawner.halt(execution.ticket)
        elif execution.missing:
            self._give_back(execution, execution.halted, ())

    def recall(self, attempt: Attempt, reason: str) -> None:
        """Give an attempt back if its first command has not been started."""
        execution = self._by_attempt.get(attempt)
        if execution is None or execution.begun:
            return
        if execution.running:
            # Whether it has begun meanwhile only the spawner knows.
            execution.recalled = reason
            self._spawner.recall(execution.ticket)
        else:
            self.halt(attempt, reason)

    def recall_waiting(self, reason: str) -> None:
        """Give back everything whose first command has not been started."""
        for execution in list(self._by_attempt.values()):
            self.recall(execution.attempt, reason)

    def readable(self, fileno: int) -> None:
        """Take what one of the spawners has to tell."""
        try:
            events = self._spawner.receive(fileno)
        except SpawnerDied as death:
            log.error("%s; starting another", death)
            self._died(fileno)
            for ticket in death.tickets:
                execution = self._by_ticket.get(ticket)
                if execution is not None:
                    execution.strays = True
                    self._give_back(execution, "the worker's process spawner was killed", ())
            return
        for event in events:
            execution_of = self._by_ticket.get(event.ticket)
            if execution_of is None:
                continue
            match event:
                case Started():
                    execution_of.begun = True
                    if execution_of.run.memory:
                        self._memory.watch(execution_of)
                    self._begun(execution_of.attempt)
                case Text():
                    self._printing.take(execution_of, event)
                case Ended():
                    self._command_ended(execution_of, event)

    def tick(self, now: float) -> None:
        """Send lines that have waited long enough; look after memory."""
        self._printing.tick(now)
        self._memory.tick(now)

    def next_deadline(self) -> float | None:
        """Return when `tick` is wanted."""
        lines, memory = self._printing.next_deadline(), self._memory.next_deadline()
        return min(lines, memory) if lines is not None and memory is not None else lines or memory

    def _exceeded(self, execution: Execution) -> None:
        """End an attempt that takes much more memory than it declared, while the machine still answers."""
        self._spawner.halt(execution.ticket, 0.0)

    # --- after ---

    def _command_ended(self, execution: Execution, event: Ended) -> None:
        execution.running = False
        if event.halted and not execution.begun:
            reason = execution.halted or execution.recalled or "not started"
            self._give_back(execution, reason, ())
            return
        execution.strays = event.timed_out or event.signal is not None or bool(event.error)
        del self._by_ticket[execution.ticket]
        self._printing.finish(execution)
        verdict = judge(execution.action, event, halted=execution.halted, over=execution.over)
        result = result_of(execution, event, verdict)
        if verdict.outcome is Outcome.FAILED:
            self._failures.examine(execution, event, result, lambda told: self._examined(execution, told))
            return
        outputs = execution.action.outputs
        if verdict.outcome is not Outcome.SUCCEEDED or not outputs:
            self._finish(execution, result)
            return
        directory = execution.directory
        assert directory is not None
        self._offload.submit(
            lambda: collect(directory, outputs, self._store, consume=True),
            lambda value, error: self._collected(execution, result, value, error),
        )

    def _examined(self, execution: Execution, told: Result | GiveBack) -> None:
        if isinstance(told, Result):
            self._finish(execution, told)
        else:
            self._give_back(execution, told.reason, (), told.kind)

    def _collected(
        self, execution: Execution, result: Result, value: Any, error: BaseException | None
    ) -> None:
        if error is not None and is_full(error):
            text = self._disk.full()
            self._finish(execution, with_outcome(result, Outcome.FAILED, text, kind="disk-full"))
        elif isinstance(error, TaskError):
            self._finish(execution, with_outcome(result, Outcome.FAILED, str(error), kind="output"))
        elif isinstance(error, FarmError | OSError):
            self._give_back(execution, f"the outputs could not be kept: {error}", (), "preparation")
        elif error is not None:
            raise error
        else:
            self._finish(execution, with_collected(result, value))

    def _finish(self, execution: Execution, result: Result) -> None:
        if execution.halted is not None and result.outcome is not Outcome.SUCCEEDED:
            result = with_outcome(result, Outcome.CANCELLED, execution.halted, kind="cancelled")
        self._let_go(execution)
        self._ended(execution.attempt, result)
        self._remove(execution)

    def _give_back(
        self, execution: Execution, reason: str, absent: tuple[Digest, ...], kind: str = ""
    ) -> None:
        self._by_ticket.pop(execution.ticket, None)
        self._printing.forget(execution)
        self._let_go(execution)
        self._remove(execution)
        self._declined(execution.attempt, reason, absent, kind)

    def _let_go(self, execution: Execution) -> None:
        del self._by_attempt[execution.attempt]
        if execution.run.memory:
            self._memory.forget(execution)
        if execution.action.inputs:
            self._store.unpin([entry.digest for entry in execution.action.inputs])

    def _remove(self, execution: Execution) -> None:
        directory, execution.directory = execution.directory, None
        if directory is None:
            return
        # A process that outlived its task could still write there: such a directory serves nobody else.
        reuse = execution.halted is None and not execution.strays
        if execution.action.inputs or execution.action.outputs:
            self._offload.submit(lambda: self._directories.remove(directory, reuse=reuse))
        else:
            self._directories.remove(directory, reuse=reuse)

    def close(self) -> None:
        """End everything at once, with nothing left behind."""
        self._spawner.close()
        self._printing.close()
        for execution in list(self._by_attempt.values()):
            if execution.directory is not None:
                self._directories.remove(execution.directory)
