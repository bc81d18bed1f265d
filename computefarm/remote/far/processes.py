"""Telling a process from a later one with the same number, and ending it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time


def identity(pid: int) -> str:
    """Return what no later process with this number has (its time of start); empty when it has ended."""
    if pid <= 0:
        return ""
    if os.path.isdir("/proc/self"):
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                # The name in parentheses may hold anything, so the fields are counted from behind it.
                words = file.read().rpartition(b")")[2].split()
        except OSError:
            return ""
        return "" if words[0] in (b"Z", b"X") else words[19].decode()
    told = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True)
    state, _, started = told.stdout.strip().partition(" ")
    return "" if told.returncode or state.startswith("Z") else started.strip()


def same(pid: int, started: str) -> bool:
    """Tell whether the process that was started then still runs."""
    return bool(started) and identity(pid) == started


def end(pid: int, started: str, patience_s: float) -> bool:
    """TERM a process, KILL it when it takes too long; tell whether it ended by itself."""
    for number, patience in ((signal.SIGTERM, patience_s), (signal.SIGKILL, 5.0)):
        if not same(pid, started):
            return number == signal.SIGTERM
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        until = time.monotonic() + patience
        while same(pid, started) and time.monotonic() < until:
            time.sleep(0.05)
    return False
