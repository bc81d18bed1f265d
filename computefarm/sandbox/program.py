"""What the spawner's process does before it serves. Standard library only."""

from __future__ import annotations

import os
import signal

from .attempt import allow_files
from .resident import FILES, FILES_PER_TASK, Resident

EXPENDABLE = 300
"""Added to the tasks' share of the memory in thousandths, when Linux looks for a process to end."""


def main(owner: int, token: str, nice: int, slots: int) -> None:
    """Run the spawner on socket `owner` until it closes."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    os.set_blocking(owner, False)
    os.set_inheritable(owner, False)
    if nice:
        os.nice(nice)
        _yield_to_other_sessions(nice)
    _end_tasks_first()
    if slots:
        allow_files(FILES + slots * FILES_PER_TASK)
    Resident(owner, token, slots).serve()


def _yield_to_other_sessions(nice: int) -> None:
    """Be nice to the other sessions of this machine too.

    Where Linux groups processes by session, niceness counts within a session, and each session has its own.
    """
    try:
        with open("/proc/self/autogroup", "w") as file:
            file.write(str(nice))
    except OSError:
        return  # not Linux, or sessions are not grouped


def _end_tasks_first() -> None:
    """When memory runs out, let a task be ended rather than what the owner of the machine is doing."""
    try:
        with open("/proc/self/oom_score_adj", "r+") as file:
            before = int(file.read())
            file.seek(0)
            file.write(str(max(before, EXPENDABLE)))
    except (OSError, ValueError):
        return  # not Linux, or not allowed: the kernel chooses as it likes
