"""All watchers of a run as one, and the records they are given."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from doit.exceptions import BaseFail
from doit.task import Task

from computefarm.backends.base import Ended
from computefarm.home import hostname
from computefarm.logs.records import Record
from computefarm.messages import Need, Obstacle, Outcome, Piece, Result

from .local import LocalEnded
from .reporting import RunWatcher, TaskRecord

TOGETHER = 256
"""Tasks with nothing to do that are passed on at once."""

TAIL = 64 * 1024
"""Characters of a local task's output that its record carries."""


class Watching:
    """Passes everything on, and remembers which tasks have their record."""

    def __init__(self, watchers: Sequence[RunWatcher]) -> None:
        self._watchers = tuple(watchers)
        self.recorded: set[str] = set()
        self._idle: list[tuple[str, str]] = []
        """Tasks that had nothing to do, not passed on yet."""
        self._host = ""
        self._begun = False

    def started(self, run_id: str, total: int, selected: Sequence[str], backend_name: str) -> None:
        """Pass it on."""
        self.flush()
        self._begun = True
        for watcher in self._watchers:
            watcher.run_started(run_id, total, selected, backend_name)

    def queued(self, name: str) -> None:
        """Pass it on."""
        self.flush()
        for watcher in self._watchers:
            watcher.task_queued(name)

    def placed(self, name: str, worker: str, host: str, attempt: int) -> None:
        """Pass it on."""
        self.flush()
        for watcher in self._watchers:
            watcher.task_placed(name, worker, host, attempt)

    def printed(self, name: str, pieces: Sequence[Piece]) -> None:
        """Pass it on."""
        self.flush()
        for watcher in self._watchers:
            watcher.task_printed(name, pieces)

    def held(
        self, names: Sequence[str], need: Need, obstacles: Sequence[Obstacle], offered: bool, ever: bool
    ) -> None:
        """Pass it on."""
        self.flush()
        for watcher in self._watchers:
            watcher.held(names, need, obstacles, offered, ever)

    def note(self, text: str) -> None:
        """Pass it on."""
        self.flush()
        for watcher in self._watchers:
            watcher.note(text)

    def overheard(self, record: Record, text: str) -> None:
        """Pass it on."""
        self.flush()
        for watcher in self._watchers:
            watcher.overheard(record, text)

    def ended(self, record: TaskRecord) -> None:
        """Pass it on, once per task."""
        if record.task in self.recorded:
            return
        self.recorded.add(record.task)
        self.flush()
        for watcher in self._watchers:
            watcher.task_ended(record)

    def run_ended(self, exit_code: int) -> None:
        """Pass it on, unless the run never began."""
        self.flush()
        for watcher in self._watchers if self._begun else ():
            watcher.run_ended(exit_code)

    @property
    def trouble(self) -> str:
        """What a watcher could not keep, for people; known when the run has ended."""
        told = (str(getattr(watcher, "trouble", "")) for watcher in self._watchers)
        return "; ".join(filter(None, told))

    # --- records --------------------------------------------------------------------------------------

    def up_to_date(self, name: str, capability: str = "") -> None:
        """Record a task that had nothing to do."""
        if name not in self.recorded:
            self.recorded.add(name)
            self._idle.append((name, capability))
            if len(self._idle) >= TOGETHER:
                self.flush()

    def flush(self) -> None:
        """Pass on what was kept back; always before anything else is said, so that the order holds."""
        if self._idle:
            idle, self._idle = self._idle, []
            for watcher in self._watchers:
                watcher.tasks_up_to_date(idle)

    def not_run(self, name: str, outcome: Outcome, reason: str, capability: str = "", **more: Any) -> None:
        """Record a task of which no action was started."""
        self.ended(TaskRecord(name, outcome, capability, reason=reason, ended_at=time.time(), **more))

    def local_ended(self, task: Task, done: LocalEnded, fail: BaseFail | None, rerun: Sequence[str]) -> None:
        """Record a local task."""
        self._host = self._host or hostname()
        self.ended(
            TaskRecord(
                task.name,
                Outcome.FAILED if fail else Outcome.SUCCEEDED,
                host=self._host,
                attempt=1,
                reason=fail.message if fail else "",
                run_s=done.run_s,
                started_at=done.started_at,
                ended_at=done.started_at + done.run_s,
                rerun=tuple(rerun),
                log=_local_log(task, fail),
            )
        )

    def farm_ended(
        self,
        name: str,
        capability: str,
        event: Ended,
        outcome: Outcome,
        reason: str,
        rerun: Sequence[str],
        log: Sequence[Piece],
        others: tuple[str, ...] = (),
    ) -> None:
        """Record a farm task; `others` are toolchains that were offered too."""
        result = event.result
        now = time.time()
        self.ended(
            TaskRecord(
                task=name,
                outcome=outcome,
                capability=capability,
                others=others,
                host=event.hostname,
                worker=event.worker,
                attempt=event.attempts[-1].attempt if event.attempts else 0,
                attempts=event.attempts,
                cached=event.cached,
                reason=reason,
                exit_code=result.exit_code,
                queued_s=event.queued_s,
                run_s=result.run_s,
                bytes_in=result.bytes_in,
                bytes_out=result.bytes_out,
                started_at=event.attempts[-1].started_at if event.attempts else 0.0,
                ended_at=now,
                cpu_s=result.cpu_s,
                peak_memory=result.peak_memory,
                rerun=tuple(rerun),
                log=tuple(log),
                kind=_kind(outcome, result),
            )
        )


def _kind(outcome: Outcome, result: Result) -> str:
    """Return the kind of a failure, also of one that only this side sees."""
    if outcome is Outcome.SUCCEEDED:
        return ""
    if outcome is Outcome.CANCELLED:
        return "cancelled"
    return "output" if result.outcome is Outcome.SUCCEEDED else result.kind


def _local_log(task: Task, fail: BaseFail | None) -> tuple[Piece, ...]:
    now = time.time()
    pieces = []
    for action in task.actions:
        pieces += [Piece(1, now, action.out[-TAIL:])] if action.out else []
        pieces += [Piece(2, now, action.err[-TAIL:])] if action.err else []
    if fail is not None and fail.traceback:
        pieces.append(Piece(2, now, "".join(fail.traceback)))
    return tuple(Piece(p.stream, p.created_at, p.text, seq) for seq, p in enumerate(pieces))
