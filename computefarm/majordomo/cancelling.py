"""A run does what it is asked by others: `majordomo cancel`, from this machine or through the farm."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from .flights import Flights
from .requests import Inbox, Reply, Request
from .stopping import Stopping
from .watching import Watching

LOOK_S = 0.25
"""How often a run looks for requests."""

SHOWN = 20
"""Unfinished tasks named in an answer, at most."""

RUN_CANCELLED = "the run was cancelled by "
"""Begins the reason of every task of a run that was cancelled as a whole, however the word came."""


class Cancelling:
    """Takes requests, and remembers which tasks are not wanted any more."""

    def __init__(
        self,
        inbox: Inbox,
        stopping: Stopping,
        flights: Flights,
        watching: Watching,
        *,
        tasks: Callable[[], Iterable[str]],
        local: Callable[[], str],
        say: Callable[[str], None],
    ) -> None:
        """`tasks` names all tasks that the run may come to, `local` the one that runs in this process."""
        self._inbox = inbox
        self._stopping = stopping
        self._flights = flights
        self._watching = watching
        self._tasks = tasks
        self._local = local
        self._say = say
        self._said: set[str] = set()
        self._look_at = 0.0
        self.unwanted: dict[str, str] = {}
        """Tasks that must not start any more, and why."""
        self.cancelled: set[str] = set()
        """Tasks that others have cancelled."""

    def look(self) -> None:
        """Take the requests that have come, if it is time."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            for name, request in self._inbox.take():
                self._inbox.answer(name, self._do(request))

    def interrupted(self) -> None:
        """Answer a request that a signal has hurried: the whole run ends."""
        for name, request in self._inbox.take():
            self._inbox.answer(name, self._do(request))

    def note(self, task: str, reason: str) -> bool:
        """Take note that the farm says a task was cancelled by others; say whether it was the whole run."""
        if reason.startswith(RUN_CANCELLED):
            self._stopping.cancel(reason)
            return True
        self.cancelled.add(task)
        if reason not in self._said:
            self._said.add(reason)
            self._say(f"{task}: {reason or 'cancelled'}")
        return False

    def _do(self, request: Request) -> Reply:
        unfinished = [name for name in self._tasks() if name not in self._watching.recorded]
        if not request.tasks:
            self._stopping.cancel(f"{RUN_CANCELLED}{request.by}")
            return Reply(tuple(unfinished))
        chosen, unknown = select(request.tasks, unfinished)
        local = self._local()
        refused = tuple(name for name in chosen if name == local)
        wanted = [name for name in chosen if name != local]
        reason = f"cancelled by {request.by}"
        flying = self._flights.cancel(wanted, reason)
        self.unwanted.update((name, reason) for name in wanted if name not in flying)
        self.cancelled.update(self.unwanted)
        rest = tuple(unfinished[:SHOWN]) if unknown or refused else ()
        return Reply(tuple(wanted), tuple(unknown), refused, rest)


def select(names: Iterable[str], unfinished: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the unfinished tasks that names of tasks and groups mean, and the names that mean none."""
    there = list(unfinished)
    chosen: dict[str, None] = {}
    unknown = []
    for name in names:
        found = [task for task in there if task == name or task.startswith(f"{name}:")]
        chosen.update(dict.fromkeys(found))
        if not found:
            unknown.append(name)
    return list(chosen), unknown
