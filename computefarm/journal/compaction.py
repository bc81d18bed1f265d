"""Gets rid of what is forgotten: all closed segments are rewritten as one with what still matters.

The new segment takes the name of the last one that it replaces, in one step. Before that it does not exist;
after it those before it do not count, whether they are removed or not. Later segments are not touched.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from computefarm.core.entries import Forgotten
from computefarm.errors import FarmError

from .folder import segment_path, segment_paths
from .frames import Unreadable
from .heads import Tally
from .reading import Walk, opened
from .segments import write_base

PIECE = 200
"""Records handled without a rest: this thread must not keep the others from running."""

REST_S = 0.001


class Closed(msgspec.Struct, frozen=True):
    """A segment that is not appended to any more."""

    number: int
    counts: int
    """Bytes of it that count."""


class Compacted(msgspec.Struct, frozen=True):
    """What a compaction has left."""

    closed: Closed
    """The segment that stands for all before it now."""
    tasks: int
    """Submissions that were left out."""
    forgotten: int
    """Words of forgetting that were left out."""


def compact(folder: Path, closed: Sequence[Closed], lineage: str) -> Compacted:
    """Replace these segments, all up to the last of them, by one; raise `FarmError` with all as it was."""
    last = closed[-1].number
    before = Tally()
    after = Tally()

    def kept() -> Iterator[bytes]:
        for body in _bodies(folder, closed):
            if before.matters(body):
                after.add(body)
                yield body
        if before.highest in before.forgotten:
            # A number is never given again, also when nothing is left of the task that had the highest.
            yield msgspec.msgpack.encode(Forgotten((before.highest,)))

    try:
        for body in _bodies(folder, closed):
            before.add(body)
        size = write_base(folder, last, lineage, kept())
    except OSError as error:
        raise FarmError(f"{folder}: {error.strerror or error}") from error
    for number, path in segment_paths(folder).items():
        if number < last:
            with contextlib.suppress(OSError):  # it does not count any more anyhow
                path.unlink()
    return Compacted(Closed(last, size), before.submitted - after.submitted, len(before.forgotten))


def _bodies(folder: Path, closed: Sequence[Closed]) -> Iterator[bytes]:
    for segment in closed:
        path = segment_path(folder, segment.number)
        with opened(path) as data:
            walk = Walk(data, segment.counts)
            for count, body in enumerate(walk.bodies(), 1):
                yield body
                if count % PIECE == 0:
                    time.sleep(REST_S)
            if walk.fault or walk.offset != segment.counts:
                raise Unreadable(f"{path}, byte {walk.offset:,}: {walk.fault or 'it ends too early'}")
