"""F1 and f2 for one thread of a GPU: ChaCha8 into the memory of a block of threads, BLAKE3 in registers.

Words are 32 bits and wrap; each sum is cut back at once, because mixing widths would make it 64 bits, and
mixing signs a float.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from .cuda_jit import cuda, device_function

ROOM: Final = 128 * 17 + 2
"""Words of a key stream that a block of threads shares: 128 blocks, 17 apart against bank conflicts.

Two more are read, and shifted out again, behind the last one.
"""


@device_function
def quarter(a, b, c, d):
    """Return ChaCha's quarter round of four words."""
    a = np.uint32(a + b)
    d = np.uint32(d ^ a)
    d = np.uint32(np.uint32(d << np.uint32(16)) | np.uint32(d >> np.uint32(16)))
    c = np.uint32(c + d)
    b = np.uint32(b ^ c)
    b = np.uint32(np.uint32(b << np.uint32(12)) | np.uint32(b >> np.uint32(20)))
    a = np.uint32(a + b)
    d = np.uint32(d ^ a)
    d = np.uint32(np.uint32(d << np.uint32(8)) | np.uint32(d >> np.uint32(24)))
    c = np.uint32(c + d)
    b = np.uint32(b ^ c)
    b = np.uint32(np.uint32(b << np.uint32(7)) | np.uint32(b >> np.uint32(25)))
    return a, b, c, d


@device_function
def swapped(v):
    """Return a word with its bytes in the other order."""
    return np.uint32(
        np.uint32(v << np.uint32(24))
        | np.uint32(np.uint32(v & np.uint32(0xFF00)) << np.uint32(8))
        | np.uint32(np.uint32(v >> np.uint32(8)) & np.uint32(0xFF00))
        | np.uint32(v >> np.uint32(24))
    )


@device_function
def chacha(key, block, words, at):
    """Write one block of the key stream to `words[at:at + 16]`, big-endian."""
    a0, a1 = np.uint32(0x61707865), np.uint32(0x3320646E)
    a2, a3 = np.uint32(0x79622D32), np.uint32(0x6B206574)
    b0, b1, b2, b3 = key[0], key[1], key[2], key[3]
    c0, c1, c2, c3 = key[4], key[5], key[6], key[7]
    low = np.uint32(block & 0xFFFFFFFF)
    high = np.uint32(block >> 32)
    d0, d1, d2, d3 = low, high, np.uint32(0), np.uint32(0)
    for _ in range(4):
        a0, b0, c0, d0 = quarter(a0, b0, c0, d0)
        a1, b1, c1, d1 = quarter(a1, b1, c1, d1)
        a2, b2, c2, d2 = quarter(a2, b2, c2, d2)
        a3, b3, c3, d3 = quarter(a3, b3, c3, d3)
        a0, b1, c2, d3 = quarter(a0, b1, c2, d3)
        a1, b2, c3, d0 = quarter(a1, b2, c3, d0)
        a2, b3, c0, d1 = quarter(a2, b3, c0, d1)
        a3, b0, c1, d2 = quarter(a3, b0, c1, d2)
    words[at] = swapped(np.uint32(a0 + np.uint32(0x61707865)))
    words[at + 1] = swapped(np.uint32(a1 + np.uint32(0x3320646E)))
    words[at + 2] = swapped(np.uint32(a2 + np.uint32(0x79622D32)))
    words[at + 3] = swapped(np.uint32(a3 + np.uint32(0x6B206574)))
    words[at + 4] = swapped(np.uint32(b0 + key[0]))
    words[at + 5] = swapped(np.uint32(b1 + key[1]))
    words[at + 6] = swapped(np.uint32(b2 + key[2]))
    words[at + 7] = swapped(np.uint32(b3 + key[3]))
    words[at + 8] = swapped(np.uint32(c0 + key[4]))
    words[at + 9] = swapped(np.uint32(c1 + key[5]))
    words[at + 10] = swapped(np.uint32(c2 + key[6]))
    words[at + 11] = swapped(np.uint32(c3 + key[7]))
    words[at + 12] = swapped(np.uint32(d0 + low))
    words[at + 13] = swapped(np.uint32(d1 + high))
    words[at + 14] = swapped(d2)
    words[at + 15] = swapped(d3)


@device_function
def stream(key, k, first, count, words):
    """Write the key stream of `count` x to shared `words`, by all threads; return where `first` begins."""
    bit = np.int64(first) * k
    block = bit >> 9
    blocks = ((bit + np.int64(count) * k - 1) >> 9) - block + 1
    n = np.int64(cuda.threadIdx.x)
    while n < blocks:
        chacha(key, block + n, words, n * 17)
        n += cuda.blockDim.x
    cuda.syncthreads()
    return bit & 511


@device_function
def number(words, at, k):
    """Return k bits (at most 40) of a key stream that `stream` wrote, from bit `at`."""
    word = at >> 5
    skip = at & 31
    value = np.uint64(words[word + (word >> 4)]) << np.uint64(32)
    value |= np.uint64(words[word + 1 + ((word + 1) >> 4)])
    value = np.uint64(value << np.uint64(skip))
    if skip + k > 64:
        value |= np.uint64(words[word + 2 + ((word + 2) >> 4)]) >> np.uint64(32 - skip)
    return np.int64(value >> np.uint64(64 - k))


