"""Find the matches between two lists of y."""

from __future__ import annotations

from typing import Final

import numpy as np

from .jit import compiled

BC: Final = 15113
INVERSE: Final = 1.0 / 15113.0


@compiled
def group(y):
    """Return y div 15113; exact for y below 2**46."""
    return np.int64((np.float64(y) + 0.5) * INVERSE)


@compiled
def fits(low, high, parity):
    """Say whether the remainders of y in neighbouring groups match; `parity` is that of the left group."""
    low = np.uint32(low)
    high = np.uint32(high)
    low_b = np.uint32(low // np.uint32(127))
    high_b = np.uint32(high // np.uint32(127))
    m = np.uint32(high_b + np.uint32(119) - low_b)
    if m >= np.uint32(119):
        m = np.uint32(m - np.uint32(119))
    low_c = np.uint32(low - np.uint32(low_b * np.uint32(127)))
    high_c = np.uint32(high - np.uint32(high_b * np.uint32(127)))
    step = np.uint32(np.uint32(2) * m + np.uint32(parity))
    reached = np.uint32(low_c + np.uint32(step * step)) % np.uint32(127)
    return (m < np.uint32(64)) & (reached == high_c)


@compiled
def longer_rows(rows):
    """Return the rows with room for twice as many."""
    out = np.empty((2 * len(rows), rows.shape[1]), rows.dtype)
    # One by one: assigning a slice drags seconds of compiling for its error messages along.
    for n in range(len(rows)):
        for m in range(rows.shape[1]):
            out[n, m] = rows[n, m]
    return out


@compiled
def matches(ya, yb, same, ordered, head, chain, found):
    """Return `found` (perhaps grown) and how many matches it holds: rows of indices (left, right).

    Lists are int64. `same`: both are one list. `ordered`: only ya is looked at for the left one. Indices
    of yb follow those of ya. `head` holds -1 and is left so; its length is a power of two. `chain` is as
    long as yb.
    """
    mask = len(head) - 1
    n = 0
    offset = 0 if same else len(ya)
    for j in range(len(yb)):
        h = group(yb[j]) & mask
        chain[j] = head[h]
        head[h] = j
    for i in range(len(ya)):
        y = ya[i]
        g = group(y)
        low = y - g * BC
        j = head[(g + 1) & mask]
        while j >= 0:
            high = yb[j] - (g + 1) * BC
            if 0 <= high < BC and fits(low, high, g & 1):
                if n == len(found):
                    found = longer_rows(found)
                found[n, 0] = i
                found[n, 1] = j + offset
                n += 1
            j = chain[j]
        if same or ordered:
            continue
        j = head[(g - 1) & mask]
        while j >= 0:
            other = yb[j] - (g - 1) * BC
            if 0 <= other < BC and fits(other, low, (g - 1) & 1):
                if n == len(found):
                    found = longer_rows(found)
                found[n, 0] = j + offset
                found[n, 1] = i
                n += 1
            j = chain[j]
    for j in range(len(yb)):
        head[group(yb[j]) & mask] = -1
    return found, n
