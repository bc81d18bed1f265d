"""A writer of compressed plots, since the only plotters of them need k = 32 and 128 GiB of memory.

It shares nothing with the reader: entropy coding is done by bladebit's own library, which the chiapos wheel brings.
"""

from __future__ import annotations

import ctypes
import itertools
import random
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .green_reaper import library

PARK = 2048
STUBS = {1: 29, 2: 25, 3: 21, 4: 16, 5: 12, 6: 8, 7: 4, 8: 4, 9: 30}
SIZES = {1: 8336, 2: 7360, 3: 6352, 4: 5325, 5: 4300, 6: 3273, 7: 2250, 8: 6350, 9: 8808}
RATES = {1: 2.51, 2: 3.44, 3: 4.36, 4: 9.30, 5: 9.30, 6: 9.10, 7: 8.60, 8: 8.60, 9: 4.54}
UPPER = {1: 4.7, 2: 2.75, 3: 2.75, 4: 2.7, 5: 2.6, 6: 2.45}
"""Parameter of the tables of every plot."""

Array = Any


class Coder:
    """Finite state entropy by bladebit's library."""

    def __init__(self) -> None:
        path = library()
        assert path is not None
        self._lib = ctypes.CDLL(str(path))
        self._tables: dict[tuple[str, float], Any] = {}
        for name in ("FSE_compress_usingCTable", "FSE_decompress_usingDTable"):
            getattr(self._lib, name).restype = ctypes.c_size_t

    def _table(self, kind: str, r: float) -> Any:
        if (kind, r) not in self._tables:
            names = {
                "in": "_ZN17FSETableGenerator19GenCompressionTableEdPm",
                "out": "_ZN17FSETableGenerator21GenDecompressionTableEdPm",
            }
            make = getattr(self._lib, names[kind])
            make.restype, make.argtypes = ctypes.c_void_p, [ctypes.c_double, ctypes.POINTER(ctypes.c_size_t)]
            size = ctypes.c_size_t()
            self._tables[kind, r] = ctypes.c_void_p(make(r, ctypes.byref(size)))
        return self._tables[kind, r]

    def encode(self, symbols: bytes, r: float) -> bytes:
        room = ctypes.create_string_buffer(2 * len(symbols) + 1024)
        size = self._lib.FSE_compress_usingCTable(
            room, ctypes.c_size_t(len(room)), symbols, ctypes.c_size_t(len(symbols)), self._table("in", r)
        )
        assert 0 < size <= len(room), size
        return room.raw[:size]

    def decode(self, data: bytes, r: float, most: int) -> bytes:
        room = ctypes.create_string_buffer(most)
        size = self._lib.FSE_decompress_usingDTable(
            room, ctypes.c_size_t(most), data, ctypes.c_size_t(len(data)), self._table("out", r)
        )
        assert size <= most, size
        return room.raw[:size]


def line_point(a: Array, b: Array) -> Array:
    high, low = np.maximum(a, b), np.minimum(a, b)
    return high * (high - 1) // 2 + low


def pair_of(points: Array) -> tuple[Array, Array]:
    high = ((1 + np.sqrt(1 + 8 * points.astype(np.float64))) / 2).astype(np.int64)
    high -= high * (high - 1) // 2 > points
    high += high * (high + 1) // 2 <= points
    return high, points - high * (high - 1) // 2


def park(coder: Coder, values: Sequence[int], k: int, stub_bits: int, size: int, r: float) -> bytes:
    """Return one park of ascending line points."""
    deltas = [b - a for a, b in itertools.pairwise(values)]
    symbols = bytes(delta >> stub_bits for delta in deltas)
    stubs = 0
    for delta in deltas:
        stubs = stubs << stub_bits | delta & ((1 << stub_bits) - 1)
    room = 2047 * stub_bits
    stubs <<= room - len(deltas) * stub_bits
    stubs_size = (room + 7) // 8
    first_size = (2 * k + 7) // 8
    first = (int(values[0]) << (first_size * 8 - 2 * k)).to_bytes(first_size, "big")
    stream = coder.encode(symbols, r) if symbols else b""
    made = first + (stubs << (stubs_size * 8 - room)).to_bytes(stubs_size, "big")
    made += len(stream).to_bytes(2, "little") + stream
    assert len(made) <= size, (len(made), size)
    return made.ljust(size, b"\0")