@device_function
def group(y):
    """Return y div 15113."""
    return np.int64(np.uint64(y) // np.uint64(15113))


@device_function
def fits(low, high, parity):
    """Say whether remainders of y in neighbouring groups match; `parity` is that of the left group."""
    low = np.uint32(low)
    high = np.uint32(high)
    low_b = np.uint32(low // np.uint32(127))
    high_b = np.uint32(high // np.uint32(127))
    m = np.uint32(np.uint32(high_b + np.uint32(119)) - low_b)
    if m >= np.uint32(119):
        m = np.uint32(m - np.uint32(119))
    if m >= np.uint32(64):
        return False
    low_c = np.uint32(low - np.uint32(low_b * np.uint32(127)))
    high_c = np.uint32(high - np.uint32(high_b * np.uint32(127)))
    step = np.uint32(np.uint32(m + m) + np.uint32(parity))
    return np.uint32(np.uint32(low_c + np.uint32(step * step)) % np.uint32(127)) == high_c


@device_function
def mixed(a, b, c, d, x, y):
    """Return four words of BLAKE3's state after two words of the message went in."""
    a = np.uint32(np.uint32(a + b) + x)
    d = np.uint32(d ^ a)
    d = np.uint32(np.uint32(d << np.uint32(16)) | np.uint32(d >> np.uint32(16)))
    c = np.uint32(c + d)
    b = np.uint32(b ^ c)
    b = np.uint32(np.uint32(b << np.uint32(20)) | np.uint32(b >> np.uint32(12)))
    a = np.uint32(np.uint32(a + b) + y)
    d = np.uint32(d ^ a)
    d = np.uint32(np.uint32(d << np.uint32(24)) | np.uint32(d >> np.uint32(8)))
    c = np.uint32(c + d)
    b = np.uint32(b ^ c)
    b = np.uint32(np.uint32(b << np.uint32(25)) | np.uint32(b >> np.uint32(7)))
    return a, b, c, d


@device_function
def blake3(size, m0, m1, m2, m3):
    """Return the first 64 bits of BLAKE3 of `size` bytes, at most 16; words are big-endian."""
    zero = np.uint32(0)
    m0, m1, m2, m3 = swapped(m0), swapped(m1), swapped(m2), swapped(m3)
    m4 = m5 = m6 = m7 = m8 = m9 = m10 = m11 = m12 = m13 = m14 = m15 = zero
    a0, a1 = np.uint32(0x6A09E667), np.uint32(0xBB67AE85)
    a2, a3 = np.uint32(0x3C6EF372), np.uint32(0xA54FF53A)
    b0, b1 = np.uint32(0x510E527F), np.uint32(0x9B05688C)
    b2, b3 = np.uint32(0x1F83D9AB), np.uint32(0x5BE0CD19)
    c0, c1, c2, c3 = a0, a1, a2, a3
    # The only chunk's only block, which is the root as well.
    d0, d1, d2, d3 = zero, zero, np.uint32(size), np.uint32(11)
    for _ in range(7):
        a0, b0, c0, d0 = mixed(a0, b0, c0, d0, m0, m1)
        a1, b1, c1, d1 = mixed(a1, b1, c1, d1, m2, m3)
        a2, b2, c2, d2 = mixed(a2, b2, c2, d2, m4, m5)
        a3, b3, c3, d3 = mixed(a3, b3, c3, d3, m6, m7)
        a0, b1, c2, d3 = mixed(a0, b1, c2, d3, m8, m9)
        a1, b2, c3, d0 = mixed(a1, b2, c3, d0, m10, m11)
        a2, b3, c0, d1 = mixed(a2, b3, c0, d1, m12, m13)
        a3, b0, c1, d2 = mixed(a3, b0, c1, d2, m14, m15)
        m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15 = (
            m2, m6, m3, m10, m7, m0, m4, m13, m1, m11, m12, m5, m9, m14, m15, m8,
        )  # fmt: skip
    high = np.uint64(swapped(np.uint32(a0 ^ c0)))
    low = np.uint64(swapped(np.uint32(a1 ^ c1)))
    return np.uint64(high << np.uint64(32)) | low


@device_function
def f2(k, y, left, right):
    """Return y2 of a match from the left y1 and both x."""
    y, left, right = np.uint64(y), np.uint64(left), np.uint64(right)
    # One string of 128 bits: y1, left, right and zeros. Two words of it, `high` and `low`.
    high = np.uint64(y << np.uint64(58 - k))
    low = np.uint64(0)
    end = 122 - 2 * k
    if end >= 64:
        high |= np.uint64(left << np.uint64(end - 64))
    else:
        high |= np.uint64(left >> np.uint64(64 - end))
        low |= np.uint64(left << np.uint64(end))
    end -= k
    if end >= 64:
        high |= np.uint64(right << np.uint64(end - 64))
    else:
        high |= np.uint64(right >> np.uint64(64 - end))
        low |= np.uint64(right << np.uint64(end))
    word = np.uint64(0xFFFFFFFF)
    half = np.uint64(32)
    m0, m1 = np.uint32(high >> half), np.uint32(high & word)
    m2, m3 = np.uint32(low >> half), np.uint32(low & word)
    return np.int64(blake3((3 * k + 13) >> 3, m0, m1, m2, m3) >> np.uint64(58 - k))
