"""Find the matches between what was kept of two large lists, without a branch that cannot be foreseen."""

from __future__ import annotations

import numpy as np

from .jit import compiled
from .pos1_match import fits, longer_rows


@compiled
def remainders(entries, g, d, extra, low):
    """Write y - 15113 g of entries `u << d | x` to `low`, where y = 64 u + extra; g is modulo 2**32."""
    shift = np.uint64(d)
    plus = np.uint32(extra)
    for n in range(np.uint32(len(entries))):
        y = np.uint32((np.uint32(entries[n] >> shift) << np.uint32(6)) | plus)
        low[n] = np.uint32(y - np.uint32(g[n] * np.uint32(15113)))


@compiled
def follow(step, ga, low_a, na, gb, low_b, offset, head, chain, todo, found, n):
    """Append matches of `step` 1 (the left of them in a) or -1 (in b) to `found`, from n."""
    mask = np.uint32(len(head) - 1)
    by = np.uint32(step)
    count = np.int64(0)
    for i in range(np.uint32(na)):
        j = head[np.uint32(ga[i] + by) & mask]
        todo[0, count] = np.int32(i)
        todo[1, count] = j
        count += np.int64(j >= 0)
    while count > 0:
        while n + count > len(found):
            found = longer_rows(found)
        more = np.int64(0)
        for c in range(np.uint32(count)):
            i, j = todo[0, c], todo[1, c]
            near = gb[j] == np.uint32(ga[i] + by)
            if step == 1:
                found[n, 0], found[n, 1] = i, np.int32(j + offset)
                right = near & fits(low_a[i], low_b[j], ga[i] & np.uint32(1))
            else:
                found[n, 0], found[n, 1] = np.int32(j + offset), i
                right = near & fits(low_b[j], low_a[i], gb[j] & np.uint32(1))
            n += np.int64(right)
            beyond = chain[j]
            todo[0, more] = i
            todo[1, more] = beyond
            more += np.int64(beyond >= 0)
        count = more
    return found, n


@compiled
def near_matches(ga, low_a, na, gb, low_b, nb, same, ordered, head, chain, todo, found):
    """Return `found` (perhaps grown) and how many matches it holds: rows of indices (left, right).

    `ga`, `gb` are groups modulo 2**32, `low_a`, `low_b` the remainders. `same`: both are one list.
    `ordered`: only a is looked at for the left one. Indices of b follow those of a. `head` holds -1 and is
    left so; its length is a power of two. `chain` is as long as b, the rows of `todo` are longer than a.
    """
    mask = np.uint32(len(head) - 1)
    for j in range(np.uint32(nb)):
        h = gb[j] & mask
        chain[j] = head[h]
        head[h] = np.int32(j)
    offset = np.int64(0) if same else np.int64(na)
    found, n = follow(np.int64(1), ga, low_a, na, gb, low_b, offset, head, chain, todo, found, np.int64(0))
    if not (same or ordered):
        found, n = follow(np.int64(-1), ga, low_a, na, gb, low_b, offset, head, chain, todo, found, n)
    for j in range(np.uint32(nb)):
        head[gb[j] & mask] = np.int32(-1)
    return found, n
