"""Table 2: the matches between two buckets of 2**d neighbouring x.

A bucket has few matches in another one, so most of the work is to leave out what can have none: an x stays
when the other bucket has a y in a neighbouring group. Bit maps of groups answer that, twice: first those of
the second bucket that fit the first, then those of the first that fit what was left of the second. Large
buckets are first divided by their y, so that the maps stay in the fastest cache (`pos1_parts`).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from .jit import compiled
from .pos1_chacha import blocks
from .pos1_match import matches

CHUNK: Final = 4096
K_GROUP: Final = 64.0 / 15113.0
INVERSE: Final = 1.0 / 15113.0


@compiled
def fill(key, k, first, count, words, u):
    """Write the top k bits of y1 of `count` (at most CHUNK) x from `first` to `u`.

    At k = 32 a whole chunk is written in the order that `place` undoes.
    """
    if k == 32 and count == 4096:
        blocks(key, np.int64(first >> 4), np.int64(256), u)
        return
    for start in range(0, count, 2048):
        some = min(count - start, 2048)
        bit = (first + start) * k
        block = bit >> 9
        # 161 blocks hold 2048 numbers of 40 bits wherever they start.
        blocks(key, np.int64(block), np.int64(((bit + some * k - 1) >> 9) - block + 1), words)
        at = bit - (block << 9)
        for n in range(some):
            u[start + n] = number(words, at, k)
            at += k


@compiled
def number(words, at, k):
    """Return k bits of a key stream that `blocks` wrote, from bit `at`."""
    word = at >> 5
    value = np.uint64(words[((word & 15) << 8) + (word >> 4)]) & (np.uint64(0xFFFFFFFF) >> np.uint64(at & 31))
    have = 32 - (at & 31)
    if have >= k:
        return value >> np.uint64(have - k)
    while have < k:
        word += 1
        more = min(k - have, 32)
        fresh = np.uint64(words[((word & 15) << 8) + (word >> 4)]) >> np.uint64(32 - more)
        value = (value << np.uint64(more)) | fresh
        have += more
    return value


@compiled
def place(k, d, position):
    """Return which x of its bucket `fill` wrote to a position."""
    if k == 32 and d >= 12:
        return (position & ~4095) | ((position & 255) << 4) | ((position >> 8) & 15)
    return position


@compiled
def groups(u, count, extra, g):
    """Write the groups of y = 64 u + extra to `g`, modulo 2**32."""
    plus = (np.float64(extra) + 0.5) * INVERSE
    if u.itemsize == 4:
        for n in range(np.uint32(count)):
            g[n] = np.uint32(np.int32(np.float64(u[n]) * K_GROUP + plus))
    else:
        for n in range(np.uint32(count)):
            g[n] = np.uint32(np.int64(np.float64(u[n]) * K_GROUP + plus))


@compiled
def clear(values):
    """Set all to 0."""
    for n in range(np.uint32(len(values))):
        values[n] = 0


@compiled
def mark(bits, g, count):
    """Set the bit of each group; the number of bits is a power of two."""
    mask = np.uint32(8 * len(bits) - 1)
    for n in range(np.uint32(count)):
        bit = g[n] & mask
        bits[bit >> np.uint32(3)] |= np.uint8(1) << np.uint8(bit & np.uint32(7))


@compiled
def near(bits, mask, g):
    """Return 1 when the bit of a neighbouring group is set, else 0."""
    before = np.uint32(g - np.uint32(1)) & mask
    after = np.uint32(g + np.uint32(1)) & mask
    return (
        (bits[before >> np.uint32(3)] >> np.uint8(before & np.uint32(7)))
        | (bits[after >> np.uint32(3)] >> np.uint8(after & np.uint32(7)))
    ) & np.uint8(1)


@compiled
def keep(bits, g, u, count, start, kept, kept_u, n):
    """Append position and u of what has a marked neighbour to `kept`, from n; return the new n."""
    mask = np.uint32(8 * len(bits) - 1)
    for i in range(np.uint32(count)):
        kept[n] = np.uint32(start + i)
        kept_u[n] = u[i]
        n += np.int64(near(bits, mask, g[i]))
    return n


@compiled
def flat(key, k, d, a, b, ordered, u, part, words, g, wide, narrow, kept, kept_u, y, head, chain, found):
    """Return the matches of buckets a and b as rows (left x, right x, left y), and `found`.

    `u` 2**d, `part`, `words`, `g` CHUNK each; `wide`, `narrow`: bit maps, cleared here; `kept`, `kept_u`,
    `y`: two rows of 2**d + 1.
    """
    size = 1 << d
    step = min(size, 4096)
    clear(wide)
    for start in range(0, size, step):
        first = (a << d) + start
        fill(key, k, first, step, words, u[start : start + step])
        groups(u[start : start + step], step, first >> (k - 6), g)
        mark(wide, g, step)
    nb = np.int64(0)
    clear(narrow)
    if a != b:
        for start in range(0, size, step):
            first = (b << d) + start
            fill(key, k, first, step, words, part)
            groups(part, step, first >> (k - 6), g)
            nb = keep(wide, g, part, step, start, kept[1], kept_u[1], nb)
        for start in range(0, nb, 4096):
            some = min(nb - start, 4096)
            regroup(kept[1, start : start + some], kept_u[1, start : start + some], k, d, b, g)
            mark(narrow, g, some)
    na = np.int64(0)
    for start in range(0, size, step):
        groups(u[start : start + step], step, ((a << d) + start) >> (k - 6), g)
        na = keep(wide if a == b else narrow, g, u[start : start + step], step, start, kept[0], kept_u[0], na)
    ys(kept[0, :na], kept_u[0, :na], k, d, a, y[0])
    ys(kept[1, :nb], kept_u[1, :nb], k, d, b, y[1])
    second = y[0, :na] if a == b else y[1, :nb]
    found, n = matches(y[0, :na], second, a == b, ordered, head, chain, found)
    return rows(found, n, na, k, d, a, b, kept, y)


@compiled
def regroup(kept, kept_u, k, d, bucket, g):
    """Write the groups of what was kept to `g`."""
    for n in range(len(kept)):
        x = (bucket << d) + place(k, d, np.int64(kept[n]))
        g[n] = np.uint32(
            np.int64(np.float64(kept_u[n]) * K_GROUP + (np.float64(x >> (k - 6)) + 0.5) * INVERSE)
        )


@compiled
def ys(kept, kept_u, k, d, bucket, y):
    """Write the y of what was kept to `y`."""
    for n in range(len(kept)):
        x = (bucket << d) + place(k, d, np.int64(kept[n]))
        y[n] = (np.int64(kept_u[n]) << 6) | (x >> (k - 6))


@compiled
def rows(found, n, na, k, d, a, b, kept, y):
    """Return the matches with their x and left y instead of indices."""
    out = np.empty((n, 3), np.int64)
    for m in range(n):
        for side in range(2):
            index = found[m, side]
            if index < na:
                out[m, side] = (a << d) + place(k, d, np.int64(kept[0, index]))
            else:
                out[m, side] = (b << d) + place(k, d, np.int64(kept[1, index - na]))
        index = found[m, 0]
        out[m, 2] = y[0, index] if index < na else y[1, index - na]
    return out, found
