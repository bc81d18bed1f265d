"""Counting a run and telling it in a few lines; also the small words that every display shares."""

from __future__ import annotations

import heapq
import shlex
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from computefarm.messages import Need, Obstacle, Outcome

from .reporting import TaskRecord

if TYPE_CHECKING:
    from .findings import Findings

SLOWEST = 5
WORTH_S = 0.05
"""Shorter than this is not worth a word in the summary."""
SHOWN_NAMES = 5
FAILURES = (Outcome.FAILED, Outcome.TIMEOUT, Outcome.LOST)
INTERRUPTED = {130: "interrupted", 143: "terminated"}


class Tally:
    """What has ended so far, added up."""

    def __init__(self) -> None:
        self.outcomes: Counter[Outcome] = Counter()
        self.cached = 0
        self.cpu_s = 0.0
        self.run_s = 0.0
        self.again = 0
        """Attempts made after the first of their task."""
        self.warnings = 0
        """Found in the output of tasks, successful or not."""
        self.warned = 0
        """Tasks with warnings."""
        self.failures: list[TaskRecord] = []
        self.blocked: list[str] = []
        self._slowest: list[tuple[float, str, str]] = []

    def add(self, record: TaskRecord) -> None:
        """Count one ended task."""
        outcome = record.outcome
        self.outcomes[outcome] += 1
        if outcome is Outcome.UP_TO_DATE:
            return
        if outcome in FAILURES:
            self.failures.append(record)
        elif outcome is Outcome.BLOCKED:
            self.blocked.append(record.task)
        if record.cached:
            self.cached += 1
            return
        self.again += max(0, len(record.attempts) - 1)
        self.cpu_s += record.cpu_s
        self.run_s += record.run_s
        heapq.heappush(self._slowest, (record.run_s, record.task, record.host))
        if len(self._slowest) > SLOWEST:
            heapq.heappop(self._slowest)

    def warn(self, warnings: int) -> None:
        """Count the warnings of one ended task."""
        self.warnings += warnings
        self.warned += warnings > 0

    @property
    def ended(self) -> int:
        """Tasks that have ended, however they did."""
        return self.outcomes.total()

    @property
    def failed(self) -> int:
        """Tasks that failed, timed out or were lost."""
        return len(self.failures)

    def counts(self) -> str:
        """Return `38 tasks: 35 run, 3 from cache, 0 up to date, 0 failed`."""
        run = self.outcomes[Outcome.SUCCEEDED] - self.cached
        words = [
            f"{run} run",
            f"{self.cached} from cache",
            f"{self.outcomes[Outcome.UP_TO_DATE]} up to date",
            f"{self.failed} failed",
        ]
        if self.blocked:
            words.append(f"{len(self.blocked)} blocked")
        if cancelled := self.outcomes[Outcome.CANCELLED]:
            words.append(f"{cancelled} cancelled")
        return f"{plural(self.ended, 'task')}: {', '.join(words)}"

    def slowest(self) -> list[tuple[float, str, str]]:
        """Return (seconds, task, host) of the slowest tasks worth naming, slowest first."""
        return sorted((entry for entry in self._slowest if entry[0] >= WORTH_S), reverse=True)


def summary(tally: Tally, wall_s: float, exit_code: int, logs: str = "") -> list[str]:
    """Return the lines that end a run; `logs` is the folder of its log files, if it has any."""
    parts = [tally.counts(), f"wall {seconds(wall_s)}"]
    if tally.cpu_s:
        parts.append(f"cpu {seconds(tally.cpu_s)}")
    if wall_s >= WORTH_S and tally.run_s > 0:
        parts.append(f"{tally.run_s / wall_s:.1f}x")
    if tally.again:
        parts.append(plural(tally.again, "attempt") + " made again")
    if exit_code in INTERRUPTED:
        parts.append(INTERRUPTED[exit_code])
    lines = [" · ".join(parts)]
    if len(slowest := tally.slowest()) > 1:
        lines.append("slowest: " + ", ".join(f"{task} {seconds(took)}" for took, task, _ in slowest))
    if tally.failures:
        lines.append("failed: " + some([failure.task for failure in tally.failures]))
    if tally.blocked:
        lines.append("blocked: " + some(tally.blocked))
    if tally.warnings:
        where = f" in {plural(tally.warned, 'task')}" if tally.warned > 1 else ""
        lines.append(f"{plural(tally.warnings, 'warning')}{where}: majordomo logs --level warning")
    if exit_code in INTERRUPTED:
        lines.append("what has finished is kept; go on with the rest: majordomo run")
    if logs:
        lines.append(f"logs: {logs}")
    return lines


def failure_text(
    record: TaskRecord, last: Sequence[str], log_path: str = "", findings: Findings | None = None
) -> list[str]:
    """Return what to say about a failed task: what, where, why, errors, last lines, and where the rest is."""
    where = ""
    if record.host:
        where = f" on {record.host}" + (f" ({record.worker})" if record.worker else "")
    kind = {Outcome.TIMEOUT: "TIMEOUT", Outcome.LOST: "LOST"}.get(record.outcome, "FAILED")
    lines = [f"!! {kind} {record.task}{where}: {record.reason or exit_words(record.exit_code)}"]
    errors = findings.first if findings is not None else []
    lines += [f"   {line}" for line in errors]
    if findings is not None and (more := findings.more()):
        see = f"majordomo logs {shlex.quote(record.task)} --level error"
        lines.append(f"   and {plural(more, 'more error')}: {see}")
    lines += [f"   | {line}" for line in last if line not in errors]
    if log_path:
        lines.append(f"   full log: {log_path}")
    return lines


def exit_words(exit_code: int | None) -> str:
    """Say an exit code in words."""
    return "it did not exit by itself" if exit_code is None else f"exit code {exit_code}"


def held_text(names: Sequence[str], need: Need, obstacles: Sequence[Obstacle], offered: bool) -> str:
    """Say which tasks wait for what, place by place."""
    what = f"waiting: {plural(len(names), 'task')} ({some(names, 3)})"
    if not obstacles and offered:
        return f"{what} can run now"
    reasons = "; ".join(f"{obstacle.name}: {obstacle.reason}" for obstacle in obstacles)
    verb = "for" if offered else "and nothing offers"
    return f"{what} {verb} {need_words(need)}" + (f" ({reasons})" if reasons else "")


def need_words(need: Need) -> str:
    """Say a need as one writes it: `gcc>=9 (2 cpus)`."""
    extra = [f"{key}={value}" for key, value in need.tags]
    if need.cpus > 1:
        extra.append(f"{need.cpus} cpus")
    if need.declared:
        extra.append(f"{size(need.memory)} of memory")
    if need.gpus:
        extra.append(plural(need.gpus, "GPU"))
    if need.fingerprint:
        extra.append("the toolchain of this run")
    return need.capability + need.version + (f" ({', '.join(extra)})" if extra else "")


def some(names: Sequence[str], most: int = SHOWN_NAMES) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def plural(count: int, noun: str) -> str:
    """Return `1 task` or `2 tasks`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def seconds(value: float) -> str:
    """Return a duration for people: `0.04 s`, `2.3 s`, `3 min 20 s`, `2 h 5 min`."""
    if value < 1:
        return f"{value:.2f} s"
    if value < 59.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def size(count: float) -> str:
    """Return an amount of bytes for people: `512 B`, `1.5 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