def layout(k: int, table: int, level: int, lowest: int) -> tuple[int, int, float]:
    """Return stub bits, bytes of a park and the parameter of a table."""
    if level and table == lowest:
        return STUBS[level], SIZES[level], RATES[level]
    room = 1433 if table == 1 else 896
    return k - 3, (2 * k + 7) // 8 + (2047 * (k - 3) + 7) // 8 + room, UPPER[table]


def packed(values: Sequence[int], bits: int) -> bytes:
    """Return numbers as one string of bits."""
    whole = int("".join(format(value, f"0{bits}b") for value in values), 2)
    size = (len(values) * bits + 7) // 8
    return (whole << (size * 8 - len(values) * bits)).to_bytes(size, "big")


def write(
    path: Path, plot_id: bytes, k: int, level: int, parts: Mapping[int, bytes], memo: bytes = b"memo"
) -> None:
    """Write a plot of bladebit's second format from its tables: 1 to 7, then 8 to 10 for C1 to C3."""
    head = b"PLOT" + struct.pack("<I", 2) + plot_id + bytes([k]) + struct.pack(">H", len(memo)) + memo
    head += struct.pack("<I", 1) + bytes([level])
    at, offsets = len(head) + 160, []
    for number in range(1, 11):
        offsets.append(at if number in parts else 0)
        at += len(parts.get(number, b""))
    sizes = [len(parts.get(number, b"")) for number in range(1, 11)]
    body = b"".join(parts.get(number, b"") for number in range(1, 11))
    path.write_bytes(head + struct.pack(">10Q", *offsets) + struct.pack("<10Q", *sizes) + body)


# --- a plot of k = 32 with one proof --------------------------------------------------------------------


def write_one_proof(
    path: Path, known: Any, level: int, lowest_values: Sequence[int], rng: random.Random
) -> None:
    """Write a plot in which only one proof leads anywhere; all its parks are full, as those of real plots.

    `lowest_values` are the entries of the lowest table, from left to right.
    """
    coder, k = Coder(), 32
    lowest = {16: 2, 8: 3}[len(lowest_values)]
    parts: dict[int, bytes] = {}
    values = list(lowest_values)
    positions: list[int] = []
    for table in range(lowest, 7):
        stub_bits, size, r = layout(k, table, level, lowest)
        made, positions = b"", []
        for number, value in enumerate(values):
            at = rng.randrange(PARK)
            positions.append(PARK * number + at)
            made += park(coder, _around(value, at, stub_bits, rng), k, stub_bits, size, r)
        parts[table] = made
        neighbours = zip(positions[::2], positions[1::2], strict=False)
        values = [int(line_point(np.int64(a), np.int64(b))) for a, b in neighbours]
    f7 = int.from_bytes(known.challenge[:4], "big")
    place = rng.randrange(1, PARK)
    before = [min(rng.randrange(4), 3) for _ in range(place)]
    while sum(before) > f7 or not before[-1]:
        before = [0] * (place - 1) + [1]
    differences = bytes(before) + bytes(rng.choice([1, 1, 2, 3]) for _ in range(3000))
    stream = coder.encode(differences, 1.0)
    first = f7 - sum(before)
    parts[7] = packed([positions[0]] * PARK, k + 1)
    parts[8] = first.to_bytes(4, "big") + bytes(4)
    parts[9] = first.to_bytes(4, "big") + bytes(4)
    parts[10] = (len(stream).to_bytes(2, "big") + stream).ljust(3000, b"\0")
    write(path, known.plot_id, k, level, parts)


