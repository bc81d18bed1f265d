"""Table 2 of large buckets: divided by y first, so that what belongs together lies together."""

from __future__ import annotations

from typing import Final

import numpy as np

from .jit import compiled
from .pos1_join import INVERSE, K_GROUP, clear, fill, mark, near, place
from .pos1_match import longer_rows
from .pos1_near import near_matches, remainders

REACH: Final = 474
"""Two y that match differ by less than 2 * 15113, which is 64 times this at most."""


def capacity(d: int, part_bits: int) -> int:
    """Return how many entries of a bucket one part may hold: ten standard deviations more than expected."""
    mean = 1 << (d - part_bits)
    return int(mean + 10 * mean**0.5) + 64


@compiled
def divide(key, k, d, bucket, part_bits, room, u, words, ends, entries, edges):
    """Write all `u << d | x` of a bucket to its parts in `entries`; return how many lie at edges, or -1.

    Part p begins at p * room and ends before ends[p]. Entries at an edge between parts are also written to
    `edges`. -1: a part or the edges were too small.
    """
    parts = 1 << part_bits
    shift = np.uint64(k - part_bits)
    inside = (np.uint64(1) << shift) - np.uint64(1)
    n = 0
    for p in range(parts):
        ends[p] = p * room
    for start in range(0, 1 << d, 4096):
        fill(key, k, (bucket << d) + start, np.int64(4096), words, u)
        for i in range(4096):
            value = np.uint64(u[i])
            p = value >> shift
            to = ends[p]
            entries[to] = (value << np.uint64(d)) | np.uint64(start + place(k, d, np.int64(i)))
            ends[p] = to + 1
        if at_edges(u, inside) > 0:
            for i in range(4096):
                value = np.uint64(u[i])
                if ((value + np.uint64(474)) & inside) < np.uint64(948):
                    if n == len(edges):
                        return -1
                    edges[n] = (value << np.uint64(d)) | np.uint64(start + place(k, d, np.int64(i)))
                    n += 1
        for p in range(parts):
            if ends[p] > (p + 1) * room:
                return -1
    return n


@compiled
def at_edges(u, inside):
    """Return how many of a chunk lie near the edge of a part."""
    n = np.uint32(0)
    if u.itemsize == 4:
        low = np.uint32(inside)
        for i in range(4096):
            n += np.uint32((np.uint32(u[i] + np.uint32(474)) & low) < np.uint32(948))
    else:
        for i in range(4096):
            n += np.uint32(((u[i] + np.uint64(474)) & inside) < np.uint64(948))
    return n


@compiled
def entry_groups(entries, k, d, extra, g):
    """Write the groups of entries to `g`, modulo 2**32."""
    plus = (np.float64(extra) + 0.5) * INVERSE
    shift = np.uint64(d)
    if k <= 32:
        for n in range(np.uint32(len(entries))):
            g[n] = np.uint32(np.int32(np.float64(np.uint32(entries[n] >> shift)) * K_GROUP + plus))
    else:
        for n in range(np.uint32(len(entries))):
            g[n] = np.uint32(np.int64(np.float64(np.int64(entries[n] >> shift)) * K_GROUP + plus))


@compiled
def keep_entries(bits, g, entries, kept, kept_g):
    """Write the entries that have a marked neighbour, and their groups, to `kept`; return their number."""
    mask = np.uint32(8 * len(bits) - 1)
    n = 0
    for i in range(np.uint32(len(entries))):
        kept[n] = entries[i]
        kept_g[n] = g[i]
        n += np.int64(near(bits, mask, g[i]))
    return n


@compiled
def append(out, n, found, count, left, right, k, base_a, base_b, d, apart):
    """Append matches as rows (left x, right x, left y) to `out`, from row n; return it and its new length.

    `apart`: where parts begin within u, to take only what lies in different parts; 64: take all.
    """
    mask = np.uint64((1 << d) - 1)
    for m in range(count):
        i, j = found[m, 0], found[m, 1]
        l_entry = left[i] if i < len(left) else right[i - len(left)]
        r_entry = left[j] if j < len(left) else right[j - len(left)]
        if apart < 64:
            shift = np.uint64(apart + d)
            if (l_entry >> shift) == (r_entry >> shift):
                continue
        if n == len(out):
            out = longer_rows(out)
        out[n, 0] = (base_a if i < len(left) else base_b) + np.int64(l_entry & mask)
        out[n, 1] = (base_a if j < len(left) else base_b) + np.int64(r_entry & mask)
        extra = (base_a if i < len(left) else base_b) >> (k - 6)
        out[n, 2] = (np.int64(l_entry >> np.uint64(d)) << 6) | extra
        n += 1
    return out, n


@compiled
def piece(k, d, a, b, ordered, ea, eb, g, bits, kept, kept_g, low, head, chain, todo, found, out, n, apart):
    """Append the matches between two lists of entries to `out`; return `out`, its length and `found`.

    `g`, and the rows of `kept`, `kept_g`, `low` and `todo`, are longer by one than the longer list.
    """
    extra_a, extra_b = (a << d) >> (k - 6), (b << d) >> (k - 6)
    clear(bits)
    entry_groups(ea, k, d, extra_a, g)
    mark(bits, g, len(ea))
    nb = np.int64(0)
    if a != b:
        entry_groups(eb, k, d, extra_b, kept_g[0])
        nb = keep_entries(bits, kept_g[0], eb, kept[1], kept_g[1])
        clear(bits)
        mark(bits, kept_g[1], nb)
    na = keep_entries(bits, g, ea, kept[0], kept_g[0])
    left, right = kept[0, :na], kept[1, :nb]
    remainders(left, kept_g[0], d, extra_a, low[0])
    remainders(right, kept_g[1], d, extra_b, low[1])
    second = 0 if a == b else 1
    found, m = near_matches(
        kept_g[0], low[0], na, kept_g[second], low[second], na if a == b else nb,
        a == b, ordered, head, chain, todo, found,
    )  # fmt: skip
    out, n = append(out, n, found, m, left, right, k, a << d, b << d, d, apart)
    return out, n, found


@compiled
def divided(
    key,
    k,
    d,
    a,
    b,
    ordered,
    part_bits,
    room,
    u,
    words,
    ends,
    entries,
    edges,
    g,
    bits,
    kept,
    kept_g,
    low,
    head,
    chain,
    todo,
    found,
    out,
):
    """Return the matches of buckets a and b as rows (left x, right x, left y), their number, and `found`.

    A number of -1: some list was too small for these buckets (which is next to impossible).
    """
    n = np.int64(0)
    at_a = divide(key, k, d, a, part_bits, room, u, words, ends[0], entries[0], edges[0])
    at_b = np.int64(0)
    if a != b:
        at_b = divide(key, k, d, b, part_bits, room, u, words, ends[1], entries[1], edges[1])
    if at_a < 0 or at_b < 0:
        return out, -1, found
    for p in range(1 << part_bits):
        ea = entries[0, p * room : ends[0, p]]
        eb = entries[1, p * room : ends[1, p]] if a != b else ea
        out, n, found = piece(
            k, d, a, b, ordered, ea, eb, g, bits, kept, kept_g, low, head, chain, todo, found, out, n,
            np.int64(64),
        )  # fmt: skip
    eb = edges[1, :at_b] if a != b else edges[0, :at_a]
    out, n, found = piece(
        k, d, a, b, ordered, edges[0, :at_a], eb, g, bits, kept, kept_g, low, head, chain, todo, found, out,
        n, k - part_bits,
    )  # fmt: skip
    return out, n, found
