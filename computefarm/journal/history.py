"""What happened in past runs: one row per run and one per task, in SQLite.

The writer takes records on the caller's thread in microseconds and stores them on its own, at most
`BEHIND_S` later, so that a run killed at any moment keeps what had ended. Trouble with the disk never
breaks a run: it is kept in `HistoryWriter.trouble` for the summary to tell.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from computefarm.errors import FarmError
from computefarm.messages import Attempt, Outcome

BEHIND_S = 0.1
"""Longest time between a record's arrival and its commit."""

FILE = "history.db"
"""Name inside the state folder."""

DAY_S = 86_400.0

LASTS_S = 7 * DAY_S
"""A run without an end that began longer ago than this was killed."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    number INTEGER PRIMARY KEY,
    run TEXT NOT NULL UNIQUE,
    folder TEXT NOT NULL,
    dodo TEXT NOT NULL,
    farm TEXT NOT NULL,
    pid INTEGER NOT NULL,
    started REAL NOT NULL,
    ended REAL,
    exit INTEGER,
    tasks INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS runs_of_folder ON runs (folder, number);
CREATE TABLE IF NOT EXISTS tasks (
    number INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    task TEXT NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (number, seq)
) WITHOUT ROWID;
PRAGMA user_version = 1;
"""
_VERSION = 1
BLOCK = ""
"""Instead of a task's name: the record is a list of `(task, capability)` that were up to date.

A null build of 10 000 tasks would spend a tenth of its time on rows of their own."""

_OF_RUN = "number = (SELECT number FROM runs WHERE run = ?)"


class TaskRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How one task of a run ended. Fields are only added at the end, with a default."""

    task: str
    outcome: Outcome
    capability: str = ""
    host: str = ""
    worker: str = ""
    attempt: int = 0
    attempts: tuple[Attempt, ...] = ()
    cached: bool = False
    reason: str = ""
    exit_code: int | None = None
    queued_s: float = 0.0
    run_s: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    started_at: float = 0.0
    ended_at: float = 0.0
    cpu_s: float = 0.0
    peak_memory: int = 0
    rerun: tuple[str, ...] = ()
    log_path: str = ""
    others: tuple[str, ...] = ()
    """Toolchains offered for its capability that the run did not use."""
    kind: str = ""
    """What kind of failure it is, as in `messages.Result.kind`."""


UpToDate = tuple[tuple[str, str], ...]
"""Tasks with their capabilities."""


class RunRow(msgspec.Struct, frozen=True):
    """One run; `ended` and `exit` stay None when it was killed or is still going on."""

    run: str
    folder: str
    """Absolute path of the project."""
    dodo: str
    farm: str
    """`local`, or the farm's name."""
    pid: int
    started: float
    """Wall-clock seconds."""
    ended: float | None = None
    exit: int | None = None
    tasks: int = 0
    """Records stored."""


class Limits(msgspec.Struct, frozen=True):
    """What to keep; older runs go first."""

    runs: int = 1_000
    days: float = 90.0
    tasks: int = 1_000_000
    """Records of all runs together, about 150 bytes each."""


class HistoryWriter:
    """Store one run while it happens, on a thread of its own."""

    def __init__(self, path: Path, run: RunRow, limits: Limits | None = None) -> None:
        self.trouble = ""
        """What went wrong with the disk; empty when all is well."""
        self._path = path
        self._run = run
        self._limits = limits if limits is not None else Limits()
        self._records: queue.SimpleQueue[TaskRow | UpToDate | None] = queue.SimpleQueue()
        self._end: tuple[float, int] | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="history", daemon=True)
        self._thread.start()

    def add(self, row: TaskRow) -> None:
        """Take one task's record; returns at once."""
        self._records.put(row)

    def add_up_to_date(self, tasks: Sequence[tuple[str, str]]) -> None:
        """Take `(task, capability)` of tasks that had nothing to do; returns at once."""
        if tasks:
            self._records.put(tuple(tasks))

    def close(self, ended: float, exit_code: int, patience_s: float = 10.0) -> None:
        """Store what is left and the run's end; give up after `patience_s`."""
        self._end = (ended, exit_code)
        self._ending.set()
        self._records.put(None)
        self._thread.join(patience_s)
        if self._thread.is_alive():
            self.trouble = f"the run history {self._path} did not take the last records in {patience_s:.0f} s"

    def _work(self) -> None:
        try:
            with closing(_open_for_writing(self._path)) as db:
                number = _insert_run(db, self._run)
                self._store_all(db, number)
                with db:
                    prune(db, self._limits, time.time())
        except (sqlite3.Error, OSError) as error:
            self.trouble = f"the run history {self._path} cannot be written: {error}"

    def _store_all(self, db: sqlite3.Connection, number: int) -> None:
        encode = msgspec.msgpack.Encoder().encode
        seq = count = 0
        going = True
        while going:
            batch, going = self._collect()
            rows = []
            for row in batch:
                if isinstance(row, TaskRow):
                    name, records = row.task, 1
                else:
                    name, records = BLOCK, len(row)
                rows.append((number, seq, name, encode(row)))
                seq += 1
                count += records
            with db:
                db.executemany("INSERT INTO tasks VALUES (?, ?, ?, ?)", rows)
                if self._end is not None and not going:
                    values = (*self._end, count, number)
                    db.execute("UPDATE runs SET ended = ?, exit = ?, tasks = ? WHERE number = ?", values)
                else:
                    db.execute("UPDATE runs SET tasks = ? WHERE number = ?", (count, number))

    def _collect(self) -> tuple[list[TaskRow | UpToDate], bool]:
        """Wait for a record, then gather what else comes within half of `BEHIND_S`."""
        first = self._records.get()
        batch: list[TaskRow | UpToDate] = []
        if first is None:
            return batch, False
        batch.append(first)
        self._ending.wait(BEHIND_S / 2)  # not a timed get(), which would wake up once per record
        while True:
            try:
                row = self._records.get_nowait()
            except queue.Empty:
                return batch, True
            if row is None:
                return batch, False
            batch.append(row)


