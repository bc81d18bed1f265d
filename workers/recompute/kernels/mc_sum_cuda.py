"""Sums over Philox4x64-10 on a GPU: of whole numbers, so it does not matter in which order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .cuda_jit import THREADS, cuda, device_function, kernel
from .mc_sum_cpu import inside, philox

MOST = 1 << 26
"""Blocks of draws of one launch: some milliseconds of a GPU."""
WIDE = 32
"""At most so many groups of threads share a stretch."""


def sums(seed: int, stretches: Sequence[tuple[int, int]], form: str, check: Callable[[], None]) -> list[int]:
    """Return the exact sum over each stretch, given as first block and number of blocks."""
    longest = max((blocks for _, blocks in stretches), default=0)
    if not longest:
        return [0] * len(stretches)
    span = max(1, min(longest, MOST // len(stretches)))
    firsts = cuda.to_device(np.array([first for first, _ in stretches], np.uint64))
    counts = cuda.to_device(np.array([blocks for _, blocks in stretches], np.int64))
    out = cuda.device_array((len(stretches), 2), np.uint64)
    totals = [0] * len(stretches)
    threads = min(THREADS, span)
    shape = (min(WIDE, -(-span // threads)), len(stretches))
    for done in range(0, longest, span):
        check()
        out.copy_to_device(np.zeros((len(stretches), 2), np.uint64))
        add[shape, threads](np.uint64(seed), firsts, counts, form == "pi", done, span, out)
        totals = [
            total + (int(high) << 32) + int(low)
            for total, (high, low) in zip(totals, out.copy_to_host(), strict=True)
        ]
    return totals


@device_function
def lower(value):
    """Return the lower 32 of the upper 53 bits."""
    return np.uint64((value >> np.uint64(11)) & np.uint64(0xFFFFFFFF))


@kernel
def add(seed, firsts, counts, pi, done, span, out):
    """Add up blocks `done` to `done + span` of a stretch for each y of the grid."""
    stretch = cuda.blockIdx.y
    first = firsts[stretch]
    # No `min` of two numbers: the CUDA that comes with numba 0.68 cannot compile one.
    until = done + span
    if counts[stretch] < until:
        until = counts[stretch]
    high = np.uint64(0)
    low = np.uint64(0)
    for n in range(
        done + cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x, until, cuda.gridDim.x * cuda.blockDim.x
    ):
        a, b, c, d = philox(seed, np.uint64(first + np.uint64(n)))
        a, b, c, d = np.uint64(a), np.uint64(b), np.uint64(c), np.uint64(d)
        if pi:
            low += np.uint64(inside(a, b)) + np.uint64(inside(c, d))
        else:
            high += (a >> np.uint64(43)) + (b >> np.uint64(43)) + (c >> np.uint64(43)) + (d >> np.uint64(43))
            low += lower(a) + lower(b) + lower(c) + lower(d)
    cuda.atomic.add(out, (stretch, 0), high)
    cuda.atomic.add(out, (stretch, 1), low)
