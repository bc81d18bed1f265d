"""`--gui`: the lines of a run, or of a log, in cutelog's window.

A run neither waits nor fails for its window: everything is in the log files as well.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from computefarm.home import hostname as this_host
from computefarm.logs.records import Record, Records, logger_name
from computefarm.logs.window.cutelog import HOST, NoWindow, Window, check, open_window, running
from computefarm.logs.window.forwarder import CAPACITY, Forwarder
from computefarm.messages import Need, Obstacle, Outcome, Piece
from computefarm.sandbox.kin import LEASH

from .log_lines import while_wanted
from .reporting import TaskRecord
from .summary import FAILURES, Tally, exit_words, held_text, plural, seconds

OPEN_S = 20.0
"""How long a run that has ended already waits for its window to come up."""

STAYS = "the log window stays open; closing it loses nothing"


def one_line(error: NoWindow, otherwise: str) -> str:
    """Return why there is no window, what to type, and what happens instead."""
    hint = f": {error.hint}" if error.hint else ""
    return f"--gui: {error.args[0]}{hint} — {otherwise}"


class WindowFeed:
    """Opens a window, on a thread of its own, and hands it records; until it is there they wait."""

    def __init__(self, environ: Mapping[str, str], folder: Path) -> None:
        """Raise `NoWindow` at once when there is no program or no display for it.

        A window that is open already is used, unless `CF_CUTELOG` names the program to start.
        """
        self._reuse = not environ.get("CF_CUTELOG") and running() is not None
        if not self._reuse:
            check(environ)
        # Without the mark of what ends with majordomo.
        self._environ = {name: value for name, value in environ.items() if name != LEASH}
        self._folder = folder
        self._lock = threading.Lock()
        self._waiting: deque[Record] = deque(maxlen=CAPACITY)
        self._forwarder: Forwarder | None = None
        self._opened = threading.Event()
        self.window: Window | None = None
        self.trouble = ""
        """Why no window came, in one line; empty while all is well."""
        self._thread = threading.Thread(target=self._open, name="log-window-opener", daemon=True)

    def begin(self) -> None:
        """Open the window; harmless when repeated."""
        if not self._thread.ident:
            self._thread.start()

    def put(self, record: Record) -> None:
        """Hand over one record; never waits."""
        forwarder = self._forwarder
        if forwarder is None:
            with self._lock:
                if self._forwarder is None:
                    self._waiting.append(record)
                    return
                forwarder = self._forwarder
        forwarder.put(record)

    def put_all(self, records: Iterable[Record]) -> None:
        """Hand over records as fast as the window takes them; end when it is closed or they are."""
        self.begin()
        if not self.ready(OPEN_S):
            return
        assert self._forwarder is not None
        for record in while_wanted(iter(records), lambda: not self.closed):
            if not self._forwarder.put_when_room(record):
                return

    def ready(self, patience_s: float) -> bool:
        """Wait for the window to come up, for so long at most; say whether it did and is still there."""
        self._opened.wait(patience_s)
        return self._forwarder is not None and not self._forwarder.ended.is_set()

    @property
    def closed(self) -> bool:
        """Return whether the window was there and is gone."""
        return self._forwarder is not None and self._forwarder.ended.is_set()

    @property
    def dropped(self) -> int:
        """Records that the window did not get."""
        return self._forwarder.dropped if self._forwarder is not None else 0

    def close(self) -> bool:
        """Send what waits, as far as the window takes it; it stays open. Say whether it is there."""
        if not self.ready(OPEN_S):
            return False
        assert self._forwarder is not None
        self._forwarder.close()
        return self.window is not None and self.window.alive()

    def _open(self) -> None:
        try:
            window = open_window(self._environ, self._folder, reuse=self._reuse)
        except (NoWindow, OSError) as error:
            told = error if isinstance(error, NoWindow) else NoWindow(str(error))
            self.trouble = one_line(told, "the lines are in the files: majordomo logs")
        else:
            forwarder = Forwarder(HOST, window.port, alive=window.alive)
            with self._lock:
                self.window = window
                while self._waiting:
                    forwarder.put(self._waiting.popleft())
                self._forwarder = forwarder
        finally:
            self._opened.set()


def feed_or_say(environ: Mapping[str, str], folder: Path, say: Callable[[str], object]) -> WindowFeed | None:
    """Return a feed, or None after one line that says what is missing and how to get it."""
    try:
        return WindowFeed(environ, folder)
    except NoWindow as error:
        say(one_line(error, "going on with the console"))
        return None


class LogWindow:
    """Shows a run: every line its tasks print, which of them failed, and what the daemons say."""

    def __init__(
        self,
        feed: WindowFeed,
        say: Callable[[str], object],
        *,
        parser: Callable[[str], str] = lambda name: "",
        capability: Callable[[str], str] = lambda name: "",
    ) -> None:
        """`parser` and `capability` name those of a task; `say` takes what is for the terminal."""
        self._feed = feed
        self._parser = parser
        self._capability_of = capability
        self._say = say
        self._run = ""
        self._host = this_host()
        self._seq = 0
        self._began = time.monotonic()
        self._tally = Tally()
        self._held: set[str] = set()
        self._placed: dict[str, tuple[str, int]] = {}
        self._records: dict[str, Records] = {}

    def run_started(self, run_id: str, total: int, selected: Sequence[str], backend_name: str) -> None:
        """Say that it begins, and where."""
        self._run = run_id
        self._feed.begin()
        self._began = time.monotonic()
        where = "this machine" if backend_name == "local" else f"farm {backend_name}"
        self._own("info", f"run {run_id} begins on {where}: {plural(total, 'task')}")

    def task_queued(self, name: str) -> None:
        """Show nothing."""

    def task_placed(self, name: str, worker: str, hostname: str, attempt: int) -> None:
        """Remember where its lines will come from."""
        self._placed[name] = (hostname, attempt)
        self._records.pop(name, None)

    def task_printed(self, name: str, pieces: Sequence[Piece]) -> None:
        """Show its lines."""
        records = self._records.get(name)
        if records is None:
            host, attempt = self._placed.get(name, ("", 1))
            records = self._records[name] = self._records_of(name, host, attempt)
        self._put(records, pieces)

    def task_ended(self, record: TaskRecord) -> None:
        """Show what came with the result alone, and a failure."""
        self._tally.add(record)
        name = record.task
        if record.log and name not in self._records:
            self._put(self._records_of(name, record.host, record.attempt or 1), record.log)
        self._records.pop(name, None)
        self._placed.pop(name, None)
        for attempt in record.attempts[:-1]:
            why = attempt.reason or attempt.outcome
            self._own("warning", f"{name}: attempt {attempt.attempt} on {attempt.hostname}: {why}", name)
        if record.outcome in FAILURES:
            text = f"{name} failed: {record.reason or exit_words(record.exit_code)}"
            self._own("error", text, name, record.host)
        elif record.outcome in (Outcome.BLOCKED, Outcome.CANCELLED):
            self._own("warning", f"{name} {record.outcome.value}: {record.reason}", name)

    def tasks_up_to_date(self, tasks: Sequence[tuple[str, str]]) -> None:
        """Count."""
        self._tally.outcomes[Outcome.UP_TO_DATE] += len(tasks)

    def held(
        self, names: Sequence[str], need: Need, obstacles: Sequence[Obstacle], offered: bool, ever: bool
    ) -> None:
        """Show why tasks wait, each time the reason changes."""
        text = held_text(names, need, obstacles, offered)
        if text not in self._held:
            self._held.add(text)
            self._own("info" if offered else "warning", text)

    def note(self, text: str) -> None:
        """Show it."""
        self._own("info", text)

    def overheard(self, record: Record, text: str) -> None:
        """Show it."""
        self._feed.put(record)

    def run_ended(self, exit_code: int) -> None:
        """Show how it ended; leave the window open and say so."""
        level = "error" if exit_code else "info"
        took = seconds(time.monotonic() - self._began)
        self._own(level, f"run {self._run} ended, exit code {exit_code}: {self._tally.counts()} · {took}")
        closed = self._feed.closed
        there = self._feed.close()
        if self._feed.trouble:
            self._say(self._feed.trouble)
        elif closed:
            self._say("the log window was closed before the end; every line: majordomo logs")
        elif there:
            missed = self._feed.dropped
            gap = f"; {missed} lines are not in it: majordomo logs" if missed else ""
            self._say(f"{STAYS}{gap}")

    def _records_of(self, name: str, host: str, attempt: int) -> Records:
        parser, capability = self._parser(name), self._capability_of(name)
        return Records(
            run=self._run, host=host or self._host, capability=capability, task=name, attempt=attempt,
            parser=parser,
        )  # fmt: skip

    def _put(self, records: Records, pieces: Sequence[Piece]) -> None:
        for record in records.feed(pieces):
            self._feed.put(record)

    def _own(self, level: str, text: str, task: str = "", host: str = "") -> None:
        """Show a line of the run itself."""
        host = host or self._host
        record: Record = {
            "created": time.time(),
            "level": level,
            "name": logger_name(self._run, host, "run"),
            "msg": text,
            "task": task,
            "attempt": 0,
            "host": host,
            "stream": "log",
            "seq": self._seq,
        }
        self._seq += 1
        self._feed.put(record)
