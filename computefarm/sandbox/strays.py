"""Processes that lost their parent and were given to the spawner: whose they are, and how they end.

One in the process group of a task belongs to it, and so does one that carries its mark, or that was seen
below the task when it was asked to end. Any other one (it left the group, cleared its environment and lost
its parent) may belong to any task that ran when it was first seen; it is ended with the last of them.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Container, Mapping

from .kin import Kin, descendants, group_of, mark_of, send, send_group

Owned = dict[int | None, list[int]]
"""Ticket → pids; None for those that nothing tells."""


class Stray:
    """What is known of one."""

    __slots__ = ("asked", "newest", "ticket")

    def __init__(self, ticket: int | None, newest: int) -> None:
        self.ticket = ticket
        self.newest = newest
        """Serial of the newest task when it was first seen: no later one can own it."""
        self.asked = False
        """TERM was sent."""


class Strays:
    """All of them."""

    def __init__(self, token: str, groups: Mapping[int, int]) -> None:
        self._kin = Kin()
        self._token = token
        self._groups = groups
        """Process group → ticket, of all tasks that have not ended."""
        self._known: dict[int, Stray] = {}
        self._claimed: dict[int, int] = {}
        """Pid → ticket, of what was seen below tasks that are being ended."""
        self._own_group = os.getpgrp()

    @property
    def certain(self) -> bool:
        """Tell whether looking for them is cheap and finds all."""
        return self._kin.sees_all

    def reaped(self, pid: int) -> int | None:
        """Forget one that has ended; return the ticket it belonged to."""
        stray = self._known.pop(pid, None)
        return stray.ticket if stray else None

    def claim(self, ticket: int, main: int) -> None:
        """Remember whose the processes below `main` are, for when they have lost their parents."""
        for pid in descendants(main):
            self._claimed[pid] = ticket

    def release(self, ticket: int) -> None:
        """Forget what was claimed for a task that has ended: the system may use its numbers again."""
        if self._claimed:
            self._claimed = {pid: owner for pid, owner in self._claimed.items() if owner != ticket}

    def look(self, mains: Collection[int], newest: int) -> Owned:
        """Return all children that are not `mains`, by owner."""
        pids = self._kin.strays(mains, len(mains))
        owned: Owned = {}
        for pid in pids:
            owned.setdefault(self._owner_of(pid, newest), []).append(pid)
        return owned

    def _owner_of(self, pid: int, newest: int) -> int | None:
        stray = self._known.get(pid)
        if stray is None:
            ticket = self._groups.get(group_of(pid))
            if ticket is None:
                ticket = mark_of(pid, self._token)
            if ticket is None:
                ticket = self._claimed.get(pid)
            stray = self._known[pid] = Stray(ticket, newest)
        return stray.ticket

    def ask(self, pids: list[int], group: int) -> None:
        """Send TERM, once, to those that have left the task's `group`, which has been asked as one."""
        for pid in pids:
            stray = self._known[pid]
            if not stray.asked:
                stray.asked = True
                if group_of(pid) != group:
                    self._send(pid, group, signal.SIGTERM)

    def kill(self, pids: list[int], group: int) -> None:
        """Kill these leftovers of the task with process group `group`."""
        for pid in pids:
            self._send(pid, group, signal.SIGKILL)

    def _send(self, pid: int, group: int, number: int) -> None:
        its = group_of(pid)
        if its == group or (its not in self._groups and its not in (0, self._own_group)):
            send_group(its, number)
        send(pid, number)

    def kill_unowned(self, owned: Owned, running: Container[int], oldest: int) -> None:
        """Kill those of tasks that have ended, and nameless ones that no task from `oldest` on can own."""
        for ticket, pids in owned.items():
            if ticket in running:
                continue
            for pid in pids:
                if ticket is not None or self._known[pid].newest < oldest:
                    send(pid, signal.SIGKILL)

    def kill_all(self) -> None:
        """Kill every child we have, with its group."""
        for pid in self._kin.strays((), 0):
            group = group_of(pid)
            if group not in (0, self._own_group):
                send_group(group, signal.SIGKILL)
            send(pid, signal.SIGKILL)
