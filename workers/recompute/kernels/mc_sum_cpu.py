"""Philox4x64-10, as numpy has it, compiled."""

from __future__ import annotations

import numpy as np

from .jit import compiled


def draw(seed: int, first: int, blocks: int, form: str) -> int:
    """Return the exact sum over some blocks."""
    high, low = total(np.uint64(seed), np.uint64(first), blocks, form == "pi")
    return (int(high) << 32) + int(low)


def by_numpy(seed: int, start: int, blocks: int) -> int:
    """Return what `mean` sums, drawn by numpy."""
    # numpy counts up before it draws, so its first block is the one after its counter.
    counter = np.array([(start - 1) % 2**64, 0 if start else 2**64 - 1, 0, 0], dtype=np.uint64)
    generator = np.random.Philox(key=seed, counter=counter)
    return sum(int(value) >> 11 for value in generator.random_raw(4 * blocks))


@compiled
def product(a, b):
    """Return the upper and the lower half of the 128 bits of a product."""
    mask = np.uint64(0xFFFFFFFF)
    s = np.uint64(32)
    al, ah, bl, bh = a & mask, a >> s, b & mask, b >> s
    low, mid1, mid2 = al * bl, ah * bl, al * bh
    carry = ((low >> s) + (mid1 & mask) + (mid2 & mask)) >> s
    return ah * bh + (mid1 >> s) + (mid2 >> s) + carry, a * b


@compiled
def philox(seed, count):
    """Return the four numbers of a block."""
    c0, c1, c2, c3 = count, np.uint64(0), np.uint64(0), np.uint64(0)
    k0, k1 = seed, np.uint64(0)
    for _ in range(10):
        h0, l0 = product(np.uint64(0xD2E7470EE14C6C93), c0)
        h1, l1 = product(np.uint64(0xCA5A826395121157), c2)
        c0, c1, c2, c3 = h1 ^ c1 ^ k0, l1, h0 ^ c3 ^ k1, l0
        k0 += np.uint64(0x9E3779B97F4A7C15)
        k1 += np.uint64(0xBB67AE8584CAA73B)
    return c0, c1, c2, c3


@compiled
def inside(x, y):
    """Return 1 when the point of two draws (31 bits of each) lies in the quarter circle."""
    a, b = x >> np.uint64(33), y >> np.uint64(33)
    return np.uint64(a * a + b * b < np.uint64(1 << 62))


@compiled
def total(seed, first, blocks, pi):
    """Return the sum in two parts: the upper one counts 2**32."""
    high = np.uint64(0)
    low = np.uint64(0)
    mask = np.uint64(0xFFFFFFFF)
    for n in range(blocks):
        a, b, c, d = philox(seed, first + np.uint64(n))
        if pi:
            low += inside(a, b) + inside(c, d)
        else:
            for value in (a, b, c, d):
                high += value >> np.uint64(43)
                low += (value >> np.uint64(11)) & mask
    return high, low
