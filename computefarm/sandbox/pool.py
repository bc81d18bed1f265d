"""A few spawners that share one worker's tasks.

Starting a program holds its spawner until the kernel has loaded it (that is what makes the start cheap),
so one spawner alone starts one program at a time. Up to a few slots that is enough, and a second one only
costs wake-ups; a machine with many cores would wait for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from .spawner import GRACE_S, Ended, Event, Launch, Spawner, SpawnerDied

SLOTS_EACH = 4
"""Slots that one spawner serves without being waited for (measured with `sh -c true`)."""

WIDEST = 4
"""Spawners of one worker, at most: each costs about 12 MB."""


class SpawnerPool:
    """Has the interface of a `Spawner`, with one file descriptor for each of them."""

    def __init__(self, *, nice: int = 0, slots: int = 1, width: int | None = None) -> None:
        """Start them: together they run at most `slots` tasks at once; more launches wait for their turn."""
        count = max(1, min(slots, width or WIDEST, width or slots // SLOTS_EACH))
        self._nice = nice
        self._shares = [slots // count + (place < slots % count) for place in range(count)]
        self._spawners: list[Spawner] = []
        self._counts = [0] * count
        """Tasks in flight at each."""
        self._place: dict[int, int] = {}
        """Ticket → which spawner has it."""
        self._dirty: set[int] = set()
        try:
            for share in self._shares:
                self._spawners.append(Spawner(nice=nice, slots=share))
        except OSError:
            self.close()
            raise

    def filenos(self) -> list[int]:
        """Return the file descriptors to wait on."""
        return [spawner.fileno() for spawner in self._spawners]

    @property
    def pids(self) -> list[int]:
        """Return the spawners' own pids."""
        return [spawner.pid for spawner in self._spawners]

    def pid_of(self, ticket: int) -> int:
        """Return the pid of a task's current command; 0 when there is none or it is not known."""
        place = self._place.get(ticket)
        return 0 if place is None else self._spawners[place].pid_of(ticket)

    def spawner_of(self, ticket: int) -> int:
        """Return the pid of the spawner that has a task in flight."""
        return self._spawners[self._place[ticket]].pid

    def ticket_of(self, pid: int) -> int | None:
        """Return the task whose mark a process carries (Linux only)."""
        found = (spawner.ticket_of(pid) for spawner in self._spawners)
        return next((ticket for ticket in found if ticket is not None), None)

    def launch(self, launch: Launch) -> None:
        """Queue a task at the spawner with most room, to be started at the next `flush`."""
        place = min(range(len(self._counts)), key=lambda n: self._counts[n] / self._shares[n])
        self._spawners[place].launch(launch)
        self._place[launch.ticket] = place
        self._counts[place] += 1
        self._dirty.add(place)

    def halt(self, ticket: int, grace_s: float = GRACE_S) -> None:
        """Queue the end of a task; see `Spawner.halt`."""
        place = self._place.get(ticket)
        if place is not None:
            self._spawners[place].halt(ticket, grace_s)
            self._dirty.add(place)

    def recall(self, ticket: int) -> None:
        """Queue the withdrawal of a task that has not begun; see `Spawner.recall`."""
        place = self._place.get(ticket)
        if place is not None:
            self._spawners[place].recall(ticket)
            self._dirty.add(place)

    def flush(self) -> None:
        """Send what is queued, as far as the sockets take it."""
        if self._dirty:
            for place in list(self._dirty):
                self._spawners[place].flush()
                if not self._spawners[place].wants_write():
                    self._dirty.discard(place)

    def wants_write(self) -> bool:
        """Tell whether `flush` has to be called again soon."""
        return bool(self._dirty)

    def receive(self, fileno: int) -> list[Event]:
        """Return what the spawner behind `fileno` tells; raise `SpawnerDied` when it is gone."""
        place = self.filenos().index(fileno)
        try:
            events = self._spawners[place].receive()
        except SpawnerDied as death:
            for ticket in death.tickets:
                self._place.pop(ticket, None)
            self._counts[place] = 0
            raise
        for event in events:
            if isinstance(event, Ended):
                self._place.pop(event.ticket, None)
                self._counts[place] -= 1
        return events

    def replace_dead(self) -> Iterator[int]:
        """Start a new spawner for each that has died; yield the new file descriptors."""
        for place, spawner in enumerate(self._spawners):
            if spawner.fileno() < 0:
                self._spawners[place] = Spawner(nice=self._nice, slots=self._shares[place])
                self._counts[place] = 0
                yield self._spawners[place].fileno()

    def close(self) -> None:
        """Kill every task with all its processes, then end the spawners; harmless when repeated."""
        for spawner in self._spawners:
            with contextlib.suppress(OSError):
                spawner.close()
        self._place.clear()
