"""Reads a journal's folder: what is there, what counts, what was cut short, what is damaged.

A crash of the machine or of the manager can leave the last batch of the last segment incomplete. Nobody was
told of what is in it, so it is dropped, with a note. Everything else that is not as it was written is damage,
and never skipped on its own.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from computefarm.errors import FarmError

from .folder import segment_paths
from .frames import (
    END,
    HEADER_BYTES,
    MARK_BYTES,
    RECORD_BYTES,
    Data,
    Header,
    Unreadable,
    find_mark,
    get_header,
    get_mark,
    get_record,
)
from .heads import Tally


class Damage(msgspec.Struct, frozen=True):
    """Bytes that are not what was written."""

    path: Path
    offset: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}, byte {self.offset:,}: {self.text}"


class Segment(msgspec.Struct):
    """One file of the journal."""

    path: Path
    number: int
    size: int
    header: Header | None = None
    counts: int = 0
    """Bytes of it that count; what follows was cut short, or never acknowledged."""
    records: int = 0
    closed: bool = False
    """It ends as a journal that was stopped or continued in order."""
    note: str = ""
    """For people: what was dropped."""


class Contents(msgspec.Struct):
    """What is in a journal's folder."""

    folder: Path
    segments: list[Segment]
    """Those that count, in order."""
    void: list[Path]
    """Files that do not count any more: earlier than the newest base, or cut short at their birth."""
    damage: list[Damage]
    tally: Tally
    notes: list[str]
    """What was dropped, for people."""

    @property
    def lineage(self) -> str:
        """Return the journal's lineage; empty when there is no journal."""
        return self.segments[0].header.lineage if self.segments and self.segments[0].header else ""

    @property
    def size(self) -> int:
        """Return how many bytes count."""
        return sum(segment.counts for segment in self.segments)


@contextmanager
def opened(path: Path) -> Iterator[Data]:
    """Let a file's bytes be read in place."""
    try:
        with path.open("rb") as file:
            if file.seek(0, 2) == 0:
                yield b""
                return
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                yield data
    except OSError as error:
        raise FarmError(f"cannot read {path}: {error.strerror}") from error


class Walk:
    """A way through the records of one segment; `fault` tells why it ended before `limit`."""

    def __init__(self, data: Data, limit: int, offset: int = HEADER_BYTES) -> None:
        self._data = data
        self._limit = limit
        self.offset = offset
        """Everything before it is intact."""
        self.closed = False
        self.short = 0
        """Bytes that the last batch lacks, though none of its records is broken."""
        self.fault = ""

    def bodies(self) -> Iterator[bytes]:
        """Yield the encoded entries."""
        end = self.offset
        while self.offset < self._limit:
            if self.offset >= end:
                mark = get_mark(self._data, self.offset)
                if mark is None:
                    self.fault = "there is no intact mark where a batch should begin"
                    return
                self.offset += MARK_BYTES
                end = self.offset + mark.size
                if mark.kind == END:
                    self.closed = True
                    self.fault = "something follows its end" if self.offset < self._limit else ""
                    return
                continue
            try:
                body = get_record(self._data, self.offset, min(end, self._limit))
            except Unreadable as error:
                self.fault = str(error)
                return
            yield body
            self.offset += RECORD_BYTES + len(body)
        self.short = end - self.offset


def survey(folder: Path) -> Contents:
    """Read everything once and judge it; raise `FarmError` only when files cannot be read at all."""
    contents = Contents(folder, [], [], [], Tally(), [])
    segments = _headers(contents, segment_paths(folder))
    for position, segment in enumerate(segments):
        after = segments[position + 1] if position + 1 < len(segments) else None
        _read(segment, after, contents)
    contents.segments = segments
    contents.notes = [f"{segment.path}: {segment.note}" for segment in segments if segment.note]
    return contents


def walk_entries(contents: Contents, visit: Callable[[bytes], None]) -> None:
    """Hand every record that counts to `visit`, in order."""
    for segment in contents.segments:
        with opened(segment.path) as data:
            for body in Walk(data, segment.counts).bodies():
                visit(body)


