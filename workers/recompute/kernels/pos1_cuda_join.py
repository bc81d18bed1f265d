"""What runs on a GPU: table 2 by lists of one bucket that another looks into, and what of it fits at table 3.

Buckets are not sorted. Each x of the one is put on a list of its group of y; each x of the other walks the
lists of the two neighbouring groups. A list is an entry of `heads` and then, one after another, `nodes`.
"""

from __future__ import annotations

import numpy as np

from .cuda_jit import cuda, device_function, kernel
from .pos1_cuda_words import ROOM, f2, fits, group, number, stream


@kernel
def clear(heads, count):
    """Make lists empty."""
    n = np.int64(cuda.grid(1))
    while n < count:
        heads[n] = -1
        n += cuda.gridsize(1)


@kernel
def insert(key, k, jobs, job, bits, chunk, nodes, heads):
    """Put the 2**bits x that a job looks up on lists; each block of threads does `chunk` of them.

    Row of `jobs`: first x of those that look, first x of those looked up, list of table 2, both directions.
    A node holds the top k bits of y and the next node; the last one names itself.
    """
    words = cuda.shared.array(ROOM, np.uint32)
    place = np.int64(cuda.blockIdx.y)
    start = np.int64(cuda.blockIdx.x) * chunk
    first = jobs[job + place, 1] + start
    at = stream(key, k, first, chunk, words)
    mask = (np.int64(2) << bits) - 1
    n = np.int64(cuda.threadIdx.x)
    while n < chunk:
        u = number(words, at + n * k, k)
        g = group((u << 6) | ((first + n) >> (k - 6)))
        node = start + n
        after = np.int64(cuda.atomic.exch(heads, place * (mask + 1) + (g & mask), np.int32(node)))
        if after < 0:
            after = node
        nodes[(place << bits) + node] = np.uint64(np.uint64(u) << np.uint64(bits)) | np.uint64(after)
        n += cuda.blockDim.x


@device_function
def append(counts, rows, left, right, y, leaf):
    """Append a match to `rows` while there is room."""
    cuda.atomic.add(counts, leaf, np.int64(1))
    at = cuda.atomic.add(counts, len(counts) - 1, np.int64(1))
    if at < len(rows):
        rows[at, 0] = left
        rows[at, 1] = right
        rows[at, 2] = y
        rows[at, 3] = leaf


@kernel
def probe(key, k, jobs, job, bits, chunk, nodes, heads, counts, rows):
    """Append the matches of x with those on lists to `rows`: left x, right x, left y, list of table 2.

    `counts`: how many were found for each list, and last in all; more than there is room for are counted too.
    """
    words = cuda.shared.array(ROOM, np.uint32)
    place = np.int64(cuda.blockIdx.y)
    first = jobs[job + place, 0] + np.int64(cuda.blockIdx.x) * chunk
    other = jobs[job + place, 1]
    leaf = jobs[job + place, 2]
    directions = jobs[job + place, 3]
    at = stream(key, k, first, chunk, words)
    mask = (np.int64(2) << bits) - 1
    size = np.int64(1) << bits
    n = np.int64(cuda.threadIdx.x)
    while n < chunk:
        x = first + n
        y = (number(words, at + n * k, k) << 6) | (x >> (k - 6))
        g = group(y)
        for direction in range(directions):
            # First what lies to the right of y, then what lies to its left.
            wanted = g + 1 - 2 * direction
            node = np.int64(heads[place * (mask + 1) + (wanted & mask)])
            while node >= 0:
                entry = nodes[(place << bits) + node]
                match = other + node
                found = (np.int64(entry >> np.uint64(bits)) << 6) | (match >> (k - 6))
                rest = found - wanted * 15113
                if 0 <= rest < 15113:
                    mine = y - g * 15113
                    if direction == 0:
                        if fits(mine, rest, g & 1):
                            append(counts, rows, x, match, y, leaf)
                    elif fits(rest, mine, wanted & 1):
                        append(counts, rows, match, x, found, leaf)
                after = np.int64(entry & np.uint64(size - 1))
                node = after if after != node else np.int64(-1)
        n += cuda.blockDim.x


@device_function
def spread(g, leaf):
    """Return where to look for the group of a list, before it is cut to the size of `heads`."""
    return g + leaf * np.int64(0x9E3779B1)


@kernel
def hashed(k, rows, count, mask, ys, after, heads, keep):
    """Write y2 of each row to `ys`, put it on lists, and set `keep` to 0."""
    n = np.int64(cuda.grid(1))
    while n < count:
        y = f2(k, rows[n, 2], rows[n, 0], rows[n, 1])
        ys[n] = y
        keep[n] = 0
        after[n] = cuda.atomic.exch(heads, spread(group(y), rows[n, 3]) & mask, np.int32(n))
        n += cuda.gridsize(1)


@kernel
def mark(rows, count, mask, ys, after, heads, starts, partners, directions, keep):
    """Set `keep` of the rows that match one of a list they are to be joined with.

    Those to the right of list n are `partners[starts[n]:starts[n + 1]]`.
    """
    n = np.int64(cuda.grid(1))
    while n < count:
        y = ys[n]
        g = group(y)
        mine = y - g * 15113
        for place in range(starts[rows[n, 3]], starts[rows[n, 3] + 1]):
            partner = partners[place]
            for direction in range(directions):
                wanted = g + 1 - 2 * direction
                m = np.int64(heads[spread(wanted, partner) & mask])
                while m >= 0:
                    rest = ys[m] - wanted * 15113
                    if 0 <= rest < 15113 and rows[m, 3] == partner:
                        if direction == 0:
                            match = fits(mine, rest, g & 1)
                        else:
                            match = fits(rest, mine, wanted & 1)
                        if match:
                            keep[n] = 1
                            keep[m] = 1
                    m = np.int64(after[m])
        n += cuda.gridsize(1)


@kernel
def gather(rows, indices, out):
    """Write the rows of some indices to `out`."""
    n = np.int64(cuda.grid(1))
    while n < len(indices):
        for column in range(4):
            out[n, column] = rows[indices[n], column]
        n += cuda.gridsize(1)
