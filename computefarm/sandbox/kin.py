"""Find and end the processes that a task leaves behind, grandchildren in sessions of their own included.

On Linux the spawner is a *child subreaper*: whoever loses its parent below it becomes its own child, so one
look at the list of its children shows everything that outlived its task. Elsewhere there is no such thing,
and only the process group of a task is ended; a process that left the group on purpose survives there.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Container

MARK = "CF_TICKET"
"""Environment variable of every process of a task: `<token of the spawner>:<ticket>`."""

LEASH = "CF_LEASH"
"""Environment variable of what local tasks run; a spawner and its tasks are on a leash of their own."""

_PR_SET_CHILD_SUBREAPER = 36
_ONE_READ = 3500
"""Bytes; the kernel hands the list over a page at a time, so a longer answer may not be the whole list."""


def become_subreaper() -> bool:
    """Ask to be given the orphans among our descendants; return whether the system can do that."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        import ctypes
    except ImportError:
        return False
    return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def parent_of(pid: int) -> int:
    """Return the parent of `pid`, or 0 when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name in parentheses may hold anything, so count from the last one.
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def processes() -> list[int]:
    """Return the pids of all processes of the machine; empty where there is no /proc."""
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def descendants(pid: int) -> list[int]:
    """Return all processes below `pid`, while their parents live; empty where there is no /proc."""
    found: list[int] = []
    new = [pid]
    while new:
        below = _children(new.pop())
        found += below
        new += below
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    except OSError:
        pass  # it has ended meanwhile, or this kernel has no such list
    return found


def mark_of(pid: int, token: str) -> int | None:
    """Return the ticket in the environment of `pid`, or None when it is not one of `token`'s."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environment = file.read()
    except OSError:
        return None
    start = f"{MARK}={token}:".encode()
    for entry in environment.split(b"\0"):
        if entry.startswith(start) and entry[len(start) :].isdigit():
            return int(entry[len(start) :])
    return None


def group_of(pid: int) -> int:
    """Return the process group of `pid`, or 0 when there is no such process."""
    try:
        return os.getpgid(pid)
    except OSError:
        return 0


def send_group(group: int, number: int) -> None:
    """Send a signal to a process group; one that is gone or not ours to end is left alone."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return


def send(pid: int, number: int) -> None:
    """Send a signal to a process; one that is gone or not ours to end is left alone."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def end_marked(token: str) -> int:
    """Kill every process with `token`'s mark, and its group; return how many there were (Linux only)."""
    ours = os.getpgrp()
    count = 0
    for pid in processes():
        if mark_of(pid, token) is None:
            continue
        count += 1
        group = group_of(pid)
        if group not in (0, ours):
            send_group(group, signal.SIGKILL)
        send(pid, signal.SIGKILL)
    return count


class Kin:
    """This process's children, as far as the system shows them."""

    def __init__(self) -> None:
        self.adopts = become_subreaper()
        """False where orphans go to init: then `strays` is always empty."""
        self._listing = -1
        if self.adopts:
            try:
                path = f"/proc/self/task/{os.getpid()}/children"
                self._listing = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:  # a kernel without CONFIG_PROC_CHILDREN
                self._listing = -1

    @property
    def sees_all(self) -> bool:
        """Tell whether `strays` is cheap and complete."""
        return self._listing >= 0

    def strays(self, mains: Container[int], count: int) -> list[int]:
        """Return the children that are not among the `count` pids of `mains`."""
        if self._listing < 0:
            return self._searched(mains) if self.adopts else []
        listed = os.pread(self._listing, 65536, 0)
        if len(listed) < _ONE_READ and listed.count(b" ") == count:
            return []
        # Nobody but us can take a child off the list, so it only grows while we read on.
        while more := os.pread(self._listing, 65536, len(listed)):
            listed += more
        return [pid for pid in map(int, listed.split()) if pid not in mains]

    @staticmethod
    def _searched(mains: Container[int]) -> list[int]:
        me = os.getpid()
        return [pid for pid in processes() if pid not in mains and parent_of(pid) == me]