def _headers(contents: Contents, paths: dict[int, Path]) -> list[Segment]:
    """Return the segments that count, with their headers; enter what is wrong with the row of them."""
    segments: list[Segment] = []
    for number, path in paths.items():
        segment = Segment(path, number, path.stat().st_size)
        with opened(path) as data:
            try:
                segment.header = get_header(data)
            except Unreadable as error:
                if number == max(paths) and segment.size <= HEADER_BYTES:
                    contents.void.append(path)  # cut short at its birth: nothing was ever in it
                else:
                    contents.damage.append(Damage(path, 0, str(error)))
                    segments.append(segment)
                continue
        if segment.header.base:
            contents.void += [earlier.path for earlier in segments]
            contents.damage.clear()
            segments.clear()
        segments.append(segment)
    _judge_row(contents, segments)
    return segments


def _judge_row(contents: Contents, segments: list[Segment]) -> None:
    """Enter segments that are missing, misnamed, or of another journal."""
    for position, segment in enumerate(segments):
        header = segment.header
        if position == 0:
            lineage = header.lineage if header is not None else ""
            if header is not None and segment.number != 1 and not header.base:
                contents.damage.append(Damage(segment.path, 0, "the segments before it are missing"))
        elif segment.number != segments[position - 1].number + 1:
            contents.damage.append(Damage(segment.path, 0, f"segment {segment.number - 1} is missing"))
        if header is None:
            continue
        if header.number != segment.number:
            contents.damage.append(Damage(segment.path, 0, f"it is segment {header.number}, misnamed"))
        if lineage and header.lineage != lineage:
            text = f"it belongs to another journal ({header.lineage}, not {lineage})"
            contents.damage.append(Damage(segment.path, 0, text))


def _read(segment: Segment, after: Segment | None, contents: Contents) -> None:
    header = segment.header
    if header is None:
        return
    told = after.header.before if after is not None and after.header is not None and not header.base else None
    with opened(segment.path) as data:
        walk = Walk(data, segment.size if told is None else min(told, segment.size))
        records = contents.tally.records
        for body in walk.bodies():
            try:
                contents.tally.add(body)
            except msgspec.MsgspecError as error:
                walk.fault = f"a record that this version cannot read: {error}"
                contents.damage.append(Damage(segment.path, walk.offset, walk.fault))
                break
        else:
            _judge_end(segment, walk, told, after is not None or header.base, data, contents)
        segment.records = contents.tally.records - records
        segment.counts = walk.offset
        segment.closed = walk.closed


def _judge_end(
    segment: Segment, walk: Walk, told: int | None, whole: bool, data: Data, contents: Contents
) -> None:
    """Tell a write that was cut short from damage."""
    fault = walk.fault
    if not fault and told is not None and segment.size < told:
        fault = f"it is {segment.size:,} bytes long and should have {told:,}"
    if not fault and told is None and walk.short:
        fault = f"it ends {walk.short:,} bytes before its last batch does"
    if not fault and whole and told is None and not walk.closed:
        fault = "it has no end"
    if not fault:
        return
    if whole or find_mark(data, walk.offset + 1, segment.size) is not None:
        contents.damage.append(Damage(segment.path, walk.offset, fault))
        return
    lost = segment.size - walk.offset
    many = _count(data, walk.offset, segment.size)
    what = f"{lost:,} bytes from byte {walk.offset:,} on, about {many} records"
    segment.note = f"the last write was cut short ({fault}): dropped {what}"


def _count(data: Data, offset: int, end: int) -> int:
    """Return how many records there seem to be, whole or not."""
    many = 0
    while offset < end:
        if get_mark(data, offset) is not None or data[offset : offset + 1] == b"\xc1":
            offset += MARK_BYTES
            continue
        many += 1
        length = int.from_bytes(data[offset : offset + 4], "little")
        offset += RECORD_BYTES + max(1, length)
    return many
