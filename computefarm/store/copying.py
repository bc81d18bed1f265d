"""Bytes from one open file to another, cloned where the file system can; and what to say when it is full."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from computefarm.errors import StoreError

PORTION = 1024 * 1024
"""Bytes read or written at a time."""

_FICLONE = 0x40049409
DISK_FULL = "disk full"
"""How the text of every such error begins."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def clone(source: int, target: int) -> bool:
    """Make `target` share the blocks of `source`, copied on write; False where the file system cannot.

    Linux only (btrfs, XFS, bcachefs, …); elsewhere always False.
    """
    if sys.platform != "linux":
        return False
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True


def copy(source: int, target: int) -> int:
    """Copy all of `source` to the empty `target`; return the number of bytes."""
    if hasattr(os, "copy_file_range"):
        done = 0
        try:
            while moved := os.copy_file_range(source, target, 1 << 30, done, done):
                done += moved
        except OSError as error:
            if error.errno in _FULL:
                raise
            # Other file systems, old kernels, network mounts: each has its own reason not to.
            done = 0
        if done:
            return done
    return pump(source, target)


def pump(source: int, target: int, look: Callable[[memoryview], None] | None = None) -> int:
    """Copy `source` through memory, showing each portion to `look`; return the number of bytes."""
    buffer = memoryview(bytearray(PORTION))
    done = 0
    os.lseek(source, 0, os.SEEK_SET)
    while count := os.readv(source, [buffer]):
        portion = buffer[:count]
        if look is not None:
            look(portion)
        write_at(target, portion, done)
        done += count
    return done


def copy_hashed(source: int, target: int) -> tuple[bytes, int]:
    """Copy all of `source` to `target`; return the sha256 of exactly the bytes written, and their number."""
    hasher = hashlib.sha256()
    size = pump(source, target, hasher.update)
    return hasher.digest(), size


def hash_open(source: int) -> tuple[bytes, int]:
    """Return the sha256 and the number of bytes of an open file, from its start."""
    hasher = hashlib.sha256()
    buffer = memoryview(bytearray(PORTION))
    size = 0
    os.lseek(source, 0, os.SEEK_SET)
    while count := os.readv(source, [buffer]):
        hasher.update(buffer[:count])
        size += count
    return hasher.digest(), size


def read_open(source: int, size: int) -> bytes:
    """Return what is left in an open file; `size` is the number of bytes expected."""
    data = os.read(source, size + 1)
    if len(data) == size:
        return data
    parts = [data]
    while parts[-1]:
        parts.append(os.read(source, PORTION))
    return b"".join(parts)


def write_at(target: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of `data` at `offset`."""
    done = os.pwrite(target, data, offset)
    while done < len(data):
        done += os.pwrite(target, data[done:], offset + done)


def is_full(error: BaseException) -> bool:
    """Tell whether a failure means that a disk, or a quota, is full."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in _FULL


def store_error(error: OSError, path: Path, doing: str) -> StoreError:
    """Return the error to show for a failure to write under `path`; raise it `from` the original."""
    if not is_full(error):
        return StoreError(f"cannot {doing} in {path}: {error.strerror}")
    try:
        free = shutil.disk_usage(path).free
    except OSError:
        free = 0
    return StoreError(
        f"{DISK_FULL}: cannot {doing} in {path} ({free:,} bytes free): {error.strerror}", hint=f"df -h {path}"
    )
