"""The blobs of one folder, each named by the sha256 of its bytes, and verified whenever it is read."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from computefarm.errors import Damaged, StoreError
from computefarm.messages import Digest

from .copying import hash_open, read_open, store_error
from .index import Blob, BlobIndex, Identity

SMALL = 64 * 1024
"""Bytes; blobs up to this size are hashed on every use, which costs less than remembering safely."""

TOUCH_EVERY_S = 300.0
"""How old the use recorded on disk may get."""

BACKDATE_NS = 2_000_000_000
"""A blob's mtime is set so far back; a write within the clock's tick is then seen as one."""

READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW

OnLost = Callable[[tuple[Digest, ...]], None]

_BROKEN = frozenset({errno.EIO, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EBADMSG})
"""Failures that will not pass; being short of descriptors or memory will."""


class Shelf:
    """The reading half of a store: what is there, and its bytes, verified.

    `on_lost` is told, from the thread that noticed, which blobs can no longer be had.
    """

    def __init__(self, root: Path, on_lost: OnLost | None) -> None:
        self.root = Path(root)
        self.on_lost = on_lost
        self._base = os.fspath(self.root)
        self._index = BlobIndex()
        self._places = threading.Lock()
        """Held while a name appears or disappears, so that the index agrees with the disk."""
        self._scanned_at = 0.0

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
        unseen = set(self._index.digests())
        try:
            for digest, size, changed_at in _scan(self._base):
                unseen.discard(digest)
                if digest not in self._index:
                    self._index.add(digest, size, changed_at)
        except OSError as error:
            raise store_error(error, self.root, "read the store") from error
        for digest in unseen:
            self.refresh(digest)

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
            if identity_of(os.fstat(source)) != blob.identity:
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
        before = identity_of(os.fstat(source))
        if hash_open(source)[0] != digest:
            raise self._lose(digest, source, "is damaged")
        if blob.size > SMALL and identity_of(os.fstat(source)) == before:
            blob.identity = before

    def _open_unverified(self, digest: Digest) -> int:
        try:
            return os.open(self.path(digest), READ)
        except OSError as error:
            raise self._unreadable(digest, error) from error

    def _used(self, blob: Blob, source: int) -> None:
        """Note the use in memory, and now and then on disk for the time after a restart."""
        now = time.time()
        blob.used_at = now
        if now - blob.touched_at < TOUCH_EVERY_S:
            return
        blob.touched_at = now
        trusted = blob.identity is not None and blob.identity == identity_of(os.fstat(source))
        try:
            os.utime(source, ns=(int(now * 1e9), int(now * 1e9) - BACKDATE_NS))
        except OSError:
            return  # not ours to touch: the store works without
        if trusted:
            blob.identity = identity_of(os.fstat(source))

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


def identity_of(found: os.stat_result) -> Identity:
    """Return what changes whenever a file's content does."""
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _scan(base: str) -> Iterator[tuple[Digest, int, float]]:
    """Yield every blob's digest, size and time of last recorded use."""
    with os.scandir(base) as folders:
        shards = [e.path for e in folders if len(e.name) == 2 and e.is_dir(follow_symlinks=False)]
    for shard in shards:
        with os.scandir(shard) as files:
            for file in files:
                digest = _digest_of(file.name)
                if digest is None:
                    continue
                with contextlib.suppress(FileNotFoundError):  # another process evicts
                    found = file.stat(follow_symlinks=False)
                    if stat.S_ISREG(found.st_mode):
                        yield digest, found.st_size, found.st_mtime


def _digest_of(name: str) -> Digest | None:
    """Return the digest that a file name spells; None for any other name."""
    try:
        digest = bytes.fromhex(name)
    except ValueError:
        return None
    return digest if len(digest) == 32 and digest.hex() == name else None
