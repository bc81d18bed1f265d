"""Files by content: a folder of blobs, each named by the sha256 of its bytes.

A blob is written under a temporary name and renamed into place, without syncing: its digest is checked
on use instead, so a blob that a crash, a disk or a stray process has changed is never passed on.
Several processes may share one folder; what one of them evicts, another has to fetch again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from computefarm.errors import Damaged, StoreError
from computefarm.messages import Digest

from .claims import Claim, sweep
from .copying import clone, copy, copy_hashed, hash_open, read_open, store_error, write_at
from .index import Blob, BlobIndex, Identity
from .writer import BlobWriter

SMALL = 64 * 1024
"""Bytes; blobs up to this size are hashed on every use, which costs less than remembering safely."""

INLINE = 1024 * 1024
"""Bytes; files up to this size are read into memory to be stored."""

TOUCH_EVERY_S = 600.0
"""How old the use recorded on disk may get."""

RESCAN_EVERY_S = 600.0
"""How long another process's blobs may go uncounted against the limit."""

EVICT_TO = 0.9
"""Eviction frees space down to this part of the limit, so that it is not needed again at once."""

BACKDATE_NS = 2_000_000_000
"""A stored file's mtime is set so far back; a write within the clock's tick is then seen as one."""

_PARTS = ".part-"
_LEFTOVER_S = 60.0
_BROKEN = frozenset({errno.EIO, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EBADMSG})
"""Failures that will not pass; being short of descriptors or memory will."""

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW

OnLost = Callable[[tuple[Digest, ...]], None]


