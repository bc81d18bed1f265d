"""Run compiled code over one request: 32 pair joins, then the tree above them.

Importing this module loads numpy and numba.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from computefarm.worker_api.kernel import KernelError

from .pos1_chacha import BLOCKS, CHUNK, key_words
from .pos1_join import flat
from .pos1_parts import capacity, divided
from .pos1_plain import INPUTS
from .pos1_tree import climb, hashed, top_of

FLAT_UP_TO: Final = 16
"""Buckets of at most 2**16 x are joined without being divided."""


class Table(msgspec.Struct):
    """The lists of one table, one behind the other."""

    y: Any
    meta: Any
    starts: Any
    links: Any = None
    """Rows of two indices into the table below; at table 2 rows of two x."""


class Buffers:
    """Memory for the joins of buckets of one size; kept between requests."""

    def __init__(self, k: int, d: int) -> None:
        """Allocate for 2**d x of k bits."""
        self.k, self.d = k, d
        self.number = np.uint32 if k <= 32 else np.uint64
        self.flat: tuple[Any, ...] = ()
        self.divided: tuple[Any, ...] = ()
        self.found = np.empty((4096, 2), np.int32)
        self.rows = np.empty((4096, 3), np.int64)
        if divides(k, d):
            self._for_parts()
        else:
            self._for_flat()

    def _for_flat(self) -> None:
        size = 1 << self.d
        step = max(64, min(size, CHUNK))
        wide = 1 << max(6, min(self.d + 5, 21) - 3)
        narrow = 1 << max(6, min(self.d + 2, 17) - 3)
        self.flat = (
            np.empty(max(size, CHUNK), self.number),
            np.empty(step, self.number),
            np.empty(16 * BLOCKS, np.uint32),
            np.empty(CHUNK, np.uint32),
            np.empty(wide, np.uint8),
            np.empty(narrow, np.uint8),
            np.empty((2, size + 1), np.uint32),
            np.empty((2, size + 1), self.number),
            np.empty((2, size + 1), np.int64),
            np.full(_power(size), -1, np.int32),
            np.empty(size + 1, np.int32),
        )

    def _for_parts(self) -> None:
        part_bits = parts_of(self.d)
        room = capacity(self.d, part_bits)
        edges = (948 << (self.d + part_bits)) >> self.k
        edges += int(10 * edges**0.5) + 64
        most = max(room, edges) + 1
        self.divided = (
            part_bits,
            room,
            np.empty(CHUNK, self.number),
            np.empty(16 * BLOCKS, np.uint32),
            np.empty((2, 1 << part_bits), np.int64),
            np.empty((2, (room << part_bits) + CHUNK), np.uint64),
            np.empty((2, edges), np.uint64),
            np.empty(most, np.uint32),
            np.empty(1 << 14, np.uint8),
            np.empty((2, most), np.uint64),
            np.empty((2, most), np.uint32),
            np.empty((2, most), np.uint32),
            np.full(_power(most), -1, np.int32),
            np.empty(most, np.int32),
            np.empty((2, most), np.int32),
        )


def divides(k: int, d: int) -> bool:
    """Say whether buckets of 2**d x are divided by y before they are joined."""
    # The last bits of y are one constant for a bucket of at most 2**(k - 6) x; entries have 64 bits.
    return d > FLAT_UP_TO and d <= k - 6 and k + d <= 64


def parts_of(d: int) -> int:
    """Return into how many parts (as a power of two) a bucket of 2**d is divided."""
    return min(d - 11, 9)


def _power(least: int) -> int:
    return 1 << max(1, (least - 1).bit_length())


class Engine:
    """Answers for one plot: joins pairs of buckets and climbs the tables."""

    def __init__(
        self, k: int, d: int, plot_id: bytes, scratch: dict[str, Any], check: Callable[[], None]
    ) -> None:
        """Prepare for buckets of 2**d x; `scratch` keeps buffers between engines."""
        self.k, self.d, self.check = k, d, check
        self.key = key_words(plot_id)
        kept = scratch.get("pos1")
        if not isinstance(kept, Buffers) or (kept.k, kept.d) != (k, d):
            scratch.pop("pos1", None)
            kept = Buffers(k, d)
            scratch["pos1"] = kept
        self.buffers = kept

    def pair(self, a: int, b: int, ordered: bool) -> Any:
        """Return the matches between two buckets as rows (left x, right x, left y)."""
        self.check()
        memory = self.buffers
        if memory.divided:
            rows, count, memory.found = divided(
                self.key, self.k, self.d, a, b, ordered, *memory.divided, memory.found, memory.rows
            )
            memory.rows = rows
            if count < 0:  # pragma: no cover - ten standard deviations away
                raise KernelError(f"the values of bucket {a} or {b} are not spread as they should be")
            return rows[:count].copy()
        rows, memory.found = flat(self.key, self.k, self.d, a, b, ordered, *memory.flat, memory.found)
        return rows

    def join(self, pairs: Sequence[tuple[int, int]], ordered: bool) -> Any:
        """Return the matches of all `pairs` in one list."""
        rows = [self.pair(a, b, ordered) for a, b in pairs]
        return np.concatenate(rows) if len(rows) != 1 else rows[0]


class Tree:
    """Climbs the tables above the joins of buckets."""

    def __init__(self, k: int) -> None:
        self.k = k

    def hashed(self, lists: Sequence[Any]) -> Table:
        """Return table 2 of lists of matches."""
        starts = np.zeros(len(lists) + 1, np.int64)
        starts[1:] = np.cumsum([len(rows) for rows in lists])
        rows = np.concatenate(lists)
        below = np.zeros((2 * len(rows), 4), np.uint64)
        below[:, 0] = rows[:, :2].reshape(-1)
        links = np.arange(2 * len(rows)).reshape(-1, 2)
        y, meta = hashed(self.k, 1, 2, rows[:, 2].repeat(2), below, links)
        return Table(y, meta, starts, rows[:, :2])

    def climb(
        self, number: int, below: Table, jobs: Sequence[tuple[int, int, int]], ordered: bool
    ) -> Table | None:
        """Return table `number` (3 to 7) from the one below, or None when one of its lists is empty."""
        lists = jobs[-1][2] + 1
        outputs = INPUTS[number + 1] if number < 7 else 0
        y, meta, links, starts = climb(
            self.k, INPUTS[number], outputs, ordered, below.y, below.meta, below.starts,
            np.array(jobs, np.int64), lists,
        )  # fmt: skip
        if np.any(starts[1:] == starts[:-1]):
            return None
        return Table(y, meta, starts, links)


def xs_of(tables: Sequence[Table], index: int) -> list[int]:
    """Return the x below entry `index` of the last table, in proof order."""
    row = [index]
    for table in reversed(tables):
        row = [int(below) for entry in row for below in table.links[entry]]
    return row


def top(plot_id: bytes, k: int, xs: Sequence[int]) -> int:
    """Return y of 2, 4, … 64 x in proof order, or -1: they do not match."""
    return int(top_of(k, key_words(plot_id), np.array(xs, np.int64)))
