"""What a run shows while it goes on, in plain lines; `live` adds a display at the bottom of a terminal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

import msgspec

from computefarm.logs.records import Record
from computefarm.logs.tasklog import last_lines
from computefarm.messages import Need, Obstacle, Outcome, Piece

from .findings import Findings
from .reporting import TaskRecord
from .summary import FAILURES, Tally, failure_text, held_text, plural, summary

LAST_LINES = 10
"""Lines of output shown with a failure."""
KEPT = 256 * 1024
"""Bytes of one task's output kept for printing; the log file has more."""
FLUSH_S = 0.1

STDERR = 2


class Facts(msgspec.Struct, frozen=True):
    """What a display asks about tasks and the run."""

    title: Callable[[str], str] = lambda name: name
    """How a task is called in lines that mark its start or state."""
    verbosity: Callable[[str], int] = lambda name: 1
    """doit's: 0 shows nothing of a task's output, 1 its stderr, 2 all."""
    log_path: Callable[[str], Path | None] = lambda name: None
    """The file with a task's output."""
    logs: Callable[[], str] = lambda: ""
    """The folder of the run's logs; empty when there is none."""
    parser: Callable[[str], str] = lambda name: ""
    """Which line parser understands a task's output; empty when none does."""


class Quiet:
    """The smallest watcher: nothing but counting. The displays build on it."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.tally = Tally()
        self.total = 0
        self._clock = clock
        self._began = clock()

    def run_started(self, run_id: str, total: int, selected: Sequence[str], backend_name: str) -> None:
        """Begin to measure."""
        self.total = total
        self._began = self._clock()

    def task_queued(self, name: str) -> None:
        """Show nothing."""

    def task_placed(self, name: str, worker: str, hostname: str, attempt: int) -> None:
        """Show nothing."""

    def task_printed(self, name: str, pieces: Sequence[Piece]) -> None:
        """Show nothing."""

    def task_ended(self, record: TaskRecord) -> None:
        """Count."""
        self.tally.add(record)

    def tasks_up_to_date(self, tasks: Sequence[tuple[str, str]]) -> None:
        """Count."""
        self.tally.outcomes[Outcome.UP_TO_DATE] += len(tasks)

    def held(
        self, names: Sequence[str], need: Need, obstacles: Sequence[Obstacle], offered: bool, ever: bool
    ) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""

    def overheard(self, record: Record, text: str) -> None:
        """Show nothing."""

    def run_ended(self, exit_code: int) -> None:
        """Show nothing."""

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return self._clock() - self._began


class PlainProgress(Quiet):
    """One line per event and no cursor codes: for CI, files, pipes and plain terminals.

    `.  name` a task started, `-- name` it was up to date, `=  name` the farm's cache had its result (the
    first two are doit's own marks). A task's output is printed in one block when it ends, below `>> name`:
    nothing of it at verbosity 0, stderr at 1, all at 2. A failure begins with the errors that a line parser
    has found.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        facts: Facts | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(clock=clock)
        self._stream = stream
        self._facts = facts if facts is not None else Facts()
        self._output: dict[str, _Output] = {}
        self._last_started = ""
        self._started: set[str] = set()
        self._held: set[str] = set()
        self._over = threading.Event()
        self._flusher: threading.Thread | None = None

    def run_started(self, run_id: str, total: int, selected: Sequence[str], backend_name: str) -> None:
        """Begin to measure and to flush."""
        super().run_started(run_id, total, selected, backend_name)
        self._flusher = threading.Thread(target=self._flush_on, name="progress", daemon=True)
        self._flusher.start()

    def task_placed(self, name: str, worker: str, hostname: str, attempt: int) -> None:
        """Say that a task started, once; later attempts are said with their place."""
        if name not in self._started:
            self._started.add(name)
            self.mark(". ", name)
            self._last_started = name
        elif attempt > 1:
            self._output.pop(name, None)  # of the attempt before; the log has both
            self.say(f"   {name}: attempt {attempt} on {hostname or 'this machine'} ({worker})")

    def task_printed(self, name: str, pieces: Sequence[Piece]) -> None:
        """Keep output for the end of the task."""
        output = self._output.get(name)
        if output is None:
            output = self._output[name] = _Output(self._facts.parser(name))
        output.add(pieces)

    def task_ended(self, record: TaskRecord) -> None:
        """Say how it ended, with its output."""
        super().task_ended(record)
        outcome = record.outcome
        if outcome is Outcome.UP_TO_DATE:
            self.mark("--", record.task)
            return
        if record.cached:
            self.mark("= ", record.task)
            self._last_started = record.task
        elif record.attempt and record.task not in self._started:
            # So short that the farm told of its start and its end at once.
            self.mark(". ", record.task)
            self._last_started = record.task
        output = self._output.pop(record.task, None)
        # A local task that succeeded has printed by itself.
        told = output is None and not record.capability
        if output is None and record.log:
            output = _Output(self._facts.parser(record.task))
            output.add(record.log)
        self._started.discard(record.task)
        for attempt in record.attempts[: None if outcome is Outcome.LOST else -1]:
            where = f"attempt {attempt.attempt} on {attempt.hostname} ({attempt.worker})"
            was = "was lost" if attempt.outcome == Outcome.LOST else attempt.outcome
            self.say(f"   {record.task}: {where} {was}: {attempt.reason or 'no sign of life'}")
        if outcome in FAILURES:
            self._show_failure(record, output)
        elif output is not None:
            self._show_output(record.task, output, 0 if told else self._facts.verbosity(record.task))
        if output is not None:
            self.tally.warn(output.findings.warnings)

    def tasks_up_to_date(self, tasks: Sequence[tuple[str, str]]) -> None:
        """Say so, in one piece."""
        super().tasks_up_to_date(tasks)
        title = self._facts.title
        lines = [f"-- {title(name)}" for name, _ in tasks if not name.startswith("_")]
        if lines:
            self.say("\n".join(lines))

    def held(
        self, names: Sequence[str], need: Need, obstacles: Sequence[Obstacle], offered: bool, ever: bool
    ) -> None:
        """Say why tasks wait, each time the reason changes."""
        text = held_text(names, need, obstacles, offered)
        if text not in self._held:
            self._held.add(text)
            self.say(text)
            self.flush()

    def note(self, text: str) -> None:
        """Say it."""
        self.say(text)

    def overheard(self, record: Record, text: str) -> None:
        """Say it at once."""
        self.say(text)
        self.flush()

    def run_ended(self, exit_code: int) -> None:
        """Say the summary."""
        self._over.set()
        self._held.clear()
        for line in summary(self.tally, self.elapsed, exit_code, self._facts.logs()):
            self.say(line)
        self.flush()

    def mark(self, sign: str, name: str) -> None:
        """Print one of doit's marks; like doit, keep quiet about private tasks."""
        if not name.startswith("_"):
            self.say(f"{sign} {self._facts.title(name)}")

    def say(self, line: str) -> None:
        """Print one line; a reader that has gone away is no reason to stop the run."""
        try:
            self._stream.write(line + "\n")
        except (OSError, ValueError):
            self._over.set()

    def flush(self) -> None:
        """Let everything printed so far be seen."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._over.set()

    def _flush_on(self) -> None:
        # Flushing every line would cost a system call per task; never flushing would hide the last ones.
        while not self._over.wait(FLUSH_S):
            self.flush()

    def _show_failure(self, record: TaskRecord, output: _Output | None) -> None:
        path = self._facts.log_path(record.task) or record.log_path
        last = output.lines(STDERR + 1)[-LAST_LINES:] if output else []
        if not last and path:
            last = last_lines(Path(path), LAST_LINES)
        findings = output.findings if output else None
        # At once: a live display is drawn again for each piece.
        self.say("\n".join(failure_text(record, last, str(path or ""), findings)))
        self.flush()

    def _show_output(self, name: str, output: _Output, verbosity: int) -> None:
        lines = output.lines(verbosity)
        warnings = output.findings.warnings
        if not lines and not warnings:
            return
        if warnings:
            self.say(f">> {name}: {plural(warnings, 'warning')}")
        elif self._last_started != name:
            self.say(f">> {name}")
        if lines:
            self.say("\n".join(lines))
        if lines and output.left_out:
            where = self._facts.log_path(name) or "majordomo logs"
            self.say(f"[... {output.left_out} bytes more, see {where}]")
        self._last_started = ""


class _Output:
    """What one task has printed, up to `KEPT` bytes, and what was found in all of it."""

    def __init__(self, parser: str) -> None:
        self.findings = Findings(parser)
        self.left_out = 0
        self._pieces: list[Piece] = []
        self._size = 0

    def add(self, pieces: Sequence[Piece]) -> None:
        self.findings.add(pieces)
        for piece in pieces:
            self._size += len(piece.text)
            self._pieces.append(piece)
        while self._size > KEPT and len(self._pieces) > 1:  # the end matters more than the beginning
            gone = len(self._pieces.pop(0).text)
            self._size -= gone
            self.left_out += gone

    def lines(self, verbosity: int) -> list[str]:
        """Return the lines to show: none at 0, stderr at 1, both streams at 2 and above."""
        if verbosity <= 0:
            return []
        wanted = [piece.text for piece in self._pieces if verbosity > 1 or piece.stream == STDERR]
        return "".join(wanted).splitlines()
