"""Writes segments: the one that grows, and the one that replaces what is mostly forgotten."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from computefarm.core.entries import Entry

from . import files
from .folder import TEMPORARY, segment_path
from .frames import (
    BASE,
    END,
    HEADER_BYTES,
    MARK_BYTES,
    Header,
    put_bodies,
    put_header,
    put_mark,
    put_records,
)

BATCH_BYTES = 1024 * 1024
"""A copied segment has a mark at least this often."""


class GrowingSegment:
    """The segment that is appended to. After an `OSError` it is good for `abandon` and nothing else."""

    def __init__(self, folder: Path, header: Header) -> None:
        """Make it; what has its name is a leftover. Raises `OSError`, leaving nothing behind if it can."""
        self.number = header.number
        self.path = segment_path(folder, header.number)
        self._descriptor = os.open(
            self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_APPEND, 0o600
        )
        try:
            files.write(self._descriptor, put_header(header))
            files.sync(self._descriptor)
            files.sync_folder(folder)
        except OSError:
            self._close()
            with contextlib.suppress(OSError):
                self.path.unlink()
            raise
        self.size = HEADER_BYTES
        """Bytes that are on the disk for sure."""

    def append(self, entries: Sequence[Entry]) -> None:
        """Return when `entries` are on the disk."""
        pieces = put_records(entries)
        records = sum(map(len, pieces))
        pieces.insert(0, put_mark(self.size, records))
        files.write(self._descriptor, b"".join(pieces))
        files.sync(self._descriptor)
        self.size += MARK_BYTES + records

    def end(self) -> None:
        """Close it in order."""
        try:
            files.write(self._descriptor, put_mark(self.size, 0, END))
            files.sync(self._descriptor)
            self.size += MARK_BYTES
        finally:
            self._close()

    def abandon(self) -> None:
        """Close it after a failure; its successor tells that only `size` bytes count, so this may fail."""
        with contextlib.suppress(OSError):
            if self.size > HEADER_BYTES:
                os.ftruncate(self._descriptor, self.size)
            else:
                self.path.unlink()
        self._close()

    def _close(self) -> None:
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1


def write_base(folder: Path, number: int, lineage: str, bodies: Iterable[bytes]) -> int:
    """Write segment `number` anew so that it stands for all up to it, in one step; return its size.

    Raises `OSError` with everything as it was.
    """
    temporary = folder / f"{TEMPORARY}-{number:010d}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        files.write(descriptor, put_header(Header(number, lineage, flags=BASE)))
        size = HEADER_BYTES
        batch: list[bytes] = []
        length = 0
        for body in bodies:
            batch.append(body)
            length += len(body)
            if length >= BATCH_BYTES:
                size += _put_batch(descriptor, size, batch)
                batch, length = [], 0
        if batch:
            size += _put_batch(descriptor, size, batch)
        files.write(descriptor, put_mark(size, 0, END))
        files.sync(descriptor)
        os.replace(temporary, segment_path(folder, number))
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    finally:
        os.close(descriptor)
    files.sync_folder(folder)
    return size + MARK_BYTES


def _put_batch(descriptor: int, offset: int, bodies: Sequence[bytes]) -> int:
    data = b"".join(put_bodies(bodies))
    files.write(descriptor, put_mark(offset, len(data)))
    files.write(descriptor, data)
    return MARK_BYTES + len(data)
