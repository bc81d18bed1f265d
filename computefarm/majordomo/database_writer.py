"""The thread that writes the success database, in batches, as tasks end."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from computefarm.errors import FarmError

APPLICATION_ID = 0x43464D44
"""Marks the file as ours (`CFMD`)."""

PAUSE = 0.02
"""Seconds between two commits at least: bounds both the cost of small tasks and what a kill can lose."""

SCHEMA = """
create table if not exists files (
    id integer primary key, path text not null, size integer not null, mtime_ns integer not null,
    digest blob not null);
create table if not exists tasks (
    task text primary key, data text not null, checker text not null,
    deps blob not null, inputs blob not null, command text not null,
    capability text not null, fingerprint text not null, version text not null
) without rowid;
"""

Sync = Callable[[Sequence[str]], None]
"""Make these files durable; called off the main thread before the success that names them is committed."""


class Writer:
    """The thread that writes, and its queue."""

    STATEMENTS = {
        "task": "insert or replace into tasks values (?,?,?,?,?,?,?,?,?)",
        "file": "insert or replace into files values (?,?,?,?,?)",
        "touch": "update files set mtime_ns=? where id=?",
        "remove": "delete from tasks where task=?",
        "clear": "delete from tasks",
    }

    def __init__(self, name: str, sync: Sync | None) -> None:
        self._name = name
        self._sync = sync
        self._queue: deque[tuple[tuple[str, tuple[Any, ...]], Sequence[str]]] = deque()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._error: Exception | None = None
        self._connection = self._open()
        self._thread = threading.Thread(target=self._run, name="majordomo-database", daemon=True)
        self._thread.start()

    def _open(self) -> sqlite3.Connection:
        try:
            connection = connect(self._name)
            connection.execute("pragma journal_mode=wal")
            # A commit survives the death of this process; a power cut may cost the last few, never the file.
            connection.execute("pragma synchronous=normal")
            connection.execute(f"pragma application_id={APPLICATION_ID}")
            connection.executescript(SCHEMA)
        except sqlite3.Error as error:
            raise FarmError(f"cannot write {os.path.abspath(self._name)}: {error}") from error
        return connection

    def put(self, operation: tuple[str, tuple[Any, ...]], sync: Sequence[str]) -> None:
        """Queue one change."""
        self._queue.append((operation, sync))
        if not self._wake.is_set():
            self._wake.set()

    def close(self) -> None:
        """Write what is queued and end; raise `FarmError` when something could not be written."""
        self._closing.set()
        self._wake.set()
        self._thread.join()
        if self._error is not None:
            raise FarmError(
                f"cannot write {os.path.abspath(self._name)}: {self._error}; "
                "some of this run's successes are not remembered"
            ) from self._error

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                self._wake.wait()
                self._flush()
                self._closing.wait(PAUSE)
            self._flush()
        except (sqlite3.Error, OSError, FarmError) as error:
            self._error = error
        finally:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()

    def _flush(self) -> None:
        self._wake.clear()
        batch = []
        while self._queue:
            batch.append(self._queue.popleft())
        if not batch:
            return
        if self._sync is not None:
            paths = [path for _, sync in batch for path in sync]
            if paths:
                self._sync(paths)
        with self._connection:
            self._connection.execute("begin immediate")
            for kind, rows in _runs(operation for operation, _ in batch):
                self._connection.executemany(self.STATEMENTS[kind], rows)


def _runs(operations: Iterable[tuple[str, tuple[Any, ...]]]) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    """Group neighbours of one kind: order matters between kinds, and many rows at once are cheaper."""
    kind, rows = "", list[tuple[Any, ...]]()
    for name, row in operations:
        if name != kind and rows:
            yield kind, rows
            rows = []
        kind = name
        rows.append(row)
    if rows:
        yield kind, rows


def connect(name: str) -> sqlite3.Connection:
    """Open the database; a writer elsewhere is waited for."""
    return sqlite3.connect(name, timeout=10.0, isolation_level=None, check_same_thread=False)
