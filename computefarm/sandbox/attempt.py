"""One task inside the spawner: what to run, how far it is, and what it has used. Standard library only."""

from __future__ import annotations

import os
import sys
from typing import Any

from .channel import ENDED, Frame
from .kin import MARK

_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
NEVER = float("inf")

Pipes = tuple[int, int, int, int]
"""Read ends of stdout and stderr, then our copies of the write ends."""


class Attempt:
    """A launched task; the spawner's loop moves it on."""

    __slots__ = (
        "commands", "cpu_s", "deadline", "directory", "env", "error", "exit_code", "grace_s", "group",
        "halted", "index", "kill_at", "memory_limit", "peak", "pid", "pipes", "serial", "signal",
        "started_at", "sweep_until", "ticket", "timed_out",
    )  # fmt: skip

    def __init__(self, frame: Frame, serial: int, token: str, now: float) -> None:
        _, self.ticket, self.commands, self.directory, env, timeout_s, self.grace_s, self.memory_limit = frame
        self.env: dict[str, str] = dict(env)
        self.env[MARK] = f"{token}:{self.ticket}"
        self.serial = serial
        self.index = 0
        self.pid = 0
        """Of the running command; 0 while only leftovers are being ended."""
        self.group = 0
        self.pipes: Pipes = (-1, -1, -1, -1)
        self.started_at = now
        self.deadline: float | None = None if timeout_s is None else now + timeout_s
        self.kill_at: float | None = None
        """Set once the task has been asked to end; NEVER once it has been killed."""
        self.sweep_until: float | None = None
        self.timed_out = self.halted = False
        self.exit_code: int | None = None
        self.signal: int | None = None
        self.cpu_s = 0.0
        self.peak = 0
        self.error = ""

    def reaped(self, status: int, usage: Any) -> None:
        """Note how the running command ended."""
        self.pid = 0
        if os.WIFSIGNALED(status):
            self.exit_code, self.signal = None, os.WTERMSIG(status)
        else:
            self.exit_code, self.signal = os.WEXITSTATUS(status), None
        self.add_usage(usage)

    def add_usage(self, usage: Any) -> None:
        """Count what a process of this task has used."""
        self.cpu_s += usage.ru_utime + usage.ru_stime
        peak = usage.ru_maxrss * _RSS_UNIT
        if peak > self.peak:
            self.peak = peak

    @property
    def goes_on(self) -> bool:
        """Tell whether another command follows."""
        return self.exit_code == 0 and self.kill_at is None and self.index + 1 < len(self.commands)

    def in_grace(self, now: float) -> bool:
        """Tell whether the task was asked to end and still has time to do so."""
        return self.kill_at is not None and now < self.kill_at < NEVER

    def next_due(self) -> float:
        """Return when something must be done about it; NEVER when nothing."""
        times = (self.deadline, self.kill_at, self.sweep_until)
        return min((when for when in times if when is not None), default=NEVER)

    def ended(self, now: float) -> Frame:
        """Return the last frame about this task."""
        return (
            ENDED, self.ticket, self.exit_code, self.signal, self.timed_out, self.halted, self.index,
            now - self.started_at, self.cpu_s, self.peak, self.error,
        )  # fmt: skip


def new_pipes() -> Pipes:
    """Make the pipes of a task."""
    out, out_end = os.pipe()
    try:
        err, err_end = os.pipe()
    except OSError:
        os.close(out)
        os.close(out_end)
        raise
    os.set_blocking(out, False)
    os.set_blocking(err, False)
    return out, err, out_end, err_end


def limit_memory(pid: int, limit: int) -> None:
    """Limit the address space of a process just started; only Linux can do that from outside."""
    import resource

    if not hasattr(resource, "prlimit"):
        return
    try:
        resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))
    except (ProcessLookupError, PermissionError):
        return


def allow_files(count: int) -> None:
    """Raise the soft limit of open files when so many are going to be needed; tasks inherit it."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
