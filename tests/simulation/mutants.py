"""Bugs planted on purpose: a simulator that does not find them would not find others either."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
import pytest

from computefarm.core import accept, members, restoring, room, tables, worker
from computefarm.core.commands import Send
from computefarm.core.entries import Ended, Started
from computefarm.core.state import TaskState
from computefarm.messages import Finished

from . import managers

Plant = Callable[[pytest.MonkeyPatch], None]
"""Puts a bug into the core, or the simulated shell, until the patch is undone."""


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Have a bug for a while; an empty name is none."""
    with pytest.MonkeyPatch.context() as patch:
        if name:
            MUTANTS[name](patch)
        yield


def no_fencing(patch: pytest.MonkeyPatch) -> None:
    """Whatever attempt a worker speaks of, it is taken for the live one."""
    patch.setattr(accept.Accept, "current", lambda self, live, worker, attempt, epoch: True)


def accept_twice(patch: pytest.MonkeyPatch) -> None:
    """A result that arrives after the task's end is taken once more."""
    sound = accept.Accept.finished

    def finished(self, worker, message, now):
        task = self._tables.tasks.get(message.key)
        if task is not None and task.state is TaskState.ENDED and not message.result.reason:
            task.done = msgspec.structs.replace(task.done, result=message.result)
            self._tables.record(Ended(task.key, task.done))
            self._tables.say(task.session.peer, task.done, now)
        sound(self, worker, message, now)

    patch.setattr(accept.Accept, "finished", finished)


def no_ack(patch: pytest.MonkeyPatch) -> None:
    """A worker says each result once, whether it was heard or not."""
    sound = worker.WorkerSession._say

    def say(self, *messages, now):
        said = self.__dict__.setdefault("said", set())
        fresh = [m for m in messages if not isinstance(m, Finished) or (m.key, m.attempt) not in said]
        said.update((m.key, m.attempt) for m in fresh if isinstance(m, Finished))
        return sound(self, *fresh, now=now)

    patch.setattr(worker.WorkerSession, "_say", say)


def unsynced_journal(patch: pytest.MonkeyPatch) -> None:
    """What may only be said after a sync is said at once."""
    sound = managers.ManagerNode.send
    patch.setattr(managers.ManagerNode, "send", lambda self, c: sound(self, Send(c.peer, c.message)))


def forgotten_attempts(patch: pytest.MonkeyPatch) -> None:
    """A manager that was started again does not know what had been started."""
    sound = restoring.Restorer._fold

    def fold(self, entries):
        return sound(self, [entry for entry in entries if not isinstance(entry, Started)])

    patch.setattr(restoring.Restorer, "_fold", fold)


def keys_again(patch: pytest.MonkeyPatch) -> None:
    """A manager that was started again gives keys that have been given before."""
    patch.setattr(tables.Tables, "keys_from", lambda self, last: None)


def immortal_sessions(patch: pytest.MonkeyPatch) -> None:
    """A session whose client is gone stays for ever."""
    sound = members.Members.sweep

    def sweep(self, now):
        for session in self._tables.sessions.values():
            session.expires_at = float("inf")
        sound(self, now)

    patch.setattr(members.Members, "sweep", sweep)


def leaked_slots(patch: pytest.MonkeyPatch) -> None:
    """A worker never frees the slots of what it was told to end."""
    sound = worker.WorkerSession._release

    def release(self, name, run):
        used = self._room.used
        stopped = name in self._stopped
        sound(self, name, run)
        if stopped:
            self._room.used = used

    patch.setattr(worker.WorkerSession, "_release", release)


def uncounted_orphans(patch: pytest.MonkeyPatch) -> None:
    """A worker does not count what an earlier manager gave it and what still ends."""
    sound = room.Room.fits
    patch.setattr(room.Room, "fits", lambda self, run, orphans: sound(self, run, ()))


MUTANTS: dict[str, Plant] = {
    "no-fencing": no_fencing,
    "accept-twice": accept_twice,
    "no-ack": no_ack,
    "unsynced-journal": unsynced_journal,
    "forgotten-attempts": forgotten_attempts,
    "keys-again": keys_again,
    "immortal-sessions": immortal_sessions,
    "leaked-slots": leaked_slots,
    "uncounted-orphans": uncounted_orphans,
}
