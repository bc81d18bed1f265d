"""Give back the memory that a compiler's code takes once there is nothing left to compile."""

from __future__ import annotations

import ctypes
import mmap
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MAPS: Final = Path("/proc/self/maps")
LARGE: Final = 16 << 20
"""Bytes of code from which on it is worth a system call: libLLVM has five times as many."""
CODE: Final = re.compile(r"([0-9a-f]+)-([0-9a-f]+) r-xp \S+ \S+ [1-9]\d* +/")


def give_back_code() -> int:
    """Let the code of large libraries go until it runs again; return its bytes, 0 where that is no Linux.

    It stays in the cache of files, so what is needed again comes back at the cost of a page fault.
    """
    if sys.platform != "linux" or not MAPS.exists():
        return 0
    libc = ctypes.CDLL(None)
    given = 0
    for start, length in large_code(MAPS.read_text()):
        # Code is mapped from its file and never written to: nothing is lost.
        if libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), mmap.MADV_DONTNEED) == 0:
            given += length
    return given


def large_code(maps: str) -> Iterator[tuple[int, int]]:
    """Yield where the code of large libraries begins, and its length, from the text of /proc/self/maps."""
    for line in maps.splitlines():
        found = CODE.match(line)
        if found:
            start, end = int(found[1], 16), int(found[2], 16)
            if end - start >= LARGE:
                yield start, end - start
