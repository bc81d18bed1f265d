"""SHA-256 of one block for many numbers, on a GPU: a thread each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .cuda_jit import THREADS, cuda, device_function, kernel
from .hash_search_cpu import START, K, padded

MOST = 1 << 22
"""Numbers that one launch looks at: some milliseconds of a GPU."""
LEAST = 1 << 14
EACH = 4
"""Bytes of the GPU's memory for each number of a launch."""


def vram(bits: int, limit: int) -> int:
    """Return about how many bytes of the GPU's memory a search takes."""
    return EACH * step(bits, limit) + (1 << 12)


def step(bits: int, limit: int) -> int:
    """Return how many numbers to look at before it is seen whether enough were found."""
    return max(LEAST, min(MOST, limit << min(bits, 32)))


def search(
    prefix: bytes, start: int, count: int, bits: int, limit: int, check: Callable[[], None]
) -> list[int]:
    """Return the smallest numbers from `start`, at most `limit`, whose hash begins with `bits` zero bits."""
    most = min(count, step(bits, limit))
    words = cuda.to_device(padded(prefix))
    offsets = cuda.device_array(most, np.uint32)
    counter = cuda.device_array(1, np.uint32)
    found: list[int] = []
    for first in range(start, start + count, most):
        check()
        together = min(most, start + count - first)
        counter.copy_to_device(np.zeros(1, np.uint32))
        threads = min(THREADS, together)
        high, low = np.uint32(first >> 32), np.uint32(first & 0xFFFFFFFF)
        scan[-(-together // threads), threads](
            words, 8 * len(prefix), high, low, together, bits, counter, offsets
        )
        n = int(counter.copy_to_host()[0])
        if n:
            found += [first + int(offset) for offset in np.sort(offsets[:n].copy_to_host())]
            if len(found) >= limit:
                break
    return found[:limit]


@device_function
def turned(value, right):
    """Return a word rotated to the right."""
    return np.uint32(np.uint32(value >> np.uint32(right)) | np.uint32(value << np.uint32(32 - right)))


@device_function
def scheduled(w0, w1, w9, w14):
    """Return the word that follows the last of 16."""
    s0 = np.uint32(turned(w1, 7) ^ turned(w1, 18) ^ np.uint32(w1 >> np.uint32(3)))
    s1 = np.uint32(turned(w14, 17) ^ turned(w14, 19) ^ np.uint32(w14 >> np.uint32(10)))
    return np.uint32(np.uint32(w0 + s0) + np.uint32(w9 + s1))


@device_function
def mixed(a, b, c, d, e, f, g, h, k, w):
    """Return what a round makes of `d` and of `h`."""
    s1 = np.uint32(turned(e, 6) ^ turned(e, 11) ^ turned(e, 25))
    choice = np.uint32((e & f) ^ (~e & g))
    t = np.uint32(np.uint32(np.uint32(h + s1) + np.uint32(choice + k)) + w)
    s0 = np.uint32(turned(a, 2) ^ turned(a, 13) ^ turned(a, 22))
    most = np.uint32((a & b) ^ (a & c) ^ (b & c))
    return np.uint32(d + t), np.uint32(t + np.uint32(s0 + most))


@device_function
def word(words, n, at, high, low):
    """Return word `n` of the block, in which a number of 64 bits begins at bit `at`."""
    # How far the number's last bit is to the right of the word's.
    beyond = at + 64 - 32 * (n + 1)
    bits = np.uint32(0)
    if 0 <= beyond < 32:
        bits = np.uint32(low >> np.uint32(beyond))
        if beyond > 0:
            bits = np.uint32(bits | np.uint32(high << np.uint32(32 - beyond)))
    elif 32 <= beyond < 64:
        bits = np.uint32(high >> np.uint32(beyond - 32))
    elif -32 < beyond < 0:
        bits = np.uint32(low << np.uint32(-beyond))
    return np.uint32(words[n] | bits)


@device_function
def zero(value, bits):
    """Say whether the first `bits` bits of a word are 0; all of it when there are more."""
    if bits <= 0:
        return True
    if bits >= 32:
        return value == 0
    return np.uint32(value >> np.uint32(32 - bits)) == 0


@kernel
def scan(words, at, high, low, count, bits, counter, offsets):
    """Append to `offsets` those below `count` whose number (`high`, `low` and the offset) fits."""
    offset = cuda.grid(1)
    if offset >= count:
        return
    left = np.uint32(0xFFFFFFFF - low)
    if offset > left:
        high = np.uint32(high + np.uint32(1))
    low = np.uint32(low + np.uint32(offset))
    w0, w1 = word(words, 0, at, high, low), word(words, 1, at, high, low)
    w2, w3 = word(words, 2, at, high, low), word(words, 3, at, high, low)
    w4, w5 = word(words, 4, at, high, low), word(words, 5, at, high, low)
    w6, w7 = word(words, 6, at, high, low), word(words, 7, at, high, low)
    w8, w9 = word(words, 8, at, high, low), word(words, 9, at, high, low)
    w10, w11 = word(words, 10, at, high, low), word(words, 11, at, high, low)
    w12, w13 = word(words, 12, at, high, low), word(words, 13, at, high, low)
    w14, w15 = words[14], words[15]
    k, start = cuda.const.array_like(K), cuda.const.array_like(START)
    a, b, c, d = start[0], start[1], start[2], start[3]
    e, f, g, h = start[4], start[5], start[6], start[7]
    for r in range(0, 64, 16):
        # Written out, so that neither words nor state leave the registers.
        d, h = mixed(a, b, c, d, e, f, g, h, k[r], w0)
        c, g = mixed(h, a, b, c, d, e, f, g, k[r + 1], w1)
        b, f = mixed(g, h, a, b, c, d, e, f, k[r + 2], w2)
        a, e = mixed(f, g, h, a, b, c, d, e, k[r + 3], w3)
        h, d = mixed(e, f, g, h, a, b, c, d, k[r + 4], w4)
        g, c = mixed(d, e, f, g, h, a, b, c, k[r + 5], w5)
        f, b = mixed(c, d, e, f, g, h, a, b, k[r + 6], w6)
        e, a = mixed(b, c, d, e, f, g, h, a, k[r + 7], w7)
        d, h = mixed(a, b, c, d, e, f, g, h, k[r + 8], w8)
        c, g = mixed(h, a, b, c, d, e, f, g, k[r + 9], w9)
        b, f = mixed(g, h, a, b, c, d, e, f, k[r + 10], w10)
        a, e = mixed(f, g, h, a, b, c, d, e, k[r + 11], w11)
        h, d = mixed(e, f, g, h, a, b, c, d, k[r + 12], w12)
        g, c = mixed(d, e, f, g, h, a, b, c, k[r + 13], w13)
        f, b = mixed(c, d, e, f, g, h, a, b, k[r + 14], w14)
        e, a = mixed(b, c, d, e, f, g, h, a, k[r + 15], w15)
        w0, w1 = scheduled(w0, w1, w9, w14), scheduled(w1, w2, w10, w15)
        w2 = scheduled(w2, w3, w11, w0)
        w3 = scheduled(w3, w4, w12, w1)
        w4 = scheduled(w4, w5, w13, w2)
        w5 = scheduled(w5, w6, w14, w3)
        w6 = scheduled(w6, w7, w15, w4)
        w7 = scheduled(w7, w8, w0, w5)
        w8 = scheduled(w8, w9, w1, w6)
        w9 = scheduled(w9, w10, w2, w7)
        w10 = scheduled(w10, w11, w3, w8)
        w11 = scheduled(w11, w12, w4, w9)
        w12 = scheduled(w12, w13, w5, w10)
        w13 = scheduled(w13, w14, w6, w11)
        w14 = scheduled(w14, w15, w7, w12)
        w15 = scheduled(w15, w0, w8, w13)
    if not zero(np.uint32(a + start[0]), bits):
        return
    fits = zero(np.uint32(b + start[1]), bits - 32) and zero(np.uint32(c + start[2]), bits - 64)
    fits = fits and zero(np.uint32(d + start[3]), bits - 96) and zero(np.uint32(e + start[4]), bits - 128)
    fits = fits and zero(np.uint32(f + start[5]), bits - 160) and zero(np.uint32(g + start[6]), bits - 192)
    if fits and zero(np.uint32(h + start[7]), bits - 224):
        offsets[cuda.atomic.add(counter, 0, np.uint32(1))] = offset
