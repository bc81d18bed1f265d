"""The bytes of a journal segment: a header, then batches, each a mark and its records.

    header   magic, format version, flags, number, lineage, length of the segment before, CRC
    mark     magic, its own offset, bytes of the batch's records, kind, CRC
    record   length, CRC, msgpack entry
    record   ...

A batch is synced before the next mark is written. So whatever lies before an intact mark was safe on the disk
once, and damage there is damage; behind the last mark it can be a write that a crash cut short.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Sequence

import msgspec

from computefarm.core.entries import Entry
from computefarm.errors import FarmError

VERSION = 1
"""Of the format; another one is refused by name."""

MAGIC = b"CFTASKS\n"
MARK_MAGIC = b"\xc1CFmark\xc1"
"""0xc1 occurs nowhere in msgpack but inside strings and bytes; as a length it would exceed `MAX_RECORD`."""

BASE = 1
"""Flag: this segment holds what still mattered of itself and all before it, which no longer count."""

BATCH = 0
"""Kind of a mark: records follow."""
END = 1
"""Kind of a mark: the segment was closed; nothing follows."""

MAX_RECORD = 64 * 1024 * 1024
"""Bytes."""

_HEADER = struct.Struct("<8sHHQ16sQ")
_MARK = struct.Struct("<8sQII")
_CRC = struct.Struct("<I")
_RECORD = struct.Struct("<II")

HEADER_BYTES = _HEADER.size + _CRC.size
MARK_BYTES = _MARK.size + _CRC.size
RECORD_BYTES = _RECORD.size

_SEED = zlib.crc32(MAGIC)
"""So that zeros are no record."""

_encoder = msgspec.msgpack.Encoder()

Data = bytes | mmap.mmap


class Header(msgspec.Struct, frozen=True):
    """What a segment says of itself."""

    number: int
    lineage: str
    """16 characters, the same in all segments."""
    before: int = 0
    """So many bytes of the segment before count; what follows there was never acknowledged."""
    flags: int = 0
    version: int = VERSION

    @property
    def base(self) -> bool:
        """Return whether all earlier segments are void."""
        return bool(self.flags & BASE)


class Mark(msgspec.Struct, frozen=True):
    """The beginning of a batch, or the end of a segment."""

    size: int
    """Bytes of the records that follow."""
    kind: int


class Unreadable(FarmError):
    """Bytes that are not what should be there; the text says what, the caller knows where."""


def put_header(header: Header) -> bytes:
    """Return a header's bytes."""
    data = _HEADER.pack(
        MAGIC, header.version, header.flags, header.number, header.lineage.encode(), header.before
    )
    return data + _CRC.pack(zlib.crc32(data))


def get_header(data: Data) -> Header:
    """Return the header of a segment; raise `Unreadable`."""
    start = data[:HEADER_BYTES]
    if len(start) < HEADER_BYTES:
        raise Unreadable(f"the header is {len(start)} bytes long instead of {HEADER_BYTES}")
    magic, version, flags, number, lineage, before = _HEADER.unpack_from(start)
    if magic != MAGIC:
        raise Unreadable("this is no journal segment")
    intact = zlib.crc32(start[: _HEADER.size]) == _CRC.unpack_from(start, _HEADER.size)[0]
    if version != VERSION:
        doubt = "" if intact else " (or its header is damaged)"
        raise Unreadable(f"it is of format {version}{doubt}, and this version reads format {VERSION}")
    if not intact:
        raise Unreadable("the header is damaged")
    return Header(number, lineage.decode("ascii", "replace"), before, flags, version)


def put_mark(offset: int, size: int, kind: int = BATCH) -> bytes:
    """Return the bytes of a mark that stands at `offset`."""
    data = _MARK.pack(MARK_MAGIC, offset, size, kind)
    return data + _CRC.pack(zlib.crc32(data))


def get_mark(data: Data, offset: int) -> Mark | None:
    """Return the intact mark at `offset`, or None."""
    start = data[offset : offset + MARK_BYTES]
    if len(start) < MARK_BYTES or not start.startswith(MARK_MAGIC):
        return None
    _, own, size, kind = _MARK.unpack_from(start)
    if own != offset or zlib.crc32(start[: _MARK.size]) != _CRC.unpack_from(start, _MARK.size)[0]:
        return None
    return Mark(size, kind)


def find_mark(data: Data, offset: int, end: int) -> int | None:
    """Return where the next intact mark stands, at or behind `offset`."""
    while (found := data.find(MARK_MAGIC, offset, end)) >= 0:
        if get_mark(data, found) is not None:
            return found
        offset = found + 1
    return None


def put_records(entries: Sequence[Entry]) -> list[bytes]:
    """Return the pieces of all records, to be joined."""
    pieces: list[bytes] = []
    add, encode, crc, pack, seed = pieces.append, _encoder.encode, zlib.crc32, _RECORD.pack, _SEED
    for entry in entries:
        body = encode(entry)
        add(pack(len(body), crc(body, seed)))
        add(body)
    return pieces


def put_bodies(bodies: Sequence[bytes]) -> list[bytes]:
    """Return the pieces of records whose entries are encoded already."""
    pieces: list[bytes] = []
    for body in bodies:
        pieces += (_RECORD.pack(len(body), zlib.crc32(body, _SEED)), body)
    return pieces


def get_record(data: Data, offset: int, end: int) -> bytes:
    """Return the encoded entry of the record at `offset`, which `end` bounds; raise `Unreadable`."""
    start = offset + RECORD_BYTES
    if start > end:
        raise Unreadable(f"it ends {end - offset} bytes into a record")
    length, crc = _RECORD.unpack(data[offset:start])
    if not 0 < length <= MAX_RECORD:
        raise Unreadable(f"a record cannot be {length:,} bytes long")
    if start + length > end:
        raise Unreadable(f"it ends {end - start:,} bytes into a record of {length:,}")
    body = data[start : start + length]
    if zlib.crc32(body, _SEED) != crc:
        raise Unreadable("a record's checksum is wrong")
    return body
