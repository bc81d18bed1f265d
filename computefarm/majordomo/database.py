"""The success database: what doit remembers of finished tasks, kept while the run goes on.

One SQLite file beside the dodo file. It is read whole, once; changes are written by one thread, in batches,
as tasks end, so that a run killed at any moment keeps what had finished.
A file's state (path, size, time, digest) is stored once however many tasks depend on it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import time
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from computefarm.errors import FarmError, UsageError

from .database_writer import APPLICATION_ID, Sync, Writer, connect


class FileState(NamedTuple):
    """One content that a file had when a task succeeded."""

    path: str
    size: int
    mtime_ns: int
    """When this content was last seen there; -1 when it must be read again."""
    digest: bytes


class Entry:
    """What is remembered of one task."""

    __slots__ = (
        "capability", "checker", "command", "data", "deps", "fingerprint", "inputs", "text", "version",
    )  # fmt: skip

    def __init__(self) -> None:
        self.text = ""
        """`data` as stored; the empty string is an empty table."""
        self.data: dict[str, Any] | None = {}
        """Everything that doit itself keeps; None until it is asked for."""
        self.checker = ""
        self.deps: array[int] = array("I")
        """Ids of the states of `file_dep`."""
        self.inputs: array[int] = array("I")
        """Ids of the states of `needs(inputs=…)`."""
        self.command = ""
        self.capability = ""
        self.fingerprint = ""
        self.version = ""


class Database:
    """doit's backend protocol over SQLite, and a faster door for our own checks."""

    def __init__(self, name: str, codec: Any, *, sync: Sync | None = None) -> None:
        self.name = name
        self.codec = codec
        self.states: dict[int, FileState] = {}
        self.path_of: dict[int, str] = {}
        self._sync = sync
        self._rows: dict[str, tuple[Any, ...]] = {}
        self._entries: dict[str, Entry] = {}
        self._ids: dict[tuple[str, bytes], int] = {}
        self._next_id = 1
        self._dirty: set[str] = set()
        self._writer: Writer | None = None
        self._loaded = False

    # --- the protocol of doit's backends -------------------------------------------------------------

    def get(self, task_id: str, dependency: str) -> Any:
        """Return one saved value, or None."""
        entry = self.entry(task_id)
        if entry is None:
            return None
        if dependency == "checker:":
            return entry.checker or None
        data = self.data(entry)
        if dependency in data or not entry.deps:
            return data.get(dependency)
        if dependency == "deps:":
            return [self.path_of[i] for i in entry.deps]
        for i in entry.deps:
            if self.path_of[i] == dependency:
                state = self.states[i]
                return [state.mtime_ns / 1e9, state.size, state.digest.hex()]
        return None

    def set(self, task_id: str, dependency: str, value: Any) -> None:
        """Remember one value; `commit` or `dump` writes it."""
        entry = self.entry(task_id) or self._new(task_id)
        if dependency == "checker:":
            entry.checker = value
        else:
            self.data(entry)[dependency] = value
        self._dirty.add(task_id)

    def in_(self, task_id: str) -> bool:
        """Say whether anything is known of a task."""
        return self.entry(task_id) is not None

    def remove(self, task_id: str) -> None:
        """Forget one task."""
        self._load()
        known = self._entries.pop(task_id, None) is not None
        known = self._rows.pop(task_id, None) is not None or known
        self._dirty.discard(task_id)
        if known:
            self._write(("remove", (task_id,)))

    def remove_all(self) -> None:
        """Forget everything."""
        self._load()
        self._rows.clear()
        self._entries.clear()
        self._dirty.clear()
        self._write(("clear", ()))

    def dump(self) -> None:
        """Write what is left and let go of the file."""
        for task_id in sorted(self._dirty):
            self.commit(task_id)
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.close()

    # --- our own door --------------------------------------------------------------------------------

    def row(self, task_id: str) -> tuple[Any, ...] | None:
        """Return a task's row as it was read, None when there is none or it has been opened as an entry."""
        if not self._loaded:
            self._load()
        return self._rows.get(task_id)

    def entry(self, task_id: str) -> Entry | None:
        """Return what is known of a task."""
        entry = self._entries.get(task_id)
        if entry is not None:
            return entry
        if not self._loaded:
            self._load()
        row = self._rows.pop(task_id, None)
        if row is None:
            return None
        entry = self._entries[task_id] = Entry()
        _, entry.text, entry.checker, deps, inputs, *rest = row
        entry.data = None
        entry.command, entry.capability, entry.fingerprint, entry.version = rest
        entry.deps.frombytes(deps)
        if inputs:
            entry.inputs.frombytes(inputs)
        return entry

    def _new(self, task_id: str) -> Entry:
        entry = self._entries[task_id] = Entry()
        return entry

    def edit(self, task_id: str) -> Entry:
        """Return the entry of a task, a new one when there is none; `commit` writes it."""
        self._dirty.add(task_id)
        return self.entry(task_id) or self._new(task_id)

    def data(self, entry: Entry) -> dict[str, Any]:
        """Return what doit keeps in an entry."""
        if entry.data is None:
            entry.data = {}
            if entry.text:
                # A damaged text means a task that runs once more, no worse.
                with contextlib.suppress(ValueError):
                    decoded = self.codec.decode(entry.text)
                    entry.data = decoded if isinstance(decoded, dict) else {}
        return entry.data

    def names(self) -> Iterator[str]:
        """Yield all tasks of which something is known."""
        self._load()
        yield from list(self._rows)
        yield from list(self._entries)

    def toolchains(self, capability: str) -> dict[tuple[str, str], int]:
        """Count the results of `capability` by (fingerprint, version)."""
        counts: dict[tuple[str, str], int] = {}
        self._load()
        known = [(row[6], row[7], row[8]) for row in self._rows.values()]
        known += [(e.capability, e.fingerprint, e.version) for e in self._entries.values()]
        for name, fingerprint, version in known:
            if name == capability and fingerprint:
                counts[fingerprint, version] = counts.get((fingerprint, version), 0) + 1
        return counts

    def state_id(self, state: FileState) -> int:
        """Return the number of a file's state, a new one when it was never seen."""
        if not self._ids and self.states:
            self._ids = {(s.path, s.digest): i for i, s in self.states.items()}
        key = (state.path, state.digest)
        number = self._ids.get(key)
        if number is not None:
            if self.states[number].mtime_ns != state.mtime_ns:
                self.touch(number, state.mtime_ns)
            return number
        number, self._next_id = self._next_id, self._next_id + 1
        self._ids[key] = number
        self.states[number] = state
        self.path_of[number] = state.path
        self._write(("file", (number, *state)))
        return number

    def touch(self, number: int, mtime_ns: int) -> None:
        """Remember that the content of a known state was seen again, at another time."""
        self.states[number] = self.states[number]._replace(mtime_ns=mtime_ns)
        self._write(("touch", (mtime_ns, number)))

    def commit(self, task_id: str, sync: Sequence[str] = ()) -> None:
        """Write a task's entry soon, after making the files in `sync` durable."""
        self._dirty.discard(task_id)
        entry = self._entries.get(task_id)
        if entry is None:
            return
        if entry.data is not None:
            entry.text = self.codec.encode(entry.data) if entry.data else ""
        row = (
            task_id, entry.text, entry.checker, entry.deps.tobytes(), entry.inputs.tobytes(),
            entry.command, entry.capability, entry.fingerprint, entry.version,
        )  # fmt: skip
        self._write(("task", row), sync)

    # --- the file ------------------------------------------------------------------------------------

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        if not os.path.exists(self.name):
            return
        try:
            self._read()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and "malformed" not in str(error):
                raise FarmError(f"cannot read {os.path.abspath(self.name)}: {error}") from error
            self._move_aside(error)

    def _read(self) -> None:
        connection = connect(self.name)
        try:
            mark = connection.execute("pragma application_id").fetchone()[0]
            tables = {row[0] for row in connection.execute("select name from sqlite_master")}
            if mark != APPLICATION_ID and tables:
                raise UsageError(
                    f"{os.path.abspath(self.name)} is not a database of majordomo's",
                    hint="name another file with --db-file",
                )
            if not {"tasks", "files"} <= tables:
                return
            numbers = [row[0] for row in connection.execute("select id from files order by id")]
            query = "select path, size, mtime_ns, digest from files order by id"
            self.states = dict(zip(numbers, map(FileState._make, connection.execute(query)), strict=True))
            self.path_of = {number: state[0] for number, state in self.states.items()}
            self._next_id = max(numbers, default=0) + 1
            rows = connection.execute(
                "select task, data, checker, deps, inputs, command, capability, fingerprint, version"
                " from tasks"
                # A row of the wrong shape is a task that runs once more: it must not bring the run down.
                " where typeof(deps) = 'blob' and typeof(inputs) = 'blob'"
                " and length(deps) % 4 = 0 and length(inputs) % 4 = 0"
            ).fetchall()
            self._rows = {row[0]: row for row in rows}
        finally:
            connection.close()

    def _move_aside(self, error: Exception) -> None:
        self.states, self.path_of, self._rows = {}, {}, {}
        self._next_id = 1
        aside = f"{self.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}"
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.replace(self.name + suffix, aside + suffix)
        sys.stderr.write(
            f"majordomo: the success database {self.name} is damaged ({error}); "
            f"moved to {aside}, all tasks count as not yet run\n"
        )

    def _write(self, operation: tuple[str, tuple[Any, ...]], sync: Sequence[str] = ()) -> None:
        if self._writer is None:
            self._load()
            self._writer = Writer(self.name, self._sync)
        self._writer.put(operation, sync)
