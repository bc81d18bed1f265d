"""The proof of space in plain Python: what a proof is, when it is valid, and what its quality is.

No numpy, no numba: so that whoever asked can check an answer anywhere, in a few milliseconds.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from functools import cache
from math import isqrt
from typing import Final

EXTRA_BITS: Final = 6
B: Final = 119
C: Final = 127
BC: Final = B * C
INPUTS: Final = (0, 0, 1, 2, 4, 4, 3, 2)
"""By table: the metadata of one input, in units of k bits."""
WORD: Final = 0xFFFFFFFF

CHACHA: Final = (0x61707865, 0x3320646E, 0x79622D32, 0x6B206574)
BLAKE_IV: Final = (
    0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19,
)  # fmt: skip
PERMUTATION: Final = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
MIXED: Final = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)  # fmt: skip
ONE_BLOCK: Final = 11
"""BLAKE3's flags of an input of one block: start and end of the only chunk, and root."""


def _mix(v: list[int], a: int, b: int, c: int, d: int, turns: tuple[int, ...], x: int, y: int) -> None:
    for n, added in zip((0, 2), (x, y), strict=True):
        v[a] = (v[a] + v[b] + added) & WORD
        w = v[d] ^ v[a]
        v[d] = (w << turns[n] | w >> (32 - turns[n])) & WORD
        v[c] = (v[c] + v[d]) & WORD
        w = v[b] ^ v[c]
        v[b] = (w << turns[n + 1] | w >> (32 - turns[n + 1])) & WORD


def chacha8(plot_id: bytes, block: int) -> bytes:
    """Return 64 bytes of the key stream of a plot."""
    key = struct.unpack("<8I", b"\x01" + plot_id[:31])
    start = [*CHACHA, *key, block & WORD, block >> 32, 0, 0]
    v = list(start)
    for _ in range(4):
        for a, b, c, d in MIXED:
            _mix(v, a, b, c, d, (16, 12, 8, 7), 0, 0)
    return struct.pack("<16I", *((x + y) & WORD for x, y in zip(v, start, strict=True)))


def blake3(data: bytes) -> bytes:
    """Return the BLAKE3 hash of at most 64 bytes."""
    m = list(struct.unpack("<16I", data.ljust(64, b"\0")))
    v = [*BLAKE_IV, *BLAKE_IV[:4], 0, 0, len(data), ONE_BLOCK]
    for _ in range(7):
        for n, (a, b, c, d) in enumerate(MIXED):
            _mix(v, a, b, c, d, (16, 20, 24, 25), m[2 * n], m[2 * n + 1])
        m = [m[place] for place in PERMUTATION]
    return struct.pack("<8I", *(v[n] ^ v[n + 8] for n in range(8)))


def f1(plot_id: bytes, k: int, x: int) -> int:
    """Return y1, a number of k + 6 bits."""
    first = x * k >> 9
    last = (x * k + k - 1) >> 9
    stream = b"".join(chacha8(plot_id, block) for block in range(first, last + 1))
    bits = int.from_bytes(stream, "big")
    below = len(stream) * 8 - (x * k - (first << 9)) - k
    return ((bits >> below) & ((1 << k) - 1)) << EXTRA_BITS | x >> (k - EXTRA_BITS)


def f_t(table: int, k: int, y: int, left: int, right: int) -> tuple[int, int]:
    """Return y and metadata of a match in `table` (2 to 7) from the left y and both metadata."""
    width = INPUTS[table] * k
    value = (y << width | left) << width | right
    bits = k + EXTRA_BITS + 2 * width
    size = (bits + 7) // 8
    digest = int.from_bytes(blake3((value << (size * 8 - bits)).to_bytes(size, "big")), "big")
    y = digest >> (256 - k - EXTRA_BITS)
    if table < 4:
        return y, left << width | right
    if table == 7:
        return y, 0
    out = INPUTS[table + 1] * k
    return y, (digest >> (256 - k - EXTRA_BITS - out)) & ((1 << out) - 1)


def is_match(left: int, right: int) -> bool:
    """Say whether two y match."""
    group = left // BC
    if right // BC != group + 1:
        return False
    low, high = left % BC, right % BC
    m = (high // C - low // C) % B
    return m < 64 and (high % C - low % C) % C == (2 * m + group % 2) ** 2 % C


def top_f(plot_id: bytes, k: int, xs: Sequence[int]) -> int | None:
    """Return the top k bits of y of 2, 4, … 64 x in proof order, or None: they do not match.

    Of 64 x these are what a challenge must start with.
    """
    row = [(f1(plot_id, k, x), x) for x in xs]
    for table in range(2, len(xs).bit_length() + 1):
        if not all(is_match(row[n][0], row[n + 1][0]) for n in range(0, len(row), 2)):
            return None
        row = [f_t(table, k, row[n][0], row[n][1], row[n + 1][1]) for n in range(0, len(row), 2)]
    return row[0][0] >> EXTRA_BITS


def line_point(a: int, b: int) -> int:
    """Return the one number that two unordered numbers become."""
    high, low = max(a, b), min(a, b)
    return high * (high - 1) // 2 + low


def readings(point: int) -> list[tuple[int, int]]:
    """Return the pairs (larger, smaller) that have this line point: two of them when one is of equals."""
    high = (1 + isqrt(1 + 8 * point)) // 2
    low = point - high * (high - 1) // 2
    return [(high, low), (high - 1, high - 1)] if low == 0 else [(high, low)]


def plot_order(xs: Sequence[int]) -> list[int]:
    """Return x in the order in which a plot stores them: of two neighbours the smaller first."""
    ordered = list(xs)
    width = 1
    while width < len(ordered):
        for start in range(0, len(ordered), 2 * width):
            left, right = ordered[start : start + width], ordered[start + width : start + 2 * width]
            if left[::-1] > right[::-1]:
                ordered[start : start + 2 * width] = right + left
        width *= 2
    return ordered


def quality(k: int, challenge: bytes, a: int, b: int) -> bytes:
    """Return the quality of a proof of which the challenge picks `a` and `b`, in plot order."""
    size = (2 * k + 7) // 8
    return hashlib.sha256(challenge + ((a << k | b) << (size * 8 - 2 * k)).to_bytes(size, "big")).digest()


def proof_quality(k: int, challenge: bytes, xs: Sequence[int]) -> bytes:
    """Return the quality of a whole proof, given in proof order."""
    place = 2 * (challenge[31] & 31)
    ordered = plot_order(xs)
    return quality(k, challenge, ordered[place], ordered[place + 1])


def top_bits(k: int, challenge: bytes) -> int:
    """Return the first k bits of a challenge."""
    return int.from_bytes(challenge, "big") >> (256 - k)


def pack(k: int, xs: Sequence[int]) -> bytes:
    """Return x as the bytes of a proof."""
    value = 0
    for x in xs:
        value = value << k | x
    return value.to_bytes(len(xs) * k // 8, "big")


def unpack(k: int, proof: bytes) -> list[int]:
    """Return the 64 x of the bytes of a proof."""
    value = int.from_bytes(proof, "big")
    return [(value >> (k * place)) & ((1 << k) - 1) for place in range(63, -1, -1)]


@cache
def targets(low: int, parity: int) -> frozenset[int]:
    """Return the 64 remainders that match the remainder `low` in a group of this parity."""
    return frozenset((low // C + m) % B * C + (low % C + (2 * m + parity) ** 2) % C for m in range(64))
