"""Put a task's outputs into the user's project: all written under temporary names first, then renamed."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from computefarm.errors import FarmError, TaskError
from computefarm.messages import FileEntry

from .blobs import BlobStore
from .copying import is_full, store_error
from .layout import safe_relative

Fill = Callable[[FileEntry, int], None]
"""Writes an entry's content into an empty open file, verified; raises `FarmError` or `OSError`."""

_PART = re.compile(r"\.cf-(\d+)-[0-9a-f]{8}-\d+")
_LEFTOVER_S = 60.0


def from_store(store: BlobStore) -> Fill:
    """Return a `Fill` that takes the content from a store on this machine."""
    return lambda entry, target: store.copy_into(entry.digest, target)


class Part:
    """One output on its way: complete under a temporary name, not yet in its place."""

    def __init__(self, entry: FileEntry, part: str, target: str) -> None:
        self.entry = entry
        self.part = part
        self.target = target

    def discard(self) -> None:
        """Remove the temporary file."""
        with contextlib.suppress(OSError):
            os.unlink(self.part)


class Delivery:
    """The way into one project; every method may be called from any thread.

    A path outside the project, also through a link, or one that cannot be written raises `TaskError`.
    """

    def __init__(self, project: Path) -> None:
        self.project = Path(project)
        self._base = os.path.realpath(project)
        self._stem = f".cf-{os.getpid()}-{secrets.token_hex(4)}"
        self._numbers = itertools.count()
        self._tidied: set[str] = set()

    def install(self, entries: Sequence[FileEntry], fill: Fill) -> None:
        """Write every entry with `fill`, then put all of them in place; on an error before that, none."""
        parts: list[Part] = []
        try:
            for entry in entries:
                if entry.path.endswith("/"):
                    self._folder(safe_relative(entry.path[:-1]), entry.path)
                else:
                    parts.append(self._write(entry, fill))
        except BaseException:
            for part in parts:
                part.discard()
            raise
        self._place(parts)

    def _place(self, parts: Sequence[Part]) -> None:
        """Rename all parts into place; the temporary files are gone afterwards, whatever happens."""
        entry = None
        try:
            for part in parts:
                entry = part.entry
                _check_target(part)
            for part in parts:
                entry = part.entry
                os.rename(part.part, part.target)
        except OSError as error:
            name = entry.path if entry else ""
            raise TaskError(f"cannot put output {name} in place: {error.strerror}") from error
        finally:
            for part in parts:
                part.discard()

    def sync(self, paths: Iterable[str]) -> None:
        """Write delivered outputs and their folders through to the disk; slow, so do it in batches."""
        folders = set()
        for path in paths:
            target = f"{self._base}/{safe_relative(path.rstrip('/') or path)}"
            folders.add(os.path.dirname(target))
            _sync(target)
        for folder in folders:
            _sync(folder)

    def _write(self, entry: FileEntry, fill: Fill) -> Part:
        name, target = self._names(entry)
        part = Part(entry, name, target)
        try:
            mode = 0o777 if entry.executable else 0o666  # less what the user's umask takes away
            opened = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            try:
                fill(entry, opened)
            finally:
                os.close(opened)
        except OSError as error:
            part.discard()
            raise self._failure(entry, error) from error
        except BaseException:
            part.discard()
            raise
        return part

    def _names(self, entry: FileEntry) -> tuple[str, str]:
        """Return the temporary and the final name of an entry; its folder exists afterwards."""
        folder, _, name = safe_relative(entry.path).rpartition("/")
        place = self._folder(folder, entry.path) if folder else self._base
        if place not in self._tidied:
            self._tidied.add(place)
            _tidy(place)
        return f"{place}/{self._stem}-{next(self._numbers)}", f"{place}/{name}"

    def _folder(self, folder: str, path: str) -> str:
        """Return the real place of a folder of the project, made if need be."""
        place = os.path.realpath(f"{self._base}/{folder}")
        if not place.startswith(f"{self._base}/") and place != self._base:
            raise TaskError(
                f"output {path} would be written outside the project: {folder} leads to {place}",
                hint="make it a real folder, or run in the folder it leads to",
            )
        if not os.path.isdir(place):
            try:
                os.makedirs(place, exist_ok=True)
            except OSError as error:
                raise TaskError(f"cannot make the folder of output {path}: {error.strerror}") from error
        return place

    def _failure(self, entry: FileEntry, error: OSError) -> FarmError:
        if is_full(error):
            return TaskError(str(store_error(error, self.project, f"write output {entry.path}")))
        return TaskError(f"cannot write output {entry.path}: {error.strerror}")


def _check_target(part: Part) -> None:
    try:
        found = os.lstat(part.target)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(found.st_mode):
        raise TaskError(f"output {part.entry.path} is a folder in the project, and not replaced by a file")


def _sync(path: str) -> None:
    """Sync a file or folder; one that is gone again needs none."""
    try:
        opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        getattr(os, "fdatasync", os.fsync)(opened)
    except OSError as error:
        raise TaskError(f"cannot write {path} through to the disk: {error.strerror}") from error
    finally:
        os.close(opened)


def _tidy(folder: str) -> None:
    """Remove temporary files that processes now dead have left."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            _remove_leftover(f"{folder}/{name}", name)


def _remove_leftover(path: str, name: str) -> None:
    match = _PART.fullmatch(name)
    if match is None or time.time() - os.lstat(path).st_mtime < _LEFTOVER_S:
        return
    try:
        os.kill(int(match[1]), 0)
    except ProcessLookupError:
        os.unlink(path)
    except (OSError, OverflowError):
        return  # alive
