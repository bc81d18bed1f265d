"""Take a task's declared outputs out of its directory and into the store."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator, Sequence
from fnmatch import translate
from pathlib import Path
from typing import NamedTuple

from computefarm.errors import TaskError
from computefarm.messages import FileEntry

from .blobs import BlobStore
from .layout import MAGIC, safe_relative

MAX_FILES = 100_000
"""Files one task may produce."""

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Collected(NamedTuple):
    """What a task produced."""

    entries: tuple[FileEntry, ...]
    """Sorted by path, each path once."""
    missing: tuple[str, ...]
    """Declared outputs of which nothing was found."""


def collect(
    directory: str | Path,
    outputs: Sequence[str],
    store: BlobStore,
    *,
    consume: bool = False,
    max_files: int = MAX_FILES,
) -> Collected:
    """Store the declared `outputs` of the task that ran in `directory`.

    An output is a file, a folder (all files below it) or a pattern of `*`, `**`, `?` and `[]`.
    Links are followed inside the directory; one that leaves it, or anything that is no file or folder,
    is a `TaskError` that names the output.
    An empty folder is an entry of no bytes whose path ends with `/`.
    With `consume`, files are moved into the store, not copied: the directory is not used again.
    """
    if not outputs:
        return Collected((), ())
    try:
        return _Collection(directory, store, consume, max_files).run(outputs)
    except OSError as error:
        raise TaskError(f"outputs cannot be taken from {directory}: {error}") from error


class _Collection:
    """One call of `collect`: first everything is found and checked, then stored."""

    def __init__(self, directory: str | Path, store: BlobStore, consume: bool, max_files: int) -> None:
        self._base = _real(Path(directory))
        self._store = store
        self._consume = consume
        self._max_files = max_files
        self._files: dict[str, str] = {}
        """Paths to take, each with the declared output that asked for it."""
        self._stored: dict[str, FileEntry] = {}
        """What has been moved into the store, by where it was; links may lead there."""
        self._output = ""

    def run(self, outputs: Sequence[str]) -> Collected:
        """Find all, then store all."""
        missing = []
        for output in outputs:
            self._output = output
            if not self._find(safe_relative(output.rstrip("/") or output), output.endswith("/")):
                missing.append(output)
        entries = []
        for path in sorted(self._files):
            self._output = self._files[path]
            if path.endswith("/"):
                entries.append(FileEntry(path, self._store.add_bytes(b""), 0))
            else:
                entries.append(self._store_file(path))
        return Collected(tuple(entries), tuple(missing))

    def _find(self, path: str, must_be_folder: bool) -> bool:
        """Find what one declared output means; False when there is nothing."""
        kind = self._kind(path)
        if kind is None and not MAGIC.isdisjoint(path):
            return self._find_pattern(path)
        if kind is None:
            return False
        if must_be_folder and not stat.S_ISDIR(kind):
            raise TaskError(f"output {self._output} is a file, not a folder")
        self._add(path, kind)
        return True

    def _find_pattern(self, pattern: str) -> bool:
        found = False
        for path in self._expand("", pattern.split("/")):
            kind = self._kind(path)
            if kind is not None:
                self._add(path, kind)
                found = True
        return found

    def _add(self, path: str, kind: int) -> None:
        if stat.S_ISDIR(kind):
            self._add_folder(path, ())
            return
        if not stat.S_ISREG(kind):
            raise TaskError(f"output {self._named(path)} is {_a_kind(kind)}, not a file or folder")
        if path not in self._files:
            if len(self._files) >= self._max_files:
                raise TaskError(
                    f"output {self._output}: more than {self._max_files:,} files; pack them into one archive"
                )
            self._files[safe_relative(path)] = self._output

    def _add_folder(self, path: str, above: tuple[tuple[int, int], ...]) -> None:
        found = os.stat(f"{self._base}/{path}")
        here = found.st_dev, found.st_ino
        if here in above:
            raise TaskError(f"output {self._named(path)} is a link to a folder that holds it, without end")
        names = self._names(path)
        if not names and not above and MAGIC.isdisjoint(self._output):
            # A declared folder comes back even when it is empty; others are made by their files.
            self._files[f"{safe_relative(path)}/"] = self._output
        for name in names:
            inner = f"{path}/{name}"
            kind = self._kind(inner)
            if kind is None:
                raise TaskError(f"output {self._named(inner)} is a link to nothing")
            if stat.S_ISDIR(kind):
                self._add_folder(inner, (*above, here))
            else:
                self._add(inner, kind)

    def _kind(self, path: str) -> int | None:
        """Return the mode of what `path` leads to inside the directory; None when there is nothing."""
        try:
            kind = os.lstat(f"{self._base}/{path}").st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise TaskError(f"output {self._named(path)}: {error.strerror}") from error
        if stat.S_ISREG(kind):
            return kind  # where its folder leads is checked when the file is open
        place = self._resolve(path)
        try:
            return os.lstat(place).st_mode
        except FileNotFoundError:
            return None

    def _resolve(self, path: str) -> str:
        """Follow links, and refuse to be led outside."""
        try:
            place = os.path.realpath(f"{self._base}/{path}")
        except OSError as error:
            raise TaskError(f"output {self._named(path)}: {error.strerror}") from error
        self._check_inside(path, place)
        return place

    def _check_inside(self, path: str, place: str) -> None:
        if place != self._base and not place.startswith(f"{self._base}/"):
            raise TaskError(f"output {self._named(path)} leads outside the task's directory (-> {place})")

    def _store_file(self, path: str) -> FileEntry:
        try:
            source = os.open(f"{self._base}/{path}", _OPEN)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOENT):
                raise TaskError(f"output {self._named(path)}: {error.strerror}") from error
            return self._store_linked(path)
        return self._store_open(path, source)

    def _store_linked(self, path: str) -> FileEntry:
        """Store what a link leads to, unless it is in the store already."""
        place = self._resolve(path)
        stored = self._stored.get(place)
        if stored is not None:
            return FileEntry(path, stored.digest, stored.size, stored.executable)
        try:
            return self._store_open(path, os.open(place, _OPEN))
        except OSError as error:
            raise TaskError(f"output {self._named(path)}: {error.strerror}") from error

    def _store_open(self, path: str, source: int) -> FileEntry:
        try:
            found = os.fstat(source)
            if not stat.S_ISREG(found.st_mode):
                raise TaskError(f"output {self._named(path)} is {_a_kind(found.st_mode)}, not a file")
            place = _place_of(source, f"{self._base}/{path}")
            self._check_inside(path, place)
            if self._consume:
                digest, size = self._store.adopt_open(source, place)
            else:
                digest, size = self._store.add_open(source)
        finally:
            os.close(source)
        entry = FileEntry(path, digest, size, found.st_mode & 0o111 != 0)
        if self._consume:
            self._stored[place] = entry
        return entry

    def _names(self, folder: str) -> list[str]:
        try:
            return sorted(os.listdir(f"{self._base}/{folder}"))
        except OSError as error:
            raise TaskError(f"output {self._named(folder)}: {error.strerror}") from error

    def _expand(self, folder: str, parts: list[str]) -> Iterator[str]:
        """Yield what exists below `folder` and matches the pattern `parts`; hidden names only match a dot."""
        part, rest = parts[0], parts[1:]
        prefix = f"{folder}/" if folder else ""
        if part == "**":
            if rest:
                yield from self._expand(folder, rest)
            for name in self._visible_folders(folder):
                yield from self._expand(prefix + name, parts)
            if not rest:
                yield from (prefix + name for name in self._names(folder) if not name.startswith("."))
            return
        if MAGIC.isdisjoint(part):
            names = [part] if self._kind(prefix + part) is not None else []
        else:
            matches = re.compile(translate(part)).match
            names = [
                name
                for name in self._names(folder)
                if matches(name) and (part.startswith(".") or not name.startswith("."))
            ]
        for name in names:
            if not rest:
                yield prefix + name
            elif stat.S_ISDIR(self._kind(prefix + name) or 0):
                yield from self._expand(prefix + name, rest)

    def _visible_folders(self, folder: str) -> list[str]:
        """Return the real folders in `folder`: `**` does not go through links, so it always ends."""
        return [
            name
            for name in self._names(folder)
            if not name.startswith(".")
            and stat.S_ISDIR(os.lstat(f"{self._base}/{folder}/{name}").st_mode)
        ]

    def _named(self, path: str) -> str:
        return path if path == self._output.rstrip("/") else f"{path} (of {self._output})"


def _real(directory: Path) -> str:
    """Return where a directory really is; asking the kernel is quicker than following the path."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _place_of(opened, os.fspath(directory))
    finally:
        os.close(opened)


def _place_of(source: int, name: str) -> str:
    """Return where an open file really is; a folder may have been swapped for a link meanwhile."""
    try:
        return os.readlink(f"/proc/self/fd/{source}")
    except OSError:
        return os.path.realpath(name)  # not Linux


def _a_kind(kind: int) -> str:
    for test, name in (
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISDIR, "a folder"),
    ):
        if test(kind):
            return name
    return "something else"