def _around(value: int, at: int, stub_bits: int, rng: random.Random) -> list[int]:
    """Return the entries of a full park that has `value` at `at`."""

    def delta() -> int:
        return min(int(rng.expovariate(1.0)), 6) << stub_bits | rng.getrandbits(stub_bits)

    below: list[int] = []
    now = value
    for left in range(at, 0, -1):
        # Small positions leave little room below.
        now -= min(delta(), now // left)
        below.append(now)
    made, now = [*reversed(below), value], value
    while len(made) < PARK:
        now += delta()
        made.append(now)
    return made


# --- a whole plot of small k ----------------------------------------------------------------------------


class Source:
    """The tables of an uncompressed plot of chiapos."""

    def __init__(self, path: Path, k: int) -> None:
        self.k, self.coder = k, Coder()
        data = path.read_bytes()
        self.plot_id = data[19:51]
        at = 52
        at += 2 + int.from_bytes(data[at : at + 2], "big")
        at += 2 + int.from_bytes(data[at : at + 2], "big")
        self.offsets = struct.unpack(">10Q", data[at : at + 80])
        self.data = data
        self.pairs = {table: pair_of(self._table(table)) for table in range(1, 7)}
        first, end = self.offsets[6:8]
        bits = np.unpackbits(np.frombuffer(data[first:end], dtype=np.uint8))
        count = len(bits) // (PARK * (k + 1)) * PARK
        weights = 1 << np.arange(k, -1, -1, dtype=np.int64)
        self.table7 = bits[: count * (k + 1)].reshape(count, k + 1).astype(np.int64) @ weights
        self.checkpoints = {
            8: data[self.offsets[7] : self.offsets[8]],
            9: data[self.offsets[8] : self.offsets[9]],
            10: data[self.offsets[9] :],
        }

    def _table(self, table: int) -> Array:
        k = self.k
        stub_bits, size, r = layout(k, table, 0, 0)
        first_size, stubs_size = (2 * k + 7) // 8, (2047 * stub_bits + 7) // 8
        weights = 1 << np.arange(stub_bits - 1, -1, -1, dtype=np.int64)
        found = []
        for start in range(self.offsets[table - 1], self.offsets[table] - size + 1, size):
            piece = self.data[start : start + size]
            first = int.from_bytes(piece[:first_size], "big") >> (first_size * 8 - 2 * k)
            at = first_size + stubs_size
            length = int.from_bytes(piece[at : at + 2], "little")
            if not length:
                break
            stream = self.coder.decode(piece[at + 2 : at + 2 + length], r, PARK - 1)
            symbols = np.frombuffer(stream, dtype=np.uint8).astype(np.int64)
            raw = np.frombuffer(piece[first_size:at], dtype=np.uint8)
            bits = np.unpackbits(raw)[: 2047 * stub_bits].reshape(2047, stub_bits)
            stubs = bits.astype(np.int64) @ weights
            deltas = (symbols << stub_bits) + stubs[: len(symbols)]
            found.append(np.concatenate([[first], first + np.cumsum(deltas)]))
        return np.concatenate(found)


def compress(source: Source, path: Path, level: int, kept: int, y1: Array | None = None) -> None:
    """Write a plot with the same proofs that keeps `kept` bits of each x; level 9 needs all `y1`."""
    k, d = source.k, source.k - kept
    lowest = 3 if level == 9 else 2
    high, low = source.pairs[1]
    if level == 9:
        assert y1 is not None
        swapped = y1[high] // 15113 < y1[low] // 15113
        left, right = np.where(swapped, high, low), np.where(swapped, low, high)
        below = (right >> d) << kept | left >> d
        below = line_point(below[source.pairs[2][0]], below[source.pairs[2][1]])
    else:
        below = line_point(high >> d, low >> d)
    parts: dict[int, bytes] = {}
    for table in range(lowest, 7):
        points = line_point(below[source.pairs[table][0]], below[source.pairs[table][1]])
        order = np.argsort(points, kind="stable")
        below = np.empty(len(order), dtype=np.int64)
        below[order] = np.arange(len(order))
        points = points[order].tolist()
        stub_bits, size, r = layout(k, table, level, lowest)
        parts[table] = b"".join(
            park(source.coder, points[n : n + PARK], k, stub_bits, size, r)
            for n in range(0, len(points), PARK)
        )
    moved = below[np.minimum(source.table7, len(below) - 1)].tolist()
    parts[7] = b"".join(packed(moved[n : n + PARK], k + 1) for n in range(0, len(moved), PARK))
    write(path, source.plot_id, k, level, {**parts, **source.checkpoints})
