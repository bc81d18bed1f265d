"""F1: the values y1 of consecutive x, from a ChaCha8 key stream."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from .jit import compiled

BLOCKS: Final = 256
"""Blocks of 64 bytes that are made at once."""
CHUNK: Final = 4096
"""The x of one call at k = 32: 16 for each block."""


def key_words(plot_id: bytes) -> Any:
    """Return the key as 8 little-endian words: a one, then all of the id but its last byte."""
    return np.frombuffer(b"\x01" + plot_id[:31], dtype="<u4").astype(np.uint32)


@compiled
def quarter(a, b, c, d):
    """Return ChaCha's quarter round of four words."""
    a = np.uint32(a + b)
    d = np.uint32(d ^ a)
    d = np.uint32((d << np.uint32(16)) | (d >> np.uint32(16)))
    c = np.uint32(c + d)
    b = np.uint32(b ^ c)
    b = np.uint32((b << np.uint32(12)) | (b >> np.uint32(20)))
    a = np.uint32(a + b)
    d = np.uint32(d ^ a)
    d = np.uint32((d << np.uint32(8)) | (d >> np.uint32(24)))
    c = np.uint32(c + d)
    b = np.uint32(b ^ c)
    b = np.uint32((b << np.uint32(7)) | (b >> np.uint32(25)))
    return a, b, c, d


@compiled
def double_round(a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3):
    """Return the state after one round on columns and one on diagonals."""
    a0, b0, c0, d0 = quarter(a0, b0, c0, d0)
    a1, b1, c1, d1 = quarter(a1, b1, c1, d1)
    a2, b2, c2, d2 = quarter(a2, b2, c2, d2)
    a3, b3, c3, d3 = quarter(a3, b3, c3, d3)
    a0, b1, c2, d3 = quarter(a0, b1, c2, d3)
    a1, b2, c3, d0 = quarter(a1, b2, c3, d0)
    a2, b3, c0, d1 = quarter(a2, b3, c0, d1)
    a3, b0, c1, d2 = quarter(a3, b0, c1, d2)
    return a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3


@compiled
def swapped(v):
    """Return a word with its bytes in the other order."""
    return np.uint32(
        (v << np.uint32(24))
        | ((v & np.uint32(0xFF00)) << np.uint32(8))
        | ((v >> np.uint32(8)) & np.uint32(0xFF00))
        | (v >> np.uint32(24))
    )


@compiled
def blocks(key, first, count, out):
    """Write `count` (at most BLOCKS) blocks from number `first` to `out[word * BLOCKS + block]`, big-endian.

    `first` is a multiple of BLOCKS or lies in one run of 2**32 blocks with its successors.
    """
    a0, a1, a2, a3 = (
        np.uint32(0x61707865),
        np.uint32(0x3320646E),
        np.uint32(0x79622D32),
        np.uint32(0x6B206574),
    )
    b0, b1, b2, b3 = key[0], key[1], key[2], key[3]
    c0, c1, c2, c3 = key[4], key[5], key[6], key[7]
    low = np.uint32(first & 0xFFFFFFFF)
    high = np.uint32(first >> 32)
    zero = np.uint32(0)
    for i in range(np.uint32(count)):
        n = np.uint32(low + np.uint32(i))
        s = double_round(a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, n, high, zero, zero)
        s = double_round(*s)
        s = double_round(*s)
        s = double_round(*s)
        j = np.uint32(i)
        out[j] = swapped(np.uint32(s[0] + a0))
        out[j + np.uint32(256)] = swapped(np.uint32(s[1] + a1))
        out[j + np.uint32(512)] = swapped(np.uint32(s[2] + a2))
        out[j + np.uint32(768)] = swapped(np.uint32(s[3] + a3))
        out[j + np.uint32(1024)] = swapped(np.uint32(s[4] + b0))
        out[j + np.uint32(1280)] = swapped(np.uint32(s[5] + b1))
        out[j + np.uint32(1536)] = swapped(np.uint32(s[6] + b2))
        out[j + np.uint32(1792)] = swapped(np.uint32(s[7] + b3))
        out[j + np.uint32(2048)] = swapped(np.uint32(s[8] + c0))
        out[j + np.uint32(2304)] = swapped(np.uint32(s[9] + c1))
        out[j + np.uint32(2560)] = swapped(np.uint32(s[10] + c2))
        out[j + np.uint32(2816)] = swapped(np.uint32(s[11] + c3))
        out[j + np.uint32(3072)] = swapped(np.uint32(s[12] + n))
        out[j + np.uint32(3328)] = swapped(np.uint32(s[13] + high))
        out[j + np.uint32(3584)] = swapped(s[14])
        out[j + np.uint32(3840)] = swapped(s[15])
