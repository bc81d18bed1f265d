"""A live display at the bottom of a terminal: counts, one bar, and what runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TextIO

from computefarm.messages import Need, Obstacle, Outcome

from .progress import Facts, PlainProgress, Quiet
from .reporting import TaskRecord
from .summary import held_text, plural, seconds

if TYPE_CHECKING:
    from rich.console import Console, ConsoleRenderable
    from rich.live import Live

CALM_S = 0.4
"""A run shorter than this never gets a live display (and never imports rich)."""
SHOWN_RUNNING = 8


class LiveProgress(PlainProgress):
    """Counts, one bar and the running tasks at the bottom of a terminal; failures and output scroll above."""

    def __init__(
        self,
        stream: TextIO,
        *,
        facts: Facts | None = None,
        clock: Callable[[], float] = time.monotonic,
        calm_s: float = CALM_S,
    ) -> None:
        super().__init__(stream, facts=facts, clock=clock)
        self._calm_s = calm_s
        self._lock = threading.RLock()
        self._console: Console | None = None
        self._live: Live | None = None
        self._running: dict[str, tuple[str, int, float]] = {}
        self._waits: dict[str, str] = {}
        self._queued: set[str] = set()

    def task_queued(self, name: str) -> None:
        """Know of tasks that were made only after the run began."""
        self._queued.add(name)

    def task_placed(self, name: str, worker: str, hostname: str, attempt: int) -> None:
        """Show the task among the running ones; print only that it had to start again."""
        self._running[name] = (hostname, attempt, self._clock())
        if attempt > 1:
            self._output.pop(name, None)
            self.say(f"   {name}: attempt {attempt} on {hostname} ({worker})")

    def task_ended(self, record: TaskRecord) -> None:
        """Take it off the list; print its failure or its output."""
        self._running.pop(record.task, None)
        self._queued.discard(record.task)
        if record.outcome is Outcome.UP_TO_DATE:
            self.tally.add(record)
        else:
            super().task_ended(record)

    def tasks_up_to_date(self, tasks: Sequence[tuple[str, str]]) -> None:
        """Only count."""
        Quiet.tasks_up_to_date(self, tasks)

    def held(
        self, names: Sequence[str], need: Need, obstacles: Sequence[Obstacle], offered: bool, ever: bool
    ) -> None:
        """Show why tasks wait as long as they do."""
        text = held_text(names, need, obstacles, offered)
        self._waits = {**self._waits, need.capability + need.version: text if obstacles else ""}

    def run_ended(self, exit_code: int) -> None:
        """Take the display down and say the summary."""
        self._over.set()
        if self._flusher is not None:
            self._flusher.join(5)
        with self._lock:
            if self._live is not None:
                self._live.stop()
                self._live = None
        super().run_ended(exit_code)

    def mark(self, sign: str, name: str) -> None:
        """Print nothing: the display shows it."""

    def say(self, line: str) -> None:
        """Print one line above the display."""
        with self._lock:
            if self._console is None or self._live is None:
                super().say(line)
            else:
                self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _flush_on(self) -> None:
        self.flush()
        if self._over.wait(self._calm_s):
            return
        from rich.console import Console
        from rich.live import Live

        with self._lock:
            if self._over.is_set():
                return
            self._console = Console(file=self._stream)
            self._live = Live(
                console=self._console, get_renderable=self.picture, refresh_per_second=5, transient=True
            )
            self._live.start()

    def picture(self) -> ConsoleRenderable:
        """Return the display of this moment."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        done = self.tally.ended
        total = max(self.total, done + len(self._queued))
        head = Table.grid(padding=(0, 1))
        left = self._estimate(done, total)
        head.add_row(f"{done}/{total}", ProgressBar(total=max(total, 1), completed=done, width=30), left)
        counts = f"{self.tally.counts()}, {len(self._running)} running · {seconds(self.elapsed)}"
        rows: list[ConsoleRenderable] = [Text(counts), head]
        now = self._clock()
        oldest = sorted(self._running.copy().items(), key=lambda entry: entry[1][2])
        for name, (host, attempt, began) in oldest[:SHOWN_RUNNING]:
            again = f" (attempt {attempt})" if attempt > 1 else ""
            rows.append(Text(f"  {seconds(now - began):>8}  {host or 'here'}  {name}{again}"))
        if len(oldest) > SHOWN_RUNNING:
            rows.append(Text(f"            and {len(oldest) - SHOWN_RUNNING} more"))
        rows += [Text(text, style="yellow") for text in self._waits.values() if text]
        return Group(*rows)

    def _estimate(self, done: int, total: int) -> str:
        """Guess the time left from the pace so far; say nothing before there is something to go by."""
        worked = done - self.tally.outcomes[Outcome.UP_TO_DATE] - self.tally.cached
        if worked < 3 or done >= total:
            return plural(total - done, "task") + " left" if total > done else ""
        return f"about {seconds(self.elapsed / worked * (total - done))} left"
