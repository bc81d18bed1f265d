"""The journal against SQLite: what a record costs in CPU, in groups as the manager makes them, and in syncs.

    python tests/benchmarks/bench_journal.py [RECORDS]        (default 40000)

A task is four records. `hand over` is what the manager's control thread pays, `write` is the writer's CPU.
Prints ratios; nothing here asserts a time.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from computefarm.codec import encode_action
from computefarm.core.commands import Record
from computefarm.core.entries import Ended, Forgotten, JournalEntry, Started, Submitted
from computefarm.journal.tasks import TaskJournal
from computefarm.journal.writer import Report, Synced
from computefarm.messages import Action, Done, FileEntry, Need, Outcome, Result, TaskSpec

GROUPS = (1, 10, 100, 1000)
"""Records in one turn of the manager: idle, busy, under pressure."""


def entries(count: int) -> list[JournalEntry]:
    """Return what is written of `count / 4` compilations."""
    inputs = tuple(FileEntry(f"include/h{n}.h", os.urandom(32), 1000) for n in range(5))
    action = encode_action(Action("gcc", ("gcc -O2 -c src/foo.c -o build/foo.o",), inputs, ("build/foo.o",)))
    need, session, worker = Need("gcc"), "f3a9c27be1d04c55", "vm-1.20218"
    made: list[JournalEntry] = []
    for key in range(1, count // 4 + 1):
        output = FileEntry("build/foo.o", os.urandom(32), 5000)
        done = Done(session, key, Result(Outcome.SUCCEEDED, 0, outputs=(output,)), worker=worker)
        made.append(Submitted(key, session, "k" * 40, TaskSpec(key, "compile:foo", 0, action), need, 1.0))
        made += (Started(key, 1, worker, "e" * 16, 1.0), Ended(key, done), Forgotten((key,)))
    return made


def grouped(records: Sequence[Record], size: int) -> list[list[Record]]:
    """Return them in groups."""
    return [list(records[start : start + size]) for start in range(0, len(records), size)]


def append_only(folder: Path, groups: list[list[Record]]) -> tuple[float, float, int]:
    """Return seconds handing over, CPU seconds in all, and syncs; each group is waited for."""
    journal = TaskJournal(folder / "journal", "bench")
    arrived = threading.Semaphore(0)

    def report(report: Report) -> None:
        assert isinstance(report, Synced)
        arrived.release()

    journal.start(report)
    handing = 0.0
    began = time.process_time()
    for group in groups:
        at = time.perf_counter()
        journal.append(group, True)
        handing += time.perf_counter() - at
        arrived.acquire()
    cpu = time.process_time() - began
    journal.close()
    return handing, cpu, journal.syncs


def sqlite(folder: Path, groups: list[list[Record]]) -> tuple[float, float, int]:
    """The same in a table, one transaction for each group, WAL with full syncs."""
    connection = sqlite3.connect(folder / "journal.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE journal (number INTEGER PRIMARY KEY, entry BLOB NOT NULL)")
    encode = msgspec.msgpack.Encoder().encode
    began = time.process_time()
    for group in groups:
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO journal VALUES (?, ?)", [(record.number, encode(record.entry)) for record in group]
        )
        connection.execute("COMMIT")
    cpu = time.process_time() - began
    connection.close()
    return 0.0, cpu, len(groups)


def main(count: int) -> None:
    """Print a table."""
    records = [Record(number, entry) for number, entry in enumerate(entries(count), 1)]
    ways: dict[str, Callable[[Path, list[list[Record]]], tuple[float, float, int]]] = {
        "append-only": append_only,
        "SQLite WAL": sqlite,
    }
    print(f"{'records a group':>15} {'':12} {'hand over':>10} {'CPU':>10} {'wall':>10}   per record, in µs")
    for size in GROUPS:
        some = records[: min(count, size * 500)]
        for name, way in ways.items():
            with tempfile.TemporaryDirectory(dir=os.environ.get("CF_BENCH_DIR")) as folder:
                at = time.perf_counter()
                handing, cpu, syncs = way(Path(folder), grouped(some, size))
                wall = time.perf_counter() - at
            costs = "".join(f"{seconds / len(some) * 1e6:10.2f} " for seconds in (handing, cpu, wall))
            print(f"{size:15} {name:12} {costs}  {syncs} syncs")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40_000)