class History:
    """Read past runs. Every call opens the file anew, so it may be written meanwhile."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def last(self, folder: Path) -> RunRow | None:
        """Return the newest run of a project's folder."""
        return self._one_run("folder = ? ORDER BY number DESC LIMIT 1", str(folder))

    def find(self, run: str) -> RunRow | None:
        """Return the run of this name; an unambiguous beginning of it will do."""
        exact = self._one_run("run = ?", run)
        if exact is not None or not run:
            return exact
        pattern = run.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        with self._reading() as db:
            rows = [] if db is None else _runs(db, "run LIKE ? ESCAPE '\\' LIMIT 2", pattern)
        return rows[0] if len(rows) == 1 else None

    def recent(self, folder: Path | None = None, count: int = 10) -> list[RunRow]:
        """Return the newest runs, newest first, of one folder or of all."""
        with self._reading() as db:
            if db is None:
                return []
            if folder is None:
                return _runs(db, "1 ORDER BY number DESC LIMIT ?", count)
            return _runs(db, "folder = ? ORDER BY number DESC LIMIT ?", str(folder), count)

    def unended(self) -> set[str]:
        """Return the names of the runs that have no end: they go on, or were killed."""
        with self._reading() as db:
            return set() if db is None else {run.run for run in _runs(db, "ended IS NULL")}

    def tasks(self, run: str) -> list[TaskRow]:
        """Return a run's records in the order in which the tasks ended."""
        query = f"SELECT task, record FROM tasks WHERE {_OF_RUN} ORDER BY seq"
        with self._reading() as db:
            if db is None:
                return []
            return [row for name, record in db.execute(query, (run,)) for row in _decoded(name, record)]

    def latest_of(self, folder: Path, task: str, runs: int = 100) -> list[tuple[RunRow, TaskRow]]:
        """Return a task's records of the newest `runs` runs of a folder, newest first."""
        query = f"SELECT task, record FROM tasks WHERE {_OF_RUN} AND task IN (?, ?)"
        found: list[tuple[RunRow, TaskRow]] = []
        with self._reading() as db:
            if db is None:
                return []
            for run in _runs(db, "folder = ? ORDER BY number DESC LIMIT ?", str(folder), runs):
                for name, record in db.execute(query, (run.run, task, BLOCK)):
                    found += [(run, row) for row in _decoded(name, record) if row.task == task]
        return found

    def _one_run(self, where: str, *values: object) -> RunRow | None:
        with self._reading() as db:
            rows = [] if db is None else _runs(db, where, *values)
        return rows[0] if rows else None

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        if not self._path.exists():
            yield None
            return
        try:
            with closing(sqlite3.connect(self._path, timeout=5)) as db:
                if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'tasks'").fetchone():
                    yield None  # a writer has created the file a moment ago
                    return
                yield db
        except sqlite3.Error as error:
            raise FarmError(
                f"the run history {self._path} cannot be read: {error}",
                hint=f"mv {self._path} {self._path}.damaged    # a new one is begun",
            ) from error


_decode_row = msgspec.msgpack.Decoder(TaskRow).decode
_decode_block = msgspec.msgpack.Decoder(UpToDate).decode


def _decoded(name: str, record: bytes) -> list[TaskRow]:
    if name != BLOCK:
        return [_decode_row(record)]
    return [TaskRow(task, Outcome.UP_TO_DATE, capability) for task, capability in _decode_block(record)]


def prune(db: sqlite3.Connection, limits: Limits, now: float) -> int:
    """Delete the runs beyond the limits, never the newest one; return how many went."""
    victims: list[tuple[int]] = []
    records = 0
    query = "SELECT number, started, tasks, ended FROM runs ORDER BY number DESC"
    for place, (number, started, tasks, ended) in enumerate(db.execute(query).fetchall()):
        records += tasks
        old = started < now - limits.days * DAY_S
        # One without an end may still go on; it was killed, if it is older than any run lasts.
        going = ended is None and started > now - LASTS_S
        if place > 0 and not going and (old or place >= limits.runs or records > limits.tasks):
            victims.append((number,))
    db.executemany("DELETE FROM tasks WHERE number = ?", victims)
    db.executemany("DELETE FROM runs WHERE number = ?", victims)
    return len(victims)


def _runs(db: sqlite3.Connection, where: str, *values: object) -> list[RunRow]:
    columns = "run, folder, dodo, farm, pid, started, ended, exit, tasks"
    rows: Sequence[tuple[str, str, str, str, int, float, float | None, int | None, int]]
    rows = db.execute(f"SELECT {columns} FROM runs WHERE {where}", values).fetchall()
    return [RunRow(*row) for row in rows]


def _open_for_writing(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, timeout=30)
    # NORMAL: a killed process loses nothing; a power cut may lose the last records, never the file.
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > _VERSION:
        db.close()
        raise OSError(f"a newer ComputeFarm wrote it (format {version}, this one knows {_VERSION})")
    if version < _VERSION:
        db.executescript(_SCHEMA)
    return db


def _insert_run(db: sqlite3.Connection, run: RunRow) -> int:
    columns = "run, folder, dodo, farm, pid, started"
    values = (run.run, run.folder, run.dodo, run.farm, run.pid, run.started)
    with db:
        number = db.execute(f"INSERT INTO runs ({columns}) VALUES (?, ?, ?, ?, ?, ?)", values).lastrowid
    assert number is not None
    return number
