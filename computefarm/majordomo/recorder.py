"""The watcher that keeps a run: its history and the output of its tasks."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from computefarm.core.source import Source
from computefarm.errors import FarmError
from computefarm.home import hostname as this_host
from computefarm.home import private_folder
from computefarm.journal.history import FILE, History, HistoryWriter, Limits, RunRow, TaskRow
from computefarm.logs.farm_log import FarmLog
from computefarm.logs.records import Record
from computefarm.logs.tasklog import TaskLogs, prune, run_folder
from computefarm.messages import LogRecord, Need, Obstacle, Piece

from .reporting import TaskRecord

LINES = 256 * 1024 * 1024
"""Bytes of a run's lines that are kept as records; `logs/` has each task's beginning and end anyway."""


class Recorder:
    """Write `<state>/history.db` and `<state>/runs/<run>/logs/`.

    It comes before any display among the watchers, so that a display can name the log files.
    """

    def __init__(
        self,
        state: Path,
        folder: Path,
        dodo: str,
        *,
        keep: int = 50,
        clock: Callable[[], float] = time.time,
        parser: Callable[[str], str] = lambda _: "",
        capability: Callable[[str], str] = lambda _: "",
    ) -> None:
        """`keep` is the number of runs whose history and logs are kept.

        `parser` and `capability` name those of a task.
        """
        self._parser = parser
        self._capability = capability
        self._placed: dict[str, tuple[str, int]] = {}
        """Where a task runs, and the how-manieth attempt it is."""
        self._lines: FarmLog | None = None
        self._state = state
        self._folder = folder
        self._dodo = dodo
        self._keep = keep
        self._clock = clock
        self._run = ""
        self._logs: TaskLogs | None = None
        self._writer: HistoryWriter | None = None
        self._trouble = ""

    @property
    def trouble(self) -> str:
        """What could not be kept, for people; empty when all is well."""
        parts = (self._logs, self._writer)
        return self._trouble or "; ".join(part.trouble for part in parts if part is not None and part.trouble)

    def log_path(self, name: str) -> Path | None:
        """Return the file with a task's output so far; None when it printed nothing."""
        return self._logs.path(name) if self._logs is not None else None

    def logs_folder(self) -> str:
        """Return the folder of this run's logs; empty when no task has printed anything."""
        folder = self._logs.folder if self._logs is not None else None
        return str(folder) if folder is not None and folder.is_dir() else ""

    def run_started(self, run_id: str, total: int, selected: Sequence[str], backend_name: str) -> None:
        """Open the run's history."""
        try:
            private_folder(self._state)
        except FarmError as error:
            self._trouble = f"this run's history and logs are not kept: {error}"
            return
        self._run = run_id
        self._logs = TaskLogs(run_folder(self._state, run_id))
        self._lines = None
        run = RunRow(
            run=run_id,
            folder=str(self._folder.resolve()),
            dodo=self._dodo,
            farm=backend_name,
            pid=os.getpid(),
            started=self._clock(),
        )
        self._writer = HistoryWriter(self._state / FILE, run, Limits(runs=self._keep))

    def task_queued(self, name: str) -> None:
        """Keep nothing."""

    def task_placed(self, name: str, worker: str, hostname: str, attempt: int) -> None:
        """Separate the output of a further attempt."""
        self._placed[name] = (hostname, attempt)
        if attempt > 1 and self._logs is not None:
            self._logs.heading(name, f"attempt {attempt} on {hostname} ({worker})")

    def task_printed(self, name: str, pieces: Sequence[Piece]) -> None:
        """Keep the output."""
        if self._logs is not None:
            self._logs.write(name, pieces)
            host, attempt = self._placed.get(name, ("", 1))
            self._write_lines(name, host, attempt, pieces)

    def task_ended(self, record: TaskRecord) -> None:
        """Keep the record, and the output that came with it if none came before."""
        if self._logs is None or self._writer is None:
            return
        path = self._logs.path(record.task)
        if path is None and record.log:
            self._logs.write(record.task, record.log)
            self._write_lines(record.task, record.host, record.attempt or 1, record.log)
        self._placed.pop(record.task, None)
        if path is not None or record.log:
            path = self._logs.end(record.task)
        self._writer.add(row_of(record, str(path) if path is not None else ""))

    def tasks_up_to_date(self, tasks: Sequence[tuple[str, str]]) -> None:
        """Keep that they had nothing to do."""
        if self._writer is not None:
            self._writer.add_up_to_date(tasks)

    def held(
        self, names: Sequence[str], need: Need, obstacles: Sequence[Obstacle], offered: bool, ever: bool
    ) -> None:
        """Keep nothing."""

    def note(self, text: str) -> None:
        """Keep nothing."""

    def overheard(self, record: Record, text: str) -> None:
        """Keep it among the lines of the run."""
        if self._logs is not None:
            program = str(record["name"]).rpartition(".")[2]
            told = LogRecord(record["created"], record["level"], record["msg"])
            self._farm_log().reported(record["host"], program, (told,))

    def run_ended(self, exit_code: int) -> None:
        """Close the files; make room when this run has added logs."""
        if self._logs is None or self._writer is None:
            return
        self._logs.close()
        if self._lines is not None:
            self._lines.close()
            if self._lines.fault:
                self._trouble = f"this run's lines are not all kept: {self._lines.fault}"
        self._writer.close(self._clock(), exit_code)
        if self.logs_folder():
            # Without a history nobody knows which runs go on, so their logs stay.
            with contextlib.suppress(FarmError):
                remove_old(self._state, self._keep, History(self._state / FILE).unended())
            prune(self._state, keep=self._run)

    def _write_lines(self, name: str, host: str, attempt: int, pieces: Sequence[Piece]) -> None:
        """Keep the output as records too."""
        source = Source(host or this_host(), self._capability(name), ((self._run, "", name),))
        self._farm_log().output(source, attempt, tuple(pieces))

    def _farm_log(self) -> FarmLog:
        """Return what writes the records, on a thread of its own that begins when there are any."""
        if self._lines is None:
            folder = run_folder(self._state, self._run).parent
            parser = self._parser
            self._lines = FarmLog(
                folder, limit=LINES, alone=True, parser_of=lambda source: parser(source.tasks[0][2])
            )
        return self._lines


def remove_old(state: Path, keep: int, going: Collection[str]) -> list[str]:
    """Remove the logs of all but the newest `keep` runs, never of those that go on; return their names."""
    runs = state / "runs"
    # The name of a run begins with the time.
    names = sorted(folder.name for folder in runs.iterdir()) if runs.is_dir() else []
    removed = [name for name in names[:-keep] if name not in going]
    for name in removed:
        shutil.rmtree(runs / name, ignore_errors=True)
    return removed


def row_of(record: TaskRecord, log_path: str = "") -> TaskRow:
    """Return what history keeps of a record: everything but the output."""
    return TaskRow(
        record.task,
        record.outcome,
        record.capability,
        record.host,
        record.worker,
        record.attempt,
        record.attempts,
        record.cached,
        record.reason,
        record.exit_code,
        record.queued_s,
        record.run_s,
        record.bytes_in,
        record.bytes_out,
        record.started_at,
        record.ended_at,
        record.cpu_s,
        record.peak_memory,
        record.rerun,
        log_path or record.log_path,
        record.others,
        record.kind,
    )
