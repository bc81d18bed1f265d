"""Digests of the user's files, remembered by path, size, modification time and inode."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat as modes
import time
from pathlib import Path

import msgspec

from computefarm.errors import TaskError
from computefarm.messages import Digest, FileEntry

from .copying import read_open

RACY_NS = 2_000_000_000
"""A file changed so shortly before it was hashed may change again without its times showing it."""

KEEP_S = 60 * 24 * 3600
"""Files not asked for so long are left out when the cache is saved."""

_VERSION = 1
_ATTEMPTS = 3
_SMALL = 64 * 1024


class _Known(msgspec.Struct, array_like=True, gc=False):
    """What was found when a file was last hashed."""

    mtime_ns: int
    size: int
    inode: int
    digest: Digest
    racy: bool
    seen_at: int
    """Wall-clock seconds, of the last run that asked."""


class _Saved(msgspec.Struct, array_like=True):
    version: int
    files: dict[str, _Known]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Saved)


class DigestCache:
    """The digests of one project's files, kept in the file `path` between runs (in memory only without it).

    Every method may be called from any thread. A file that cannot be read, is not a regular one,
    or does not hold still raises `TaskError`.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = Path(path) if path is not None else None
        self._known: dict[str, _Known] = {}
        self._entries: dict[str, tuple[_Known, FileEntry]] = {}
        self._now = int(time.time())
        self._changed = False
        if self._path is not None:
            self._known = _load(self._path)

    def __len__(self) -> int:
        return len(self._known)

    def entry(self, path: str | Path, relative: str) -> FileEntry:
        """Return `path`, links followed, as the file `relative` of a task."""
        name = path if path.__class__ is str else os.fspath(path)
        try:
            stat = os.stat(name)
        except OSError as error:
            raise TaskError(f"cannot read {relative}: {error.strerror}") from error
        return self.entry_of(name, relative, stat)

    def entry_of(self, name: str, relative: str, stat: os.stat_result) -> FileEntry:
        """Return `entry` for a file whose `os.stat` is at hand."""
        pair = self._entries.get(name)
        if pair is not None:
            known, entry = pair
            if (
                known.mtime_ns == stat.st_mtime_ns
                and known.inode == stat.st_ino
                and known.size == stat.st_size
                and not known.racy
                and entry.executable == (stat.st_mode & 0o111 != 0)
                and entry.path == relative
            ):
                return entry
        known = self._current(name, stat)
        entry = FileEntry(relative, known.digest, known.size, stat.st_mode & 0o111 != 0)
        self._entries[name] = known, entry
        return entry

    def digest(self, path: str | Path, stat: os.stat_result | None = None) -> Digest:
        """Return the digest of a file's content; `stat` is its `os.stat` if that is at hand."""
        name = path if path.__class__ is str else os.fspath(path)
        if stat is None:
            try:
                stat = os.stat(name)
            except OSError as error:
                raise TaskError(f"cannot read {name}: {error.strerror}") from error
        return self._current(name, stat).digest

    def save(self) -> None:
        """Write the cache, atomically, if anything changed; a cache that cannot be written is no error."""
        if self._path is None or not self._changed:
            return
        self._changed = False
        oldest = self._now - KEEP_S
        files = {name: known for name, known in list(self._known.items()) if known.seen_at >= oldest}
        part = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            part.write_bytes(_encoder.encode(_Saved(_VERSION, files)))
            os.replace(part, self._path)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink()

    def _current(self, name: str, stat: os.stat_result) -> _Known:
        """Return what is known of the file as it is now; hash it if that is not enough."""
        known = self._known.get(name)
        if (
            known is None
            or known.mtime_ns != stat.st_mtime_ns
            or known.inode != stat.st_ino
            or known.size != stat.st_size
            or known.racy
        ):
            known = self._known[name] = _hash(name, self._now)
            self._changed = True
        elif known.seen_at != self._now:
            # A file in use stays in the cache; that alone is worth writing once a day.
            self._changed = self._changed or self._now - known.seen_at > 86_400
            known.seen_at = self._now
        return known


def _load(path: Path) -> dict[str, _Known]:
    """Return the saved cache; an unreadable or foreign one counts as empty."""
    try:
        saved = _decoder.decode(path.read_bytes())
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return {}
    return saved.files if saved.version == _VERSION else {}


def _hash(name: str, seen_at: int) -> _Known:
    """Hash a file that holds still meanwhile."""
    try:
        for _ in range(_ATTEMPTS):
            known = _hash_once(name, seen_at)
            if known is not None:
                return known
    except OSError as error:
        raise TaskError(f"cannot read {name}: {error.strerror}") from error
    raise TaskError(f"{name} is being written to while it is read; try again when its writer has ended")


def _hash_once(name: str, seen_at: int) -> _Known | None:
    source = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        began = time.time_ns()
        before = os.fstat(source)
        if not modes.S_ISREG(before.st_mode):
            kind = "a folder: name the files in it" if modes.S_ISDIR(before.st_mode) else "not a regular file"
            raise TaskError(f"{name} is {kind}")
        digest = _digest_open(source, before.st_size)
        after = os.fstat(source)
    finally:
        os.close(source)
    if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
        return None
    # A modification time in the future proves nothing; then the time of the last change of any kind must.
    racy = after.st_mtime_ns > began - RACY_NS and after.st_ctime_ns > began - RACY_NS
    return _Known(after.st_mtime_ns, after.st_size, after.st_ino, digest, racy, seen_at)


def _digest_open(source: int, size: int) -> Digest:
    if size <= _SMALL:
        return hashlib.sha256(read_open(source, size)).digest()
    with open(source, "rb", buffering=0, closefd=False) as file:
        return hashlib.file_digest(file, "sha256").digest()
