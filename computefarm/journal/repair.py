"""Mends a damaged journal: what can be read goes into a new segment, the old files are kept beside it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from computefarm.errors import FarmError
from computefarm.home import private_folder
from computefarm.messages import TaskKey

from .files import sync_folder
from .folder import segment_paths
from .frames import (
    HEADER_BYTES,
    MARK_BYTES,
    RECORD_BYTES,
    Data,
    Unreadable,
    find_mark,
    get_header,
    get_mark,
    get_record,
)
from .heads import EndedHead, ForgottenHead, StartedHead, SubmittedHead, head_of
from .reading import Contents, opened, survey
from .segments import write_base


class Repaired(msgspec.Struct):
    """What became of a damaged journal."""

    kept: int = 0
    """Records saved."""
    lost: list[str] = msgspec.field(default_factory=list)
    """For people: where something could not be read, and how many bytes."""
    orphans: set[TaskKey] = msgspec.field(default_factory=set)
    """Tasks of which something was saved, but not what they are."""
    aside: Path = Path()
    """Where the old files are."""


def repair(folder: Path, lineage: str) -> Repaired:
    """Write all records with a good checksum into one new segment; the caller holds the lock.

    `lineage` is used when no header can be read. Raises `FarmError` with everything as it was.
    """
    paths = segment_paths(folder)
    number = max(paths, default=0) + 1
    done = Repaired()
    contents = survey(folder)
    lineages = [segment.header.lineage for segment in contents.segments if segment.header is not None]
    try:
        bodies = list(_saved(contents, done))
        write_base(folder, number, max(lineages, key=lineages.count, default=lineage), bodies)
        done.aside = private_folder(folder / f"damaged-{time.strftime('%Y%m%d-%H%M%S')}")
        for path in paths.values():
            path.rename(done.aside / path.name)
        sync_folder(folder)
    except OSError as error:
        raise FarmError(f"cannot repair the journal in {folder}: {error.strerror or error}") from error
    return done


def _saved(contents: Contents, done: Repaired) -> Iterator[bytes]:
    known: set[TaskKey] = set()
    """Tasks of which we know what they are, or that they do not matter any more."""
    bodies: list[bytes] = []
    for segment in contents.segments:
        with opened(segment.path) as data:
            for body in salvage(data, segment.path.name, done.lost):
                with contextlib.suppress(msgspec.MsgspecError):
                    head = head_of(body)
                    if isinstance(head, SubmittedHead):
                        known.add(head.key)
                    elif isinstance(head, ForgottenHead):
                        known.update(head.keys)
                    bodies.append(body)
    for body in bodies:
        head = head_of(body)
        if isinstance(head, StartedHead | EndedHead) and head.key not in known:
            done.orphans.add(head.key)
            continue
        done.kept += 1
        yield body


def salvage(data: Data, name: str, lost: list[str]) -> Iterator[bytes]:
    """Yield every record with a good checksum; enter into `lost` what lies between them."""
    size = len(data)
    try:
        get_header(data)
    except Unreadable as error:
        lost.append(f"{name}: {error}")
    offset = HEADER_BYTES
    while offset < size:
        mark = get_mark(data, offset)
        if mark is not None:
            offset += MARK_BYTES
            continue
        try:
            body = get_record(data, offset, size)
        except Unreadable as error:
            again = _next_good(data, offset, size)
            lost.append(f"{name}, byte {offset:,}: {error}; {again - offset:,} bytes lost")
            offset = again
            continue
        yield body
        offset += RECORD_BYTES + len(body)


def _next_good(data: Data, offset: int, size: int) -> int:
    """Return where reading can go on: behind a broken record if its length holds, else at the next mark."""
    mark = find_mark(data, offset + 1, size)
    end = size if mark is None else mark
    if offset + RECORD_BYTES <= end:
        behind = offset + RECORD_BYTES + int.from_bytes(data[offset : offset + 4], "little")
        if behind == end:
            return end
        if behind < end:
            with contextlib.suppress(Unreadable):
                get_record(data, behind, end)
                return behind
    return end
