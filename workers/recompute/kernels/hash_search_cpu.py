"""SHA-256 of one block for many numbers, compiled."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from .jit import compiled
from .pos1_blake3 import put

K: Final = np.array(
    [
        0x428A2F98, 0x71374491, 0xB5C0FBCF, 0xE9B5DBA5, 0x3956C25B, 0x59F111F1, 0x923F82A4, 0xAB1C5ED5,
        0xD807AA98, 0x12835B01, 0x243185BE, 0x550C7DC3, 0x72BE5D74, 0x80DEB1FE, 0x9BDC06A7, 0xC19BF174,
        0xE49B69C1, 0xEFBE4786, 0x0FC19DC6, 0x240CA1CC, 0x2DE92C6F, 0x4A7484AA, 0x5CB0A9DC, 0x76F988DA,
        0x983E5152, 0xA831C66D, 0xB00327C8, 0xBF597FC7, 0xC6E00BF3, 0xD5A79147, 0x06CA6351, 0x14292967,
        0x27B70A85, 0x2E1B2138, 0x4D2C6DFC, 0x53380D13, 0x650A7354, 0x766A0ABB, 0x81C2C92E, 0x92722C85,
        0xA2BFE8A1, 0xA81A664B, 0xC24B8B70, 0xC76C51A3, 0xD192E819, 0xD6990624, 0xF40E3585, 0x106AA070,
        0x19A4C116, 0x1E376C08, 0x2748774C, 0x34B0BCB5, 0x391C0CB3, 0x4ED8AA4A, 0x5B9CCA4F, 0x682E6FF3,
        0x748F82EE, 0x78A5636F, 0x84C87814, 0x8CC70208, 0x90BEFFFA, 0xA4506CEB, 0xBEF9A3F7, 0xC67178F2,
    ],
    dtype=np.uint32,
)  # fmt: skip
START: Final = np.array(
    [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19],
    dtype=np.uint32,
)


def search(prefix: bytes, start: int, count: int, bits: int) -> list[int]:
    """Return the numbers from `start` whose hash begins with `bits` zero bits."""
    found = np.empty(count, np.int64)
    n = scan(padded(prefix), 8 * len(prefix), start, count, bits, found)
    return [int(number) for number in found[:n]]


def padded(prefix: bytes) -> npt.NDArray[np.uint32]:
    """Return the words of a block that is hashed, with 0 for the number of 8 bytes."""
    block = prefix + bytes(8) + b"\x80"
    block = block.ljust(56, b"\0") + ((len(prefix) + 8) * 8).to_bytes(8, "big")
    return np.frombuffer(block, ">u4").astype(np.uint32)


@compiled
def turned(value, right):
    """Return a word rotated to the right."""
    return np.uint32((value >> np.uint32(right)) | (value << np.uint32(32 - right)))


@compiled
def sha256(m, out):
    """Hash one padded block of 16 words; `m` has 64 words, of which the last 48 are overwritten."""
    for n in range(16, 64):
        x, y = m[n - 15], m[n - 2]
        s0 = np.uint32(turned(x, 7) ^ turned(x, 18) ^ (x >> np.uint32(3)))
        s1 = np.uint32(turned(y, 17) ^ turned(y, 19) ^ (y >> np.uint32(10)))
        m[n] = np.uint32(m[n - 16] + s0 + m[n - 7] + s1)
    a, b, c, d, e, f, g, h = START[0], START[1], START[2], START[3], START[4], START[5], START[6], START[7]
    for n in range(64):
        big1 = np.uint32(turned(e, 6) ^ turned(e, 11) ^ turned(e, 25))
        choice = np.uint32((e & f) ^ (~e & g))
        t1 = np.uint32(h + big1 + choice + K[n] + m[n])
        big0 = np.uint32(turned(a, 2) ^ turned(a, 13) ^ turned(a, 22))
        most = np.uint32((a & b) ^ (a & c) ^ (b & c))
        h, g, f, e, d, c, b, a = g, f, e, np.uint32(d + t1), c, b, a, np.uint32(t1 + np.uint32(big0 + most))
    state = (a, b, c, d, e, f, g, h)
    for n in range(8):
        out[n] = np.uint32(state[n] + START[n])


@compiled
def zeros(words):
    """Return with how many zero bits 8 words begin."""
    n = 0
    for word in words:
        if word != 0:
            while not word >> np.uint32(31 - (n & 31)) & np.uint32(1):
                n += 1
            return n
        n += 32
    return n


@compiled
def scan(words, at, start, count, bits, found):
    """Write the numbers that fit to `found`; return how many. The number has 64 bits, from bit `at`."""
    m = np.empty(64, np.uint32)
    out = np.empty(8, np.uint32)
    n = 0
    for number in range(start, start + count):
        for w in range(16):
            m[w] = words[w]
        put(m, at, np.uint64(number), np.int64(64))
        sha256(m, out)
        if zeros(out) >= bits:
            found[n] = number
            n += 1
    return n
