"""Look up the proofs of a challenge in a plot, as far as the plot holds them."""

from __future__ import annotations

import stat
from bisect import bisect_right
from itertools import product
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final, Self

from ..kernels import pos1_plain as plain  # noqa: TID252 - one package, as mypy sees it too
from . import fse, header
from .header import PlotError

PARK: Final = 2048
CHECKPOINT: Final = 10000
R: Final = (0.0, 4.7, 2.75, 2.75, 2.7, 2.6, 2.45)
"""By table: the parameter of its code."""
LOWEST: Final = {
    1: (29, 8336, 2.51), 2: (25, 7360, 3.44), 3: (21, 6352, 4.36), 4: (16, 5325, 9.30), 5: (12, 4300, 9.30),
    6: (8, 3273, 9.10), 7: (4, 2250, 8.60), 8: (4, 6350, 8.60), 9: (30, 8808, 4.54),
}  # fmt: skip
"""By level: stub bits, bytes of a park and parameter of the lowest table of a compressed plot."""
SIBLING: Final = 6
"""From this level on a quality needs the sibling of its entry too."""


class Plot:
    """An open plot file; every read is bounds-checked, and what does not fit raises `PlotError`."""

    compressed_k: ClassVar[tuple[int, ...]] = (32,)
    """What bladebit compresses."""

    def __init__(self, path: Path) -> None:
        """Open `path` and read its header."""
        self.path = path
        try:
            # A pipe would be waited for.
            if not stat.S_ISREG(path.stat().st_mode):
                raise PlotError(f"{path}: it is no file")
            self._file = path.open("rb")
        except OSError as error:
            raise PlotError(f"cannot read {path}: {error.strerror}") from error
        try:
            self.header = header.read(self._file, path)
            if self.level and self.k not in self.compressed_k:
                raise PlotError(f"{path}: compressed plots have k = 32, this one says {self.k}")
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def plot_id(self) -> bytes:
        """What its values depend on: 32 bytes."""
        return self.header.plot_id

    @property
    def k(self) -> int:
        """Bits of an x."""
        return self.header.k

    @property
    def level(self) -> int:
        """0: not compressed; 1 to 9: bladebit's C1 to C9."""
        return self.header.level

    @property
    def dropped(self) -> int:
        """Bits of each x that are missing."""
        return 15 + self.level if self.level else 0

    def entries(self, challenge: bytes) -> list[int]:
        """Return the positions in table 6 that have the challenge's f7, one for each proof."""
        f7 = plain.top_bits(self.k, challenge)
        index, value = self._checkpoint(f7)
        if index < 0:
            return []
        found = self._scan(index, value, f7)
        # Equal f7 may begin in the park before.
        if value == f7 and index > 0:
            found = self._scan(index - 1, self._c1(index - 1, 1)[0], f7) + found
        return [self._table7(position) for position in found]

    def requests(self, entry: int, challenge: bytes) -> list[dict[str, Any]]:
        """Return the requests (of `chia.pos1`) that recompute a proof of a compressed plot.

        Several are several readings of ambiguous line points: the first with a proof counts.
        """
        if not self.level:
            raise PlotError(f"{self.path} is not compressed: it holds its proofs")
        points = [self.line_point(self.header.lowest, below) for below in self._below(entry)]
        form = "w16" if self.header.lowest == 3 else "lp32"
        return [
            {**self._head(challenge), "op": "proof", "form": form, "data": [n for two in pairs for n in two]}
            for pairs in product(*(plain.readings(point) for point in points))
        ]

    def quality_request(self, entry: int, challenge: bytes) -> dict[str, Any] | None:
        """Return the request of a quality; None where only a whole proof tells it (C9)."""
        if not self.level:
            raise PlotError(f"{self.path} is not compressed: it holds its qualities")
        if self.header.lowest > 2:
            return None
        below, sibling = self._path(entry, challenge)
        data = [self.line_point(2, below)]
        if self.level >= SIBLING:
            data.append(self.line_point(2, sibling))
        return {**self._head(challenge), "op": "quality", "form": "t2lp", "data": data}

    def proof(self, entry: int, challenge: bytes) -> bytes:
        """Return a proof that an uncompressed plot holds; it is valid, whatever the file says."""
        self._uncompressed()
        xs = self._proof_order(entry)
        if plain.top_f(self.plot_id, self.k, xs) != plain.top_bits(self.k, challenge):
            raise self._damaged(f"entry {entry} of table 6 is no proof for this challenge")
        return plain.pack(self.k, xs)

    def quality(self, entry: int, challenge: bytes) -> bytes:
        """Return the quality of a proof that an uncompressed plot holds; only its two x are checked."""
        self._uncompressed()
        below, _ = self._path(entry, challenge)
        high, low = self._pair(2, below)
        x = self._pair(1, high if challenge[31] & 1 else low)
        y = [plain.f1(self.plot_id, self.k, n) for n in x if n >> self.k == 0]
        if len(y) < 2 or not (plain.is_match(*y) or plain.is_match(*y[::-1])):
            raise self._damaged(f"entry {entry} of table 6 is no proof")
        return plain.quality(self.k, challenge, min(x), max(x))

    def line_point(self, table: int, position: int) -> int:
        """Return an entry of tables 1 to 6."""
        park, index = divmod(position, PARK)
        stub_bits, size, r, k = *self._layout(table), self.header.k
        data = self._read(self.header.tables[table - 1] + park * size, size)
        first = (2 * k + 7) // 8
        value = int.from_bytes(data[:first], "big") >> (first * 8 - 2 * k)
        if index == 0:
            return value
        stubs_size = (2047 * stub_bits + 7) // 8
        stubs = int.from_bytes(data[first : first + stubs_size], "big")
        at = first + stubs_size
        length = int.from_bytes(data[at : at + 2], "little")
        if length & 0x8000 or at + 2 + length > size:
            raise self._damaged(f"park {park} of table {table} has differences of {length} bytes")
        symbols = self._decode(data[at + 2 : at + 2 + length], r, PARK - 1, enough=index)
        if index > len(symbols):
            raise self._damaged(
                f"park {park} of table {table} has {len(symbols) + 1} entries, not {index + 1}"
            )
        top = stubs_size * 8
        for n in range(index):
            stub = (stubs >> (top - (n + 1) * stub_bits)) & ((1 << stub_bits) - 1)
            value += (symbols[n] << stub_bits) + stub
        return value

    def _layout(self, table: int) -> tuple[int, int, float]:
        if self.level and table == self.header.lowest:
            return LOWEST[self.level]
        k = self.header.k
        room = 1433 if table == 1 else 896
        return k - 3, (2 * k + 7) // 8 + (2047 * (k - 3) + 7) // 8 + room, R[table]

    def _decode(self, stream: bytes, r: float, most: int, enough: int = CHECKPOINT) -> list[int]:
        try:
            return fse.decode(stream, r, most, enough)
        except fse.Damaged as error:
            raise self._damaged(str(error)) from error

    def _pair(self, table: int, position: int) -> tuple[int, int]:
        """Return the larger and the smaller of an entry's two back pointers."""
        return plain.readings(self.line_point(table, position))[0]

    def _path(self, position: int, challenge: bytes) -> tuple[int, int]:
        """Return the entry of table 2 that a challenge leads to, and its sibling."""
        sibling = position
        for table in range(6, 2, -1):
            high, low = self._pair(table, position)
            larger = challenge[31] >> (table - 2) & 1
            position, sibling = (high, low) if larger else (low, high)
        return position, sibling

    def _below(self, position: int) -> list[int]:
        """Return the entries of the lowest table under an entry of table 6."""
        row = [position]
        for table in range(6, self.header.lowest, -1):
            row = [below for entry in row for below in self._pair(table, entry)]
        return row

    def _head(self, challenge: bytes) -> dict[str, Any]:
        return {
            "kernel": "chia.pos1", "v": 1, "plot_id": self.header.plot_id, "k": self.header.k,
            "d": self.dropped, "challenge": challenge,
        }  # fmt: skip

    def _uncompressed(self) -> None:
        if self.level:
            raise PlotError(f"{self.path} is compressed (C{self.level}): what it lacks must be recomputed")

    def _proof_order(self, position: int) -> list[int]:
        k, plot_id = self.header.k, self.header.plot_id
        xs = [x for entry in self._below(position) for x in self._pair(1, entry)]
        if max(xs) >> k:
            raise self._damaged(f"entry {position} of table 6 leads to an x of more than {k} bits")
        row = [(plain.f1(plot_id, k, x), x, [x]) for x in xs]
        for table in range(2, 8):
            above = []
            for left, right in zip(row[::2], row[1::2], strict=True):
                if not plain.is_match(left[0], right[0]):
                    left, right = right, left
                if not plain.is_match(left[0], right[0]):
                    raise self._damaged(f"entry {position} of table 6 is no proof")
                above.append((*plain.f_t(table, k, left[0], left[1], right[1]), left[2] + right[2]))
            row = above
        return row[0][2]

    def _checkpoint(self, f7: int) -> tuple[int, int]:
        """Return number and value of the last entry of C1 that is at most `f7`; -1: there is none."""
        c1, c2, c3 = self.header.tables[7:10]
        width = (self.header.k + 7) // 8
        seconds = self._ascending(c2, max(0, c3 - c2) // width)
        at = max(0, bisect_right(seconds, f7) - 1) * CHECKPOINT
        firsts = self._ascending(c1 + at * width, max(0, min(CHECKPOINT, (c2 - c1) // width - at)))
        place = bisect_right(firsts, f7) - 1
        return (at + place, firsts[place]) if place >= 0 else (-1, 0)

    def _ascending(self, offset: int, count: int) -> list[int]:
        # The lists end with zeros, or with whatever pads the file.
        width = (self.header.k + 7) // 8
        data = self._read(offset, min(count, CHECKPOINT) * width)
        values: list[int] = []
        for n in range(0, len(data), width):
            value = int.from_bytes(data[n : n + width], "big") >> (width * 8 - self.header.k)
            if values and value <= values[-1]:
                break
            values.append(value)
        return values

    def _c1(self, index: int, count: int) -> list[int]:
        width = (self.header.k + 7) // 8
        return self._ascending(self.header.tables[7] + index * width, count)

    def _scan(self, index: int, value: int, f7: int) -> list[int]:
        """Return the positions of `f7` in a park of C3, which begins with `value`."""
        size = header.park_of_c3(self.k)
        position = index * CHECKPOINT
        found = [position] if value == f7 else []
        data = self._read(self.header.tables[9] + index * size, size, short=True)
        length = int.from_bytes(data[:2], "big")
        if length == 0:
            return found
        if length + 2 > len(data):
            raise self._damaged(f"park {index} of C3 has {length} bytes, of which {len(data) - 2} are there")
        for step, difference in enumerate(self._decode(data[2 : 2 + length], 1.0, CHECKPOINT), start=1):
            value += difference
            if value == f7:
                found.append(position + step)
            elif value > f7:
                break
        return found

    def _table7(self, position: int) -> int:
        width = self.header.k + 1
        size = PARK * width // 8
        park, index = divmod(position, PARK)
        first = index * width
        last = first + width - 1
        data = self._read(self.header.tables[6] + park * size + first // 8, last // 8 - first // 8 + 1)
        return (int.from_bytes(data, "big") >> (7 - last % 8)) & ((1 << width) - 1)

    def _read(self, offset: int, size: int, *, short: bool = False) -> bytes:
        if size < 0 or not 0 <= offset < self.header.size:
            raise self._damaged(f"it points to byte {offset} of {self.header.size}")
        try:
            self._file.seek(offset)
            data = self._file.read(size)
        except OSError as error:
            raise PlotError(f"cannot read {self.path}: {error.strerror}") from error
        if len(data) < (1 if short else size):
            raise self._damaged(f"it ends before byte {offset + size}")
        return data

    def _damaged(self, what: str) -> PlotError:
        return PlotError(f"{self.path} is damaged: {what}")
