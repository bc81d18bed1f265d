"""Blobs that tasks wait for: inputs from clients, outputs from workers. Each is asked for once."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from computefarm.codec import decode_action
from computefarm.messages import Digest, TaskKey, Want

from .commands import PeerId
from .state import Task, TaskState
from .tables import Tables


class Wanted(msgspec.Struct, gc=False):
    """One blob that is not in the store."""

    tasks: dict[TaskKey, None]
    """Those that wait for it, first come first."""
    asked: PeerId = ""
    """Who was asked for it; empty while nobody who has it is there."""


class Wants:
    """What is missing, who needs it, who was asked."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._wanted: dict[Digest, Wanted] = {}
        self._asking: dict[PeerId, dict[Digest, None]] = {}
        """To be said at the end of this turn."""
        self._moved = False

    def missing(self, digests: Iterable[Digest]) -> list[Digest]:
        """Return those that are not in the store, each once."""
        blobs = self._tables.blobs
        return [digest for digest in dict.fromkeys(digests) if digest not in blobs]

    def wait(self, task: Task, digests: Iterable[Digest]) -> None:
        """Let `task` wait for blobs: for inputs when it is WAITING, for outputs when it is RUNNING."""
        source = self._source(task)
        for digest in digests:
            wanted = self._wanted.get(digest)
            if wanted is None:
                wanted = self._wanted[digest] = Wanted({})
            if task.key not in wanted.tasks:
                wanted.tasks[task.key] = None
                task.lacking += 1
            if not wanted.asked and source:
                wanted.asked = source
                self._asking.setdefault(source, {})[digest] = None

    def arrived(self, digests: Iterable[Digest]) -> list[Task]:
        """Return the tasks that have everything now."""
        complete = []
        for digest in digests:
            wanted = self._wanted.pop(digest, None)
            if wanted is None:
                continue
            for key in wanted.tasks:
                task = self._tables.tasks[key]
                task.lacking -= 1
                if task.lacking == 0:
                    complete.append(task)
        return complete

    def waiting_for(self, digest: Digest) -> list[Task]:
        """Return the tasks that wait for a blob."""
        wanted = self._wanted.get(digest)
        return [self._tables.tasks[key] for key in wanted.tasks] if wanted else []

    def forget(self, task: Task) -> None:
        """`task` no longer waits for anything."""
        if task.lacking == 0:
            return
        for digest in self.digests(task):
            wanted = self._wanted.get(digest)
            if wanted is not None and wanted.tasks.pop(task.key, 0) is None:
                task.lacking -= 1
                if not wanted.tasks:
                    del self._wanted[digest]
        assert task.lacking == 0
        self._moved = True

    def moved(self) -> None:
        """Somebody who may have been asked came or went: look for new addressees at the end of this turn."""
        self._moved = True

    def digests(self, task: Task) -> list[Digest]:
        """Return what a lacking task may be waiting for."""
        if task.state is TaskState.RUNNING and task.live is not None and task.live.result is not None:
            return [entry.digest for entry in task.live.result.outputs]
        return [entry.digest for entry in decode_action(task.action).inputs]

    def say(self, now: float) -> None:
        """Ask for everything that has been found missing in this turn."""
        if self._moved:
            self._moved = False
            self._readdress()
        if self._asking:
            asking, self._asking = self._asking, {}
            for peer, digests in asking.items():
                still = tuple(digest for digest in digests if digest in self._wanted)
                if still:
                    self._tables.say(peer, Want(still), now)

    def _readdress(self) -> None:
        """Ask somebody else for what was asked of a peer that has no task waiting for it any more.

        Looks at every missing blob, so it is for rare events only.
        """
        for digest, wanted in self._wanted.items():
            sources = [self._source(self._tables.tasks[key]) for key in wanted.tasks]
            if wanted.asked not in sources:
                wanted.asked = next((source for source in sources if source), "")
                if wanted.asked:
                    self._asking.setdefault(wanted.asked, {})[digest] = None

    def _source(self, task: Task) -> PeerId:
        """Return who can deliver what a task waits for: its client the inputs, its worker the outputs."""
        if task.live is not None:
            worker = self._tables.workers.get(task.live.worker)
            return worker.peer if worker is not None else ""
        if task.session.peer or not task.followers:
            return task.session.peer
        sharing = (self._tables.tasks[key].session.peer for key in task.followers)
        return next((peer for peer in sharing if peer), "")
