"""f2 to f7: BLAKE3 of one block, over numbers of k bits."""

from __future__ import annotations

import numpy as np

from .jit import compiled
from .pos1_chacha import swapped


@compiled
def mixed(a, b, c, d, x, y):
    """Return four words of the state after two words of the message went in."""
    a = np.uint32(a + b + x)
    d = np.uint32(d ^ a)
    d = np.uint32((d << np.uint32(16)) | (d >> np.uint32(16)))
    c = np.uint32(c + d)
    b = np.uint32(b ^ c)
    b = np.uint32((b << np.uint32(20)) | (b >> np.uint32(12)))
    a = np.uint32(a + b + y)
    d = np.uint32(d ^ a)
    d = np.uint32((d << np.uint32(24)) | (d >> np.uint32(8)))
    c = np.uint32(c + d)
    b = np.uint32(b ^ c)
    b = np.uint32((b << np.uint32(25)) | (b >> np.uint32(7)))
    return a, b, c, d


@compiled
def permuted(m):
    """Return the message in the order of the next round."""
    return (
        m[2], m[6], m[3], m[10], m[7], m[0], m[4], m[13],
        m[1], m[11], m[12], m[5], m[9], m[14], m[15], m[8],
    )  # fmt: skip


@compiled
def blake3(m, size, out):
    """Write BLAKE3 of `size` bytes in the 16 words `m` to the first 8 words of `out`; all are big-endian."""
    w = (
        swapped(m[0]), swapped(m[1]), swapped(m[2]), swapped(m[3]),
        swapped(m[4]), swapped(m[5]), swapped(m[6]), swapped(m[7]),
        swapped(m[8]), swapped(m[9]), swapped(m[10]), swapped(m[11]),
        swapped(m[12]), swapped(m[13]), swapped(m[14]), swapped(m[15]),
    )  # fmt: skip
    a0, a1, a2, a3 = (
        np.uint32(0x6A09E667),
        np.uint32(0xBB67AE85),
        np.uint32(0x3C6EF372),
        np.uint32(0xA54FF53A),
    )
    b0, b1, b2, b3 = (
        np.uint32(0x510E527F),
        np.uint32(0x9B05688C),
        np.uint32(0x1F83D9AB),
        np.uint32(0x5BE0CD19),
    )
    c0, c1, c2, c3 = a0, a1, a2, a3
    d0, d1, d2, d3 = np.uint32(0), np.uint32(0), np.uint32(size), np.uint32(11)
    for _ in range(7):
        a0, b0, c0, d0 = mixed(a0, b0, c0, d0, w[0], w[1])
        a1, b1, c1, d1 = mixed(a1, b1, c1, d1, w[2], w[3])
        a2, b2, c2, d2 = mixed(a2, b2, c2, d2, w[4], w[5])
        a3, b3, c3, d3 = mixed(a3, b3, c3, d3, w[6], w[7])
        a0, b1, c2, d3 = mixed(a0, b1, c2, d3, w[8], w[9])
        a1, b2, c3, d0 = mixed(a1, b2, c3, d0, w[10], w[11])
        a2, b3, c0, d1 = mixed(a2, b3, c0, d1, w[12], w[13])
        a3, b0, c1, d2 = mixed(a3, b0, c1, d2, w[14], w[15])
        w = permuted(w)
    out[0], out[1], out[2], out[3] = (
        swapped(np.uint32(a0 ^ c0)),
        swapped(np.uint32(a1 ^ c1)),
        swapped(np.uint32(a2 ^ c2)),
        swapped(np.uint32(a3 ^ c3)),
    )
    out[4], out[5], out[6], out[7] = (
        swapped(np.uint32(b0 ^ d0)),
        swapped(np.uint32(b1 ^ d1)),
        swapped(np.uint32(b2 ^ d2)),
        swapped(np.uint32(b3 ^ d3)),
    )


@compiled
def put_word(words, at, value, bits):
    """Write the low `bits` (at most 32) of `value` to the cleared bit string `words`, from bit `at`."""
    last = at + bits - 1
    word = last >> 5
    value = np.uint64(value) << np.uint64(31 - (last & 31))
    words[word] |= np.uint32(value & np.uint64(0xFFFFFFFF))
    if value >> np.uint64(32) != 0:
        words[word - 1] |= np.uint32(value >> np.uint64(32))


@compiled
def put(words, at, value, bits):
    """Write the low `bits` (at most 64) of `value` to the cleared bit string `words`, from bit `at`."""
    value = np.uint64(value)
    if bits > 32:
        put_word(words, at, value >> np.uint64(32), bits - 32)
        put_word(words, at + bits - 32, value & np.uint64(0xFFFFFFFF), np.int64(32))
    else:
        put_word(words, at, value, bits)


@compiled
def get(words, at, bits):
    """Return `bits` (at most 46) of the bit string `words`, from bit `at`."""
    word = at >> 5
    skip = at & 31
    value = (np.uint64(words[word]) << np.uint64(32)) | np.uint64(words[word + 1])
    value = value << np.uint64(skip)
    if skip:
        value |= np.uint64(words[word + 2]) >> np.uint64(32 - skip)
    return value >> np.uint64(64 - bits)


@compiled
def f(k, inputs, outputs, y, left, right, message, digest, meta):
    """Return y of a match, and write its metadata to `meta`: `outputs` numbers of k bits.

    `left` and `right` hold `inputs` numbers each. `message` has 16 words, `digest` 10.
    """
    message[:] = 0
    put(message, np.int64(0), np.uint64(y), k + 6)
    at = k + 6
    for n in range(inputs):
        put(message, at, left[n], k)
        put(message, at + inputs * k, right[n], k)
        at += k
    blake3(message, (k + 6 + 2 * inputs * k + 7) >> 3, digest)
    if outputs == 2 * inputs:
        for n in range(inputs):
            meta[n] = left[n]
            meta[n + inputs] = right[n]
    else:
        for n in range(outputs):
            meta[n] = get(digest, k + 6 + n * k, k)
    return np.int64(get(digest, np.int64(0), k + 6))
