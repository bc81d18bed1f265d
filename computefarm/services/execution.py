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
from computefarm.store.collect import Collected, collect
from computefarm.store.layout import PrivateDirs, lay_out
from computefarm.worker_api.contract import CommandPlugin, TaskContext

from .attempts import Attempt, Execution, judge, with_outcome
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
        plugin: Callable[[str], CommandPlugin],
        facts: Mapping[str, str],
        fetch: Callable[[list[tuple[Digest, int | None]]], None],
        begun: Callable[[Attempt], None],
        printed: Callable[[Attempt, tuple[Piece, ...]], None],
        ended: Callable[[Attempt, Result], None],
        declined: Callable[[Attempt, str, tuple[Digest, ...]], None],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._directories = directories
        self._spawner = spawner
        self._died = died
        self._offload = offload
        self._plugin = plugin
        self._facts = dict(facts)
        self._fetch = fetch
        self._begun = begun
        self._printing = Printing(printed, clock)
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
        """The manager cannot deliver these: give the attempts back."""
        for digest in digests:
            for execution in self._awaiting.pop(digest, ()):
                if self._by_attempt.get(execution.attempt) is execution:
                    paths = [e.path for e in execution.action.inputs if e.digest == digest]
                    self._give_back(
                        execution, f"input {paths[0]} could not be fetched: {why}", tuple(digests)
                    )

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
            lay_out(self._store, action.inputs, directory, action.outputs, dirs=self._directories)
        return directory

    def _laid_out(self, execution: Execution, directory: str | None, error: BaseException | None) -> None:
        if error is None and execution.halted is None and directory is not None:
            self._launch(execution, directory)
        elif execution.halted is not None:
            self._give_back(execution, execution.halted, ())
        elif isinstance(error, StoreError):
            gone = tuple(e.digest for e in execution.action.inputs if e.digest not in self._store)
            if gone and execution.bytes_in == 0:
                # Damaged or evicted since it was counted on: fetch it again, once.
                self._again(execution, gone)
            else:
                self._give_back(execution, f"the inputs could not be laid out: {error}", ())
        elif isinstance(error, TaskError):
            self._finish(execution, Result(Outcome.FAILED, reason=str(error)))
        elif isinstance(error, OSError):
            self._give_back(execution, f"the task's directory could not be made: {error}", ())
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
        env = task_environment(directory, action.env, facts)
        context = TaskContext(
            directory=directory,
            cpus=run.cpus,
            memory=run.memory,
        )
        try:
            commands = self._plugin(action.capability).commands(action, context)
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
                    self._begun(execution_of.attempt)
                case Text():
                    self._printing.take(execution_of, event)
                case Ended():
                    self._command_ended(execution_of, event)

    def tick(self, now: float) -> None:
        """Send lines that have waited long enough."""
        self._printing.tick(now)

    def next_deadline(self) -> float | None:
        """Return when lines are to be sent."""
        return self._printing.next_deadline()

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
        outcome, reason = judge(execution, event)
        result = Result(
            outcome=outcome,
            exit_code=event.exit_code,
            signal=event.signal,
            reason=reason,
            run_s=event.run_s,
            cpu_s=event.cpu_s,
            peak_memory=event.peak_memory,
            bytes_in=execution.bytes_in,
            log=execution.log.pieces() if execution.log is not None else (),
        )
        outputs = execution.action.outputs
        if outcome is not Outcome.SUCCEEDED or not outputs:
            self._finish(execution, result)
            return
        directory = execution.directory
        assert directory is not None
        self._offload.submit(
            lambda: collect(directory, outputs, self._store, consume=True),
            lambda value, error: self._collected(execution, result, value, error),
        )

    def _collected(
        self, execution: Execution, result: Result, value: Any, error: BaseException | None
    ) -> None:
        if isinstance(error, TaskError):
            self._finish(execution, with_outcome(result, Outcome.FAILED, str(error)))
        elif isinstance(error, FarmError | OSError):
            self._give_back(execution, f"the outputs could not be kept: {error}", ())
        elif error is not None:
            raise error
        else:
            assert isinstance(value, Collected)
            if value.missing:
                names = ", ".join(value.missing)
                plural = "s were" if len(value.missing) > 1 else " was"
                text = f"declared target{plural} not produced: {names}"
                result = with_outcome(result, Outcome.FAILED, text, missing=value.missing)
            else:
                size = sum(entry.size for entry in value.entries)
                result = with_outcome(result, result.outcome, "", outputs=value.entries, bytes_out=size)
            self._finish(execution, result)

    def _finish(self, execution: Execution, result: Result) -> None:
        if execution.halted is not None and result.outcome is not Outcome.SUCCEEDED:
            result = with_outcome(result, Outcome.CANCELLED, execution.halted)
        self._let_go(execution)
        self._ended(execution.attempt, result)
        self._remove(execution)

    def _give_back(self, execution: Execution, reason: str, absent: tuple[Digest, ...]) -> None:
        self._by_ticket.pop(execution.ticket, None)
        self._printing.forget(execution)
        self._let_go(execution)
        self._remove(execution)
        self._declined(execution.attempt, reason, absent)

    def _let_go(self, execution: Execution) -> None:
        del self._by_attempt[execution.attempt]
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
        for execution in list(self._by_attempt.values()):
            if execution.directory is not None:
                self._directories.remove(execution.directory)
