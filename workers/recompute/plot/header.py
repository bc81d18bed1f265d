"""What the head of a plot file says."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from computefarm.worker_api.kernel import BadRequest

V1: Final = b"Proof of Space Plot"
V2: Final = b"PLOT"
LEVELS: Final = range(1, 10)
NAMES: Final = (*(f"table {number}" for number in range(1, 8)), "C1", "C2", "C3")
UNFINISHED: Final = "is it still being written or copied?"
GIGAHORSE: Final = "Gigahorse's format is closed, only its own software reads it"


class PlotError(BadRequest):
    """A file that is no plot, a plot of a kind that cannot be read, or a damaged one."""


class Header(msgspec.Struct, frozen=True):
    """Identity of a plot, and where its tables are."""

    plot_id: bytes
    k: int
    memo: bytes
    level: int
    """0: not compressed; 1 to 9: bladebit's C1 to C9."""
    tables: tuple[int, ...]
    """Offsets of tables 1 to 7, C1, C2 and C3; 0: not stored."""
    size: int
    """Bytes of the file."""
    sizes: tuple[int, ...] = ()
    """Bytes of each table, where the format says so."""

    @property
    def lowest(self) -> int:
        """The lowest table that is stored."""
        return {0: 1, 9: 3}.get(self.level, 2)

    def needed(self) -> int:
        """Return how many bytes the file must have at the least."""
        stored = [(start, size) for start, size in zip(self.tables, self.sizes, strict=False) if start]
        ends = [start + size for start, size in sorted(stored)]
        starts = sorted(start for start, _ in stored)[1:]
        if all(end <= start for end, start in zip(ends, starts, strict=False)):
            return max(ends, default=0)
        return 0  # not every plotter fills them in


def park_of_c3(k: int) -> int:
    """Return the bytes of a park of C3."""
    return 3000 if k >= 20 else 10000


class _Reader:
    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file, self.path = file, path

    def take(self, count: int) -> bytes:
        data = self.file.read(count)
        if len(data) < count:
            raise PlotError(f"{self.path}: it ends within its header")
        return data

    def number(self, code: str) -> int:
        return int(struct.unpack(code, self.take(struct.calcsize(code)))[0])


def read(file: BinaryIO, path: Path) -> Header:
    """Return the header of an open plot file; raises `PlotError`."""
    reader = _Reader(file, path)
    size = os.fstat(file.fileno()).st_size
    start = file.read(len(V2))
    if start == V2:
        header = _v2(reader, size)
    elif start + file.read(len(V1) - len(V2)) == V1:
        header = _v1(reader, size)
    else:
        raise PlotError(f"{path}: it is no plot of chiapos (v1.0) or bladebit (v2)")
    if not 18 <= header.k <= 50:
        raise PlotError(f"{path}: k is {header.k}, it must be from 18 to 50")
    _whole(header, path)
    return header


def _whole(header: Header, path: Path) -> None:
    """Refuse a plot that is not all there."""
    stored = header.tables[header.lowest - 1 :]
    if not all(stored):
        raise PlotError(f"{path}: it has no {NAMES[header.tables.index(0, header.lowest - 1)]}: {UNFINISHED}")
    there = header.size
    needed = max(max(stored) + 1, header.needed())
    if there < needed:
        raise PlotError(
            f"{path}: it is damaged or cut off: it has {there:,} bytes and needs {needed:,} ({UNFINISHED})"
        )
    if list(stored[-3:]) != sorted(stored[-3:]):
        raise PlotError(f"{path}: it is damaged: C1, C2 and C3 are not in their order")


def _v1(reader: _Reader, size: int) -> Header:
    plot_id = reader.take(32)
    k = reader.number(">B")
    kind = reader.take(reader.number(">H"))
    if kind != b"v1.0":
        raise PlotError(
            f"{reader.path}: its format is {kind[:20]!r}; "
            f"chiapos v1.0 and bladebit v2 can be read ({GIGAHORSE})"
        )
    memo = reader.take(reader.number(">H"))
    return Header(plot_id, k, memo, 0, struct.unpack(">10Q", reader.take(80)), size)


def _v2(reader: _Reader, size: int) -> Header:
    version = reader.number("<I")
    if version != 2:
        raise PlotError(f"{reader.path}: its format has version {version}, only 2 can be read ({GIGAHORSE})")
    plot_id = reader.take(32)
    k = reader.number(">B")
    memo = reader.take(reader.number(">H"))
    flags = reader.number("<I")
    level = reader.number(">B") if flags & 1 else 0
    if flags & 1 and level not in LEVELS:
        raise PlotError(f"{reader.path}: its level is C{level}, bladebit has C1 to C9 ({GIGAHORSE})")
    tables = struct.unpack(">10Q", reader.take(80))
    return Header(plot_id, k, memo, level, tables, size, struct.unpack("<10Q", reader.take(80)))
