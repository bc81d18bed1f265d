"""What files are like now, looked at once: the base of every up-to-date check."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from doit.dependency import FileChangedChecker

from computefarm.errors import FarmError
from computefarm.store.digests import DigestCache

from .database import Database, FileState

Digester = Callable[[str, os.stat_result], tuple[bytes, int]]
"""Return the sha256 of a file's content and its size; raise `FarmError` when it cannot be read."""

RACE_NS = 20_000_000
"""A file written less than this before it was digested may change again without a new time."""


class Digests:
    """The project's digest cache, opened when the first file has to be read."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._cache: DigestCache | None = None

    def __call__(self, path: str, found: os.stat_result) -> tuple[bytes, int]:
        """Return the digest and size of a file's content as it is now, perhaps newer than `found`."""
        if self._cache is None:
            self._cache = DigestCache(self._path)
        entry = self._cache.entry_of(path, path, found)
        return entry.digest, entry.size

    def save(self) -> None:
        """Keep what was learnt for the next run."""
        if self._cache is not None:
            self._cache.save()


class Files:
    """The state of each file, looked at once a run until something may have written it."""

    def __init__(self, database: Database, digest: Digester) -> None:
        self._database = database
        self._digest = digest
        self._stats: dict[str, os.stat_result | None] = {}
        self._states: dict[str, FileState] = {}
        self.fresh: set[int] = set()
        """Numbers of the saved states that hold now."""
        self._stale: set[int] = set()
        self._numbers: dict[str, set[int]] | None = None
        """Saved states by path, made when a first file is forgotten."""
        self._folders: dict[str, set[str]] = {}
        """Names that a listing has shown; one look at a folder instead of one at each of its files."""
        self._asked: dict[str, int] = {}
        self._worth_listing = 16

    def stat(self, path: str) -> os.stat_result | None:
        """Return what the system says of a file, None when it does not exist."""
        try:
            return self._stats[path]
        except KeyError:
            pass
        try:
            found: os.stat_result | None = os.stat(path)
        except OSError:
            found = None
        self._stats[path] = found
        return found

    def exists(self, path: str) -> bool:
        """Say whether a file or folder is there."""
        folder, slash, name = path.rpartition("/")
        folder = folder or slash
        known = self._folders.get(folder)
        if known is not None and name in known:
            return True
        if known is None:
            asked = self._asked[folder] = self._asked.get(folder, 0) + 1
            if asked == self._worth_listing:
                self._folders[folder] = _names_in(folder)
        return self.stat(path) is not None

    def forget(self, paths: Iterable[str] | None = None) -> None:
        """Look again at these files, or at all: a task has run that may have written them."""
        if paths is None:
            self._stats.clear()
            self._states.clear()
            self.fresh.clear()
            self._stale.clear()
            self._numbers = None
            self._asked.clear()
            if self._folders:
                # Tasks keep coming in between: list less eagerly, so that the cost stays bounded.
                self._folders.clear()
                self._worth_listing *= 2
            return
        numbers = self._numbers if self._numbers is not None else self._by_path()
        for path in paths:
            self._stats.pop(path, None)
            folder, slash, name = path.rpartition("/")
            folder = folder or slash
            if folder in self._folders:
                self._folders[folder].discard(name)
            self._states.pop(path, None)
            for number in numbers.pop(path, ()):
                self.fresh.discard(number)
                self._stale.discard(number)

    def _by_path(self) -> dict[str, set[int]]:
        numbers = self._numbers = {}
        for number in (*self.fresh, *self._stale):
            numbers.setdefault(self._database.path_of[number], set()).add(number)
        return numbers

    def holds(self, number: int) -> bool:
        """Say whether a saved state is the file's state now."""
        if number in self.fresh:
            return True
        if number in self._stale:
            return False
        state = self._database.states.get(number)
        if state is None:
            return False
        path, size, mtime_ns, _ = state
        found = self.stat(path)
        if found is None or found.st_size != size:
            same = False
        else:
            same = found.st_mtime_ns == mtime_ns or self._same(number, state)
        (self.fresh if same else self._stale).add(number)
        if self._numbers is not None:
            self._numbers.setdefault(path, set()).add(number)
        return same

    def _same(self, number: int, state: FileState) -> bool:
        """Compare by content."""
        try:
            now = self.state(state.path)
        except OSError:
            return False
        if now.digest != state.digest:
            return False
        # Next time a look at the time is enough.
        self._database.touch(number, now.mtime_ns)
        return True

    def state(self, path: str) -> FileState:
        """Return a file's state with its digest; raise OSError when it cannot be read."""
        known = self._states.get(path)
        if known is not None:
            return known
        found = self.stat(path)
        if found is None:
            raise FileNotFoundError(2, "No such file or directory", path)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(21, "Is a directory", path)
        try:
            digest, size = self._digest(path, found)
        except FarmError as error:
            raise OSError(errno.EIO, str(error), path) from error
        state = FileState(path, size, _settled_time(found), digest)
        self._states[path] = state
        return state


def _names_in(folder: str) -> set[str]:
    """Return what is in a folder, but for links, which may lead nowhere."""
    try:
        with os.scandir(folder or ".") as entries:
            return {entry.name for entry in entries if not entry.is_symlink()}
    except OSError:
        return set()


def _settled_time(found: os.stat_result) -> int:
    """Return the modification time, or -1 when a later write could leave the same one behind."""
    return -1 if time.time_ns() - found.st_mtime_ns < RACE_NS else found.st_mtime_ns


class ContentChecker(FileChangedChecker):
    """doit's checker interface over `Files`: a file has changed when its content has."""

    def __init__(self, files: Files) -> None:
        self.files = files

    def exists(self, file_path: str) -> bool:
        """Say whether a target is there."""
        return self.files.exists(file_path)

    def info(self, file_path: str) -> os.stat_result:
        """Return what the system says of a file."""
        found = self.files.stat(file_path)
        if found is None:
            raise FileNotFoundError(2, "No such file or directory", file_path)
        return found

    def check_modified(self, file_path: str, file_stat: os.stat_result, state: Any) -> bool:
        """Say whether a file differs from `[mtime, size, digest]`."""
        return bool(state[1] != file_stat.st_size or state[2] != self.files.state(file_path).digest.hex())

    def get_state(self, dep: str, current_state: Any) -> tuple[float, int, str]:
        """Return a file's state as `check_modified` takes it."""
        state = self.files.state(dep)
        return state.mtime_ns / 1e9, state.size, state.digest.hex()
