"""The result cache: how an action ended last time, by the action's digest, in one SQLite file.

It may be lost at any time without harm, so it is not synced, and a corrupt file is put aside and begun again.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from computefarm.errors import StoreError
from computefarm.messages import Digest, Outcome, Result

SCHEMA = 1
"""Version of the table, kept in SQLite's `user_version`."""

PRUNE_TO = 0.9
"""Pruning goes down to this part of a limit, so that it is not needed again at once."""

_CREATE = """
CREATE TABLE results (
    digest BLOB PRIMARY KEY, used_at INTEGER NOT NULL, bytes INTEGER NOT NULL,
    crc INTEGER NOT NULL, result BLOB NOT NULL
);
CREATE INDEX results_by_use ON results (used_at, bytes);
"""
_TOGETHER = 64
"""Digests looked up by one statement."""

_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

log = logging.getLogger("computefarm.store")

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Result)

T = TypeVar("T")


class ResultCache:
    """Results of succeeded actions; every method may be called from any thread.

    Raises `StoreError` when the disk is full or the file cannot be written.
    """

    def __init__(self, path: Path, *, max_rows: int = 1_000_000, max_bytes: int = 2 * 1024**3) -> None:
        self.path = Path(path)
        self.max_rows = max_rows
        self.max_bytes = max_bytes
        self._used: set[Digest] = set()
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        with self._lock:
            self._attempt(lambda database: None)

    def __len__(self) -> int:
        return self._rows

    def get_many(self, digests: Sequence[Digest]) -> dict[Digest, Result]:
        """Return the results that are known."""
        with self._lock:
            rows = self._attempt(lambda database: _select(database, digests))
            found: dict[Digest, Result] = {}
            spoilt: list[Digest] = []
            for digest, crc, encoded in rows:
                result = _decode(digest, crc, encoded)
                if result is None:
                    spoilt.append(digest)
                else:
                    found[digest] = result
            self._used.update(found)
            if spoilt:
                self._attempt(lambda database: self._delete(database, spoilt))
        return found

    def put_many(self, results: Iterable[tuple[Digest, Result]]) -> None:
        """Store results in one transaction; only succeeded ones may be given."""
        rows = [_row(digest, result) for digest, result in results]
        if not rows:
            return
        with self._lock:
            self._attempt(lambda database: self._put(database, rows))

    def close(self) -> None:
        """Write down what was used lately, and close the file."""
        with self._lock:
            if self._database is None:
                return
            try:
                self._attempt(self._note_use)
            finally:
                if self._database is not None:
                    self._database.close()
                    self._database = None

    # --- inside, with the lock held ---------------------------------------------------------------------

    def _attempt(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work` in one transaction; once more on a fresh file if this one turns out to be corrupt."""
        for again in (True, False):
            try:
                database = self._open()
                with database:
                    return work(database)
            except sqlite3.DatabaseError as error:
                if not again or getattr(error, "sqlite_errorcode", 0) & 0xFF not in _CORRUPT:
                    raise StoreError(f"result cache {self.path}: {error}") from error
                self._put_aside("corrupt", str(error))
            except OSError as error:
                raise StoreError(f"result cache {self.path}: {error.strerror}") from error
        raise AssertionError("unreachable")

    def _open(self) -> sqlite3.Connection:
        if self._database is not None:
            return self._database
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        database = self._database = _connect(self.path)
        version = database.execute("PRAGMA user_version").fetchone()[0]
        has_table = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if has_table and version != SCHEMA:
            self._put_aside(f"schema-{version}", f"it has schema {version}, this version uses {SCHEMA}")
            return self._open()
        if not has_table:
            database.executescript(f"{_CREATE} PRAGMA user_version = {SCHEMA};")
        self._rows, self._bytes = _totals(database)
        return database

    def _put_aside(self, why: str, text: str) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.{why}-{number}")).exists():
            number += 1
        os.replace(self.path, aside)
        for suffix in ("-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)
        self._used.clear()
        log.warning("result cache %s begun afresh: %s; the old file is %s", self.path, text, aside.name)

    def _put(self, database: sqlite3.Connection, rows: list[tuple[Digest, int, int, int, bytes]]) -> None:
        self._note_use(database)
        database.executemany("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?)", rows)
        # Replaced rows are counted twice until the next true count, which pruning begins with.
        self._rows += len(rows)
        self._bytes += sum(row[2] for row in rows)
        if self._rows > self.max_rows or self._bytes > self.max_bytes:
            self._prune(database)

    def _prune(self, database: sqlite3.Connection) -> None:
        self._rows, self._bytes = _totals(database)
        if self._rows <= self.max_rows and self._bytes <= self.max_bytes:
            return
        rows, size = self._rows, self._bytes
        doomed: list[tuple[int]] = []
        for rowid, bytes_ in database.execute("SELECT rowid, bytes FROM results ORDER BY used_at, rowid"):
            if rows <= self.max_rows * PRUNE_TO and size <= self.max_bytes * PRUNE_TO:
                break
            doomed.append((rowid,))
            rows -= 1
            size -= bytes_
        database.executemany("DELETE FROM results WHERE rowid = ?", doomed)
        self._rows, self._bytes = rows, size

    def _delete(self, database: sqlite3.Connection, digests: Iterable[Digest]) -> None:
        cursor = database.executemany("DELETE FROM results WHERE digest = ?", [(d,) for d in digests])
        self._rows -= max(cursor.rowcount, 0)

    def _note_use(self, database: sqlite3.Connection) -> None:
        """Write down the uses since the last time; reading alone never writes."""
        if self._used:
            now = time.time_ns()
            database.executemany(
                "UPDATE results SET used_at = ? WHERE digest = ?", [(now, digest) for digest in self._used]
            )
            self._used.clear()


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=5.0, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = OFF")
    except sqlite3.Error:
        database.close()
        raise
    return database


def _select(database: sqlite3.Connection, digests: Sequence[Digest]) -> list[tuple[Digest, int, bytes]]:
    rows: list[tuple[Digest, int, bytes]] = []
    for start in range(0, len(digests), _TOGETHER):
        some = digests[start : start + _TOGETHER]
        marks = ",".join("?" * len(some))
        rows += database.execute(f"SELECT digest, crc, result FROM results WHERE digest IN ({marks})", some)
    return rows


def _row(digest: Digest, result: Result) -> tuple[Digest, int, int, int, bytes]:
    if result.outcome is not Outcome.SUCCEEDED:
        raise ValueError(f"only succeeded results are cached, not one that {result.outcome}")
    encoded = _encoder.encode(result)
    return digest, time.time_ns(), len(encoded), zlib.crc32(encoded, zlib.crc32(digest)), encoded


def _decode(digest: Digest, crc: int, encoded: bytes) -> Result | None:
    """Return the result, or None when the row is not what was written."""
    if zlib.crc32(encoded, zlib.crc32(digest)) != crc:
        return None
    try:
        result = _decoder.decode(encoded)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return result if result.outcome is Outcome.SUCCEEDED else None


def _totals(database: sqlite3.Connection) -> tuple[int, int]:
    rows, size = database.execute("SELECT count(*), coalesce(sum(bytes), 0) FROM results").fetchone()
    return rows, size
