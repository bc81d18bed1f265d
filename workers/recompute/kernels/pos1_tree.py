"""Tables 3 to 7: join the lists of table 2 until one is left, and go back from there to the 64 x."""

from __future__ import annotations

import numpy as np

from .jit import compiled
from .pos1_blake3 import f
from .pos1_chacha import blocks
from .pos1_join import number
from .pos1_match import fits, longer_rows, matches


@compiled
def climb(k, inputs, outputs, ordered, y, meta, starts, jobs, lists):
    """Join lists of one table into those of the next; return y, metadata, links and starts of these.

    List n is y[starts[n]:starts[n + 1]]. `jobs` are rows (list, list, resulting list), in the order of the
    last, which is below `lists`. Links are rows of two indices: left, right.
    """
    longest = 1
    for n in range(len(starts) - 1):
        longest = max(longest, starts[n + 1] - starts[n])
    size = 2
    while size < 2 * longest:
        size *= 2
    head = np.full(size, -1, np.int32)
    chain = np.empty(longest, np.int32)
    found = np.empty((longest + 16, 2), np.int32)
    links = np.empty((longest + 16, 2), np.int64)
    out_starts = np.zeros(lists + 1, np.int64)
    n = 0
    for job in range(len(jobs)):
        a, b, to = jobs[job]
        ya, yb = y[starts[a] : starts[a + 1]], y[starts[b] : starts[b + 1]]
        found, count = matches(ya, yb, a == b, ordered, head, chain, found)
        for m in range(count):
            if n == len(links):
                links = longer_rows(links)
            for side in range(2):
                index = found[m, side]
                links[n, side] = starts[a] + index if index < len(ya) else starts[b] + index - len(ya)
            n += 1
        out_starts[to + 1] = n
    for to in range(lists):
        out_starts[to + 1] = max(out_starts[to + 1], out_starts[to])
    out, out_meta = hashed(k, inputs, outputs, y, meta, links[:n])
    return out, out_meta, links[:n].copy(), out_starts


@compiled
def hashed(k, inputs, outputs, y, meta, links):
    """Return y and metadata of linked entries."""
    out = np.empty(len(links), np.int64)
    out_meta = np.zeros((len(links), 4), np.uint64)
    message = np.zeros(16, np.uint32)
    digest = np.zeros(10, np.uint32)
    for n in range(len(links)):
        left, right = links[n]
        out[n] = f(k, inputs, outputs, y[left], meta[left], meta[right], message, digest, out_meta[n])
    return out, out_meta


@compiled
def top_of(k, key, xs):
    """Return y7 of 64 x in proof order (or y of fewer: 2**n), or -1: neighbours do not match."""
    words = np.empty(4096, np.uint32)
    y = np.empty(len(xs), np.int64)
    meta = np.zeros((len(xs), 4), np.uint64)
    for n in range(len(xs)):
        bit = xs[n] * k
        block = bit >> 9
        blocks(key, np.int64(block), np.int64(((bit + k - 1) >> 9) - block + 1), words)
        y[n] = (np.int64(number(words, bit & 511, k)) << 6) | (xs[n] >> (k - 6))
        meta[n, 0] = xs[n]
    inputs = (1, 2, 4, 4, 3, 2, 0)
    table = 0
    while len(y) > 1:
        links = np.arange(len(y)).reshape(len(y) // 2, 2)
        for n in range(len(links)):
            left = y[2 * n] // 15113
            right = y[2 * n + 1] // 15113
            if right != left + 1 or not fits(y[2 * n] - left * 15113, y[2 * n + 1] - right * 15113, left & 1):
                return np.int64(-1)
        y, meta = hashed(k, inputs[table], inputs[table + 1], y, meta, links)
        table += 1
    return y[0]