class BlobStore:
    """The blobs under `root`; every method may be called from any thread.

    Every method that reads or writes raises `StoreError`: `Damaged` when bytes do not have the digest that
    names them or the file has vanished, a plain one when a blob was never here, or the disk is full.
    `on_lost` is told, from the thread that noticed, which blobs were evicted or found damaged.
    """

    def __init__(
        self, root: Path, *, limit_bytes: int | None = None, on_lost: OnLost | None = None
    ) -> None:
        self.root = Path(root)
        self.limit_bytes = limit_bytes
        self.on_lost = on_lost
        self._base = os.fspath(self.root)
        self._index = BlobIndex()
        self._places = threading.Lock()
        """Held while a name appears or disappears, so that the index agrees with the disk."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            sweep(self.root, _PARTS, older_than_s=_LEFTOVER_S)
            self._claim = Claim(self.root, _PARTS)
        except OSError as error:
            raise store_error(error, self.root, "open the store") from error
        self._parts = os.fspath(self._claim.path)
        self._numbers = itertools.count()
        self.rescan()

    def close(self) -> None:
        """Remove what was being written. The blobs stay."""
        self._claim.close()

    # --- what is here -----------------------------------------------------------------------------------

    def __contains__(self, digest: object) -> bool:
        return digest in self._index

    def __len__(self) -> int:
        return len(self._index)

    @property
    def total_bytes(self) -> int:
        """Sum of the sizes of all blobs known here."""
        return self._index.total_bytes

    def size(self, digest: Digest) -> int:
        """Return the size of a blob in bytes."""
        return self._known(digest).size

    def path(self, digest: Digest) -> str:
        """Return where a blob is or would be; for messages, not for reading: nothing is verified."""
        name = digest.hex()
        return f"{self._base}/{name[:2]}/{name}"

    def refresh(self, digest: Digest) -> bool:
        """Look on disk for a blob that another process may have put or removed; tell whether it is there."""
        with self._places:
            try:
                found = os.lstat(self.path(digest))
            except OSError:
                found = None
            if found is not None:
                self._index.add(digest, found.st_size, found.st_mtime)
                return True
            lost = self._index.discard(digest)
        if lost:
            self._tell((digest,))
        return False

    def rescan(self) -> None:
        """Read the folder again: learn what other processes added and removed."""
        self._scanned_at = time.monotonic()
        before = set(self._index.digests())
        for shard in _folders(self._base):
            for entry in _files(shard):
                name = entry.name
                digest = bytes.fromhex(name) if len(name) == 64 and _is_hex(name) else b""
                if not digest:
                    continue
                before.discard(digest)
                if digest not in self._index:
                    self.refresh(digest)
        for digest in before:
            self.refresh(digest)

    # --- putting in -------------------------------------------------------------------------------------

    def add_bytes(self, data: bytes) -> Digest:
        """Store `data`."""
        digest = hashlib.sha256(data).digest()
        if self._holds(digest, data):
            return digest
        part = self._part_name()
        try:
            target = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
            try:
                write_at(target, data, 0)
                self._backdate(target, len(data))
            finally:
                os.close(target)
            self._publish(part, digest, len(data))
        except OSError as error:
            _forget(part)
            raise store_error(error, self.root, _doing("store", digest, len(data))) from error
        return digest

    def add_file(self, path: str | Path) -> Digest:
        """Store the content of the regular file at `path`, as it is while it is read."""
        try:
            source = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror}") from error
        try:
            if not stat.S_ISREG(os.fstat(source).st_mode):
                raise StoreError(f"cannot store {path}: not a regular file")
            return self.add_open(source)[0]
        finally:
            os.close(source)

    def add_open(self, source: int) -> tuple[Digest, int]:
        """Store the content of an open regular file; return its digest and size."""
        try:
            size = os.fstat(source).st_size
            if size <= INLINE:
                data = read_open(source, size)
                return self.add_bytes(data), len(data)
        except OSError as error:
            raise StoreError(f"cannot read a file to store: {error.strerror}") from error
        part = self._part_name()
        try:
            target = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
            try:
                # Hash what was stored, not what might change meanwhile.
                digest, size = hash_open(target) if clone(source, target) else copy_hashed(source, target)
                self._backdate(target, size)
            finally:
                os.close(target)
            self._place(part, digest, size)
        except OSError as error:
            _forget(part)
            raise store_error(error, self.root, f"store a file of {size:,} bytes") from error
        return digest, size

    def adopt_open(self, source: int, path: str) -> tuple[Digest, int]:
        """Store an open regular file that nobody else needs, without copying if it is large.

        `path` is where it was opened; the name is taken away if the file itself becomes the blob.
        """
        found = os.fstat(source)
        if found.st_size <= INLINE or found.st_nlink != 1:
            return self.add_open(source)
        part = self._part_name()
        try:
            # Linking the open file, not its name: what was checked is what is taken.
            # Only with a folder descriptor does Python ask for the link to be followed.
            os.link(f"/proc/self/fd/{source}", os.path.basename(part), dst_dir_fd=self._claim.folder)
        except OSError:
            return self.add_open(source)  # another file system, or another kind of Unix
        try:
            os.unlink(path)
            os.fchmod(source, 0o444)
            self._backdate(source, found.st_size)
            digest, size = hash_open(source)
            if os.fstat(source).st_nlink != 1:
                _forget(part)  # it has another name, through which it could still be changed
                return self.add_open(source)
            self._place(part, digest, size)
        except OSError as error:
            _forget(part)
            raise store_error(error, self.root, f"store a file of {found.st_size:,} bytes") from error
        return digest, size

    def writer(self, digest: Digest, size: int) -> BlobWriter:
        """Return a place for the chunks of a blob that is on its way."""
        return BlobWriter(digest, size, Path(self._part_name()), self._take_part)

    def _take_part(self, part: Path, target: int, digest: Digest, size: int) -> None:
        self._backdate(target, size)
        self._place(os.fspath(part), digest, size)

    def _holds(self, digest: Digest, data: bytes) -> bool:
        """Tell whether `data` is on disk already, undamaged."""
        if len(data) > SMALL:
            return self._trusts(digest)
        try:
            source = os.open(self.path(digest), _READ)
        except OSError:
            return False
        try:
            same = read_open(source, len(data)) == data
        except OSError:
            same = False
        finally:
            os.close(source)
        return same and self.refresh(digest)

    def _trusts(self, digest: Digest) -> bool:
        """Tell whether a large blob's file is the one that was last verified."""
        blob = self._index.get(digest)
        if blob is None or blob.identity is None:
            return False
        try:
            return _identity(os.lstat(self.path(digest))) == blob.identity
        except OSError:
            return False

    def _part_name(self) -> str:
        return f"{self._parts}/.{next(self._numbers)}"

    def _place(self, part: str, digest: Digest, size: int) -> None:
        """Publish a part unless its content is surely here already."""
        if size > SMALL and self._trusts(digest):
            _forget(part)
        else:
            self._publish(part, digest, size)

    def _publish(self, part: str, digest: Digest, size: int) -> None:
        """Rename a verified part to its name."""
        path = self.path(digest)
        with self._places:
            try:
                os.rename(part, path)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
                os.rename(part, path)
            identity = _identity(os.lstat(path)) if size > SMALL else None
            self._index.add(digest, size, time.time(), identity)

    @staticmethod
    def _backdate(target: int, size: int) -> None:
        if size > SMALL:
            now = time.time_ns()
            os.utime(target, ns=(now, now - BACKDATE_NS))

    # --- taking out -------------------------------------------------------------------------------------

    def read(self, digest: Digest, offset: int = 0, length: int | None = None) -> bytes:
        """Return `length` bytes (fewer at the end) of a blob from `offset`; verified."""
        blob = self._known(digest)
        end = blob.size if length is None else offset + length
        if blob.size <= SMALL:
            return self._load(digest, blob)[offset:end]
        source = self._open(digest, blob)
        try:
            return os.pread(source, max(0, min(end, blob.size) - offset), offset)
        finally:
            os.close(source)

    def open_verified(self, digest: Digest) -> BinaryIO:
        """Return a verified blob, open for reading."""
        return os.fdopen(self._open(digest, self._known(digest)), "rb")

    def copy_to(self, digest: Digest, dest_path: str | Path, executable: bool = False) -> None:
        """Lay a verified blob out as a file of its own, mode 0644 or 0755, writable without harm to the blob.

        Reflinked where the file system can, else copied; never linked. An existing file is replaced.
        """
        try:
            mode = 0o755 if executable else 0o644
            target = _create(dest_path, mode)
        except OSError as error:
            raise store_error(error, Path(dest_path).parent, f"create {Path(dest_path).name}") from error
        try:
            self.copy_into(digest, target, Path(dest_path).parent)
            if os.fstat(target).st_mode & 0o7777 != mode:
                os.fchmod(target, mode)  # the umask took something away
        except BaseException:
            _forget(dest_path)
            raise
        finally:
            os.close(target)

    def copy_into(self, digest: Digest, target: int, where: Path | None = None) -> None:
        """Fill the empty open file `target`, which is in the folder `where`, with a verified blob."""
        blob = self._known(digest)
        if blob.size <= SMALL:
            data = self._load(digest, blob)
            try:
                write_at(target, data, 0)
            except OSError as error:
                raise store_error(error, where or self.root, _doing("copy", digest, blob.size)) from error
            return
        source = self._open(digest, blob)
        try:
            before = os.fstat(source)
            if not clone(source, target):
                copy(source, target)
            if _identity(os.fstat(source)) != _identity(before):
                self._check(digest, blob, source)  # it was changed, or only touched, meanwhile
                os.ftruncate(target, 0)
                copied, _ = copy_hashed(source, target)
                if copied != digest:
                    raise self._lose(digest, source, "was changed while it was copied")
        except OSError as error:
            raise store_error(error, where or self.root, _doing("copy", digest, blob.size)) from error
        finally:
            os.close(source)

    def _known(self, digest: Digest) -> Blob:
        blob = self._index.get(digest)
        if blob is None and self.refresh(digest):
            blob = self._index.get(digest)
        if blob is None:
            raise StoreError(f"blob {digest.hex()} is not in the store {self.root}")
        return blob

    def _load(self, digest: Digest, blob: Blob) -> bytes:
        """Return all bytes of a small blob, verified."""
        source = self._open_unverified(digest)
        try:
            data = read_open(source, blob.size)
            if hashlib.sha256(data).digest() != digest:
                raise self._lose(digest, source, "is damaged")
            self._used(blob, source)
        except OSError as error:
            raise self._unreadable(digest, error) from error
        finally:
            os.close(source)
        return data

    def _open(self, digest: Digest, blob: Blob) -> int:
        """Return a descriptor of a blob's file, verified, at its start."""
        source = self._open_unverified(digest)
        try:
            if _identity(os.fstat(source)) != blob.identity:
                self._check(digest, blob, source)
            self._used(blob, source)
            os.lseek(source, 0, os.SEEK_SET)
        except OSError as error:
            os.close(source)
            raise self._unreadable(digest, error) from error
        except BaseException:
            os.close(source)
            raise
        return source

    def _check(self, digest: Digest, blob: Blob, source: int) -> None:
        """Hash the whole blob and remember that this file, as it is now, is right."""
        before = _identity(os.fstat(source))
        if hash_open(source)[0] != digest:
            raise self._lose(digest, source, "is damaged")
        if blob.size > SMALL and _identity(os.fstat(source)) == before:
            blob.identity = before

    def _open_unverified(self, digest: Digest) -> int:
        try:
            return os.open(self.path(digest), _READ)
        except OSError as error:
            raise self._unreadable(digest, error) from error

    def _used(self, blob: Blob, source: int) -> None:
        """Note the use in memory, and now and then on disk for the time after a restart."""
        now = time.time()
        blob.used_at = now
        if now - blob.touched_at < TOUCH_EVERY_S:
            return
        blob.touched_at = now
        trusted = blob.identity is not None and blob.identity == _identity(os.fstat(source))
        try:
            os.utime(source, ns=(int(now * 1e9), int(now * 1e9) - BACKDATE_NS))
        except OSError:
            return  # not ours to touch: the store works without
        if trusted:
            blob.identity = _identity(os.fstat(source))

    def _unreadable(self, digest: Digest, error: OSError) -> StoreError:
        """Return the error for a blob that cannot be opened or read; lose it where the blob is to blame."""
        if error.errno == errno.ENOENT:
            return self._lose(digest, None, "has vanished")
        if error.errno in _BROKEN:
            return self._lose(digest, None, f"cannot be read ({error.strerror})")
        return StoreError(f"cannot read blob {digest.hex()} in {self.root}: {error.strerror}")

    def _lose(self, digest: Digest, source: int | None, what: str) -> Damaged:
        """Forget a blob that cannot be used, remove its file if it is the one in hand; return the error."""
        path = self.path(digest)
        with self._places:
            lost = self._index.discard(digest)
            try:
                if source is None or os.path.samestat(os.lstat(path), os.fstat(source)):
                    os.unlink(path)
            except OSError:
                pass  # gone already
        if lost:
            self._tell((digest,))
        return Damaged(f"blob {digest.hex()} in {self.root} {what}; it is removed and must be fetched again")

    def _tell(self, digests: tuple[Digest, ...]) -> None:
        if self.on_lost is not None and digests:
            self.on_lost(digests)

    # --- making room ------------------------------------------------------------------------------------

    def pin(self, digests: Iterable[Digest]) -> None:
        """Keep these from eviction, here or yet to come, until as many `unpin`s. Pin first, then look."""
        self._index.pin(digests)

    def unpin(self, digests: Iterable[Digest]) -> None:
        """End one `pin` of each."""
        self._index.unpin(digests)

    def evict(self) -> tuple[Digest, ...]:
        """When over the limit, remove the least recently used unpinned blobs; return which."""
        if self.limit_bytes is None:
            return ()
        if time.monotonic() - self._scanned_at > RESCAN_EVERY_S:
            self.rescan()
        if self.total_bytes <= self.limit_bytes:
            return ()
        gone: list[Digest] = []
        for digest in self._index.least_recently_used():
            if self.total_bytes <= self.limit_bytes * EVICT_TO:
                break
            if self._remove_unpinned(digest):
                gone.append(digest)
        self._tell(tuple(gone))
        return tuple(gone)

    def _remove_unpinned(self, digest: Digest) -> bool:
        part = self._part_name()
        with self._places:
            if not self._index.discard(digest, even_pinned=False):
                return False
            try:
                os.rename(self.path(digest), part)
            except OSError:
                return True  # another process was faster
        _forget(part)  # a large file takes its time to go
        return True


def _identity(found: os.stat_result) -> Identity:
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _forget(part: str | Path) -> None:
    with contextlib.suppress(OSError):
        os.unlink(part)


def _create(path: str | Path, mode: int) -> int:
    """Open a new file of our own, never through a link; replace what has the name."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags, mode)
    except FileExistsError:
        os.unlink(path)
        return os.open(path, flags, mode)


def _doing(verb: str, digest: Digest, size: int) -> str:
    return f"{verb} blob {digest.hex()[:12]}… of {size:,} bytes"


def _is_hex(name: str) -> bool:
    return all(letter in "0123456789abcdef" for letter in name)


def _folders(base: str) -> list[str]:
    with os.scandir(base) as entries:
        return [e.path for e in entries if len(e.name) == 2 and e.is_dir(follow_symlinks=False)]


def _files(shard: str) -> list[os.DirEntry[str]]:
    with os.scandir(shard) as entries:
        return list(entries)
