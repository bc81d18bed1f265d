"""How much memory processes take together."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

import psutil

from .processes import children

_LINUX = sys.platform == "linux"
_PAGE = os.sysconf("SC_PAGE_SIZE")


def tree(pid: int) -> set[int]:
    """Return a process and all that descend from it, as far as the chain of parents still holds."""
    found: set[int] = set()
    new = [pid]
    while new:
        one = new.pop()
        if one not in found:
            found.add(one)
            new += children(one)
    return found


def resident(pids: Iterable[int]) -> int:
    """Return the bytes that these processes have in memory; what they share is counted for each of them."""
    return sum(_resident(pid) for pid in pids)


def proportional(pids: Iterable[int]) -> int:
    """Return the same with what is shared counted once; takes a few milliseconds per gigabyte."""
    return sum(_proportional(pid) for pid in pids)


def _resident(pid: int) -> int:
    if _LINUX:
        try:
            with open(f"/proc/{pid}/statm", "rb") as file:
                return int(file.read().split()[1]) * _PAGE
        except (OSError, IndexError, ValueError):
            return 0
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _proportional(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except (OSError, IndexError, ValueError):
        return _resident(pid)
    return 0
