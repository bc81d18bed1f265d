"""Files by content: a folder of blobs, each named by the sha256 of its bytes.

A blob is written under a temporary name and renamed into place, without syncing: its digest is checked
on use instead, so a blob that a crash, a disk or a stray process has changed is never passed on.
Several processes may share one folder. Pins are each process's own, so what any of them used lately is not
evicted while there is room; what is evicted all the same, another has to fetch again.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from pathlib import Path

from computefarm.errors import StoreError
from computefarm.messages import Digest

from .copying import clone, copy, copy_hashed, hash_open, read_open, store_error, write_at
from .room import Room, forget
from .shelf import BACKDATE_NS, READ, SMALL, identity_of
from .writer import BlobWriter

INLINE = 1024 * 1024
"""Bytes; files up to this size are read into memory to be stored."""


class BlobStore(Room):
    """The blobs under `root`; every method may be called from any thread.

    Every method that reads or writes raises `StoreError`: `Damaged` when bytes do not have the digest that
    names them or the file has vanished, a plain one when a blob was never here, or the disk is full.
    `on_lost` is told, from the thread that noticed, which blobs were evicted or found damaged.
    """

    # --- putting in -------------------------------------------------------------------------------------

    def add_bytes(self, data: bytes) -> Digest:
        """Store `data`."""
        digest = hashlib.sha256(data).digest()
        if self._holds(digest, len(data)):
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
            forget(part)
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
            forget(part)
            raise store_error(error, self.root, f"store a file of {size:,} bytes") from error
        return digest, size

    def adopt_open(self, source: int, path: str) -> tuple[Digest, int]:
        """Store an open regular file that nobody else needs, as itself instead of a copy where that can be.

        `path` is where it was opened; the name is gone when the file has become the blob.
        """
        found = os.fstat(source)
        if found.st_nlink != 1:
            return self.add_open(source)  # through its other name it could still be changed
        hashed = None
        if found.st_size <= SMALL:
            data = read_open(source, found.st_size)
            hashed = hashlib.sha256(data).digest(), len(data)
            if self._holds(*hashed):
                return hashed
        part = self._part_name()
        try:
            os.rename(path, part)
        except OSError:
            os.lseek(source, 0, os.SEEK_SET)
            return self.add_open(source)  # another file system
        try:
            return self._keep_moved(source, found, path, part, hashed)
        except OSError as error:
            forget(part)
            raise store_error(error, self.root, f"store a file of {found.st_size:,} bytes") from error

    def _keep_moved(
        self, source: int, found: os.stat_result, path: str, part: str, hashed: tuple[Digest, int] | None
    ) -> tuple[Digest, int]:
        """Make the file that was moved from `path` to `part` a blob, if it is the open one."""
        if not os.path.samestat(os.lstat(part), found):
            os.rename(part, path)
            raise StoreError(f"{path} was exchanged while it was stored")
        os.fchmod(source, 0o444)
        if hashed is not None:
            # Should it have changed since it was read, its next use will tell.
            self._publish(part, *hashed)
            return hashed
        self._backdate(source, found.st_size)
        digest, size = hash_open(source)
        self._place(part, digest, size)
        return digest, size

    def writer(self, digest: Digest, size: int) -> BlobWriter:
        """Return a place for the chunks of a blob that is on its way."""
        return BlobWriter(digest, size, Path(self._part_name()), self._take_part)

    def _take_part(self, part: Path, target: int, digest: Digest, size: int) -> None:
        self._backdate(target, size)
        self._place(os.fspath(part), digest, size)

    def _holds(self, digest: Digest, size: int) -> bool:
        """Tell whether a blob is on disk already, surely undamaged."""
        if size > SMALL:
            return self._trusts(digest) and self._touch(digest)
        try:
            held = os.open(self.path(digest), READ)
        except OSError:
            return False
        try:
            same = hashlib.sha256(read_open(held, size)).digest() == digest
        except OSError:
            same = False
        finally:
            os.close(held)
        return same and self.refresh(digest) and self._touch(digest)

    def _trusts(self, digest: Digest) -> bool:
        """Tell whether a large blob's file is the one that was last verified."""
        blob = self._index.get(digest)
        if blob is None or blob.identity is None:
            return False
        try:
            return identity_of(os.lstat(self.path(digest))) == blob.identity
        except OSError:
            return False

    def _place(self, part: str, digest: Digest, size: int) -> None:
        """Publish a part unless its content is here already; replacing a file costs more than it seems."""
        if self._holds(digest, size):
            forget(part)
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
            identity = identity_of(os.lstat(path)) if size > SMALL else None
            self._index.add(digest, size, time.time(), identity)

    @staticmethod
    def _backdate(target: int, size: int) -> None:
        if size > SMALL:
            now = time.time_ns()
            os.utime(target, ns=(now, now - BACKDATE_NS))

    # --- laying out -------------------------------------------------------------------------------------

    def copy_to(
        self, digest: Digest, dest_path: str | Path, executable: bool = False, spare: int | None = None
    ) -> None:
        """Lay a verified blob out as a file of its own, mode 0644 or 0755, writable without harm to the blob.

        Reflinked where the file system can, else copied; never linked. An existing file is replaced.
        `spare` is a file already there, open, to be overwritten by a small blob; it is closed.
        """
        mode = 0o755 if executable else 0o644
        try:
            target = _create(dest_path, mode) if spare is None else spare
        except OSError as error:
            raise store_error(error, Path(dest_path).parent, f"create {Path(dest_path).name}") from error
        try:
            self.copy_into(digest, target)
            found = os.fstat(target)
            if spare is not None and found.st_size != self.size(digest):
                os.ftruncate(target, self.size(digest))
            if found.st_mode & 0o7777 != mode:
                os.fchmod(target, mode)  # the umask, or a task before, took something away
        except OSError as error:
            forget(dest_path)
            raise store_error(error, Path(dest_path).parent, f"write {Path(dest_path).name}") from error
        except BaseException:
            forget(dest_path)
            raise
        finally:
            os.close(target)

    def copy_into(self, digest: Digest, target: int) -> None:
        """Fill the empty open file `target` with a verified blob; `OSError` when it cannot be written."""
        blob = self._known(digest)
        if blob.size <= SMALL:
            write_at(target, self._load(digest, blob), 0)
            return
        source = self._open(digest, blob)
        try:
            before = os.fstat(source)
            if not clone(source, target):
                copy(source, target)
            if identity_of(os.fstat(source)) != identity_of(before):
                self._check(digest, blob, source)  # it was changed, or only touched, meanwhile
                os.ftruncate(target, 0)
                copied, _ = copy_hashed(source, target)
                if copied != digest:
                    raise self._lose(digest, source, "was changed while it was copied")
        finally:
            os.close(source)


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
