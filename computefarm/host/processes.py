"""Facts about single processes: from /proc on Linux, through psutil elsewhere.

Only Linux tells how much CPU time a process's ended children took; elsewhere that part is missing,
so many short tasks look partly like somebody else's load there.
"""

from __future__ import annotations

import contextlib
import os
import sys

import msgspec
import psutil

_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
_LINUX = sys.platform == "linux"


class Process(msgspec.Struct, frozen=True):
    """One process at one moment."""

    pid: int
    parent: int
    started: str
    """When it was started, in units of the system; with the pid it names the process for ever."""
    runnable: bool
    """Running or waiting for a core (its main thread)."""
    cpu_s: float
    """CPU time of the process and of all descendants that it has waited for."""
    ended: bool = False
    """It is over, and only its parent has not asked for its exit status yet."""


def read_process(pid: int) -> Process | None:
    """Return what is known of `pid`, or None when there is no such process."""
    return _from_proc(pid) if _LINUX else _from_psutil(pid)


def identity(pid: int) -> str | None:
    """Return text that tells this process from all others that had or will have its number, or None."""
    process = read_process(pid)
    return f"{process.started}@{_pid_namespace()}" if process and not process.ended else None


def children(pid: int) -> list[int]:
    """Return the processes that `pid` has started and not yet waited for."""
    if _LINUX:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            return _children_from_proc(pid)
        if not os.path.exists(f"/proc/{pid}"):
            return []
    with contextlib.suppress(psutil.Error):
        return [child.pid for child in psutil.Process(pid).children()]
    return []


def _from_proc(pid: int) -> Process | None:
    try:
        data = _contents(f"/proc/{pid}/stat")
    except OSError:
        return None
    # The name in brackets may hold spaces and brackets itself; everything after the last one is fixed.
    fields = data[data.rindex(b")") + 2 :].split()
    return Process(
        pid=pid,
        parent=int(fields[1]),
        started=fields[19].decode(),
        runnable=fields[0] == b"R",
        cpu_s=(int(fields[11]) + int(fields[12]) + int(fields[13]) + int(fields[14])) * _TICK_S,
        ended=fields[0] in (b"Z", b"X"),
    )


def _children_from_proc(pid: int) -> list[int]:
    found: list[int] = []
    folder = f"/proc/{pid}/task"
    for thread in os.listdir(folder):
        found += map(int, _contents(f"{folder}/{thread}/children").split())
    return found


def _contents(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 65536)
    finally:
        os.close(descriptor)


def _from_psutil(pid: int) -> Process | None:
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            waited = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
            status = process.status()
            return Process(
                pid=pid,
                parent=process.ppid(),
                started=f"{process.create_time():.2f}",
                runnable=status == psutil.STATUS_RUNNING,
                cpu_s=times.user + times.system + waited,
                ended=status in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD),
            )
    except psutil.Error:
        return None


def _pid_namespace() -> str:
    """Return the name of the space in which our process numbers count; empty where there is only one."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
