"""The result cache and the store as the manager's core sees them: asked in batches, on the storage thread."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from computefarm.core.commands import Fact, Found, Keep, LookUp, NotFound, Vanished
from computefarm.messages import Digest, Result, TaskKey
from computefarm.store.blobs import BlobStore
from computefarm.store.results import ResultCache
from computefarm.transport.mailbox import Mailbox

from .loop import Loop
from .offload import Offload

log = logging.getLogger("computefarm.taskmanager")


class Remembered:
    """Answers look-ups, keeps results, and tells which blobs are lost."""

    def __init__(
        self, store: BlobStore, results: ResultCache, storage: Offload, learn: Callable[[Fact], None]
    ) -> None:
        self._store = store
        self._results = results
        self._storage = storage
        self._learn = learn
        self._lost: Mailbox[tuple[Digest, ...]] = Mailbox()
        self._lookups: list[LookUp] = []
        self._keeps: list[tuple[Digest, Result]] = []

    def attach(self, loop: Loop) -> None:
        """Hear of lost blobs from now on."""
        self._store.on_lost = self._lost.put
        loop.watch(self._lost.fileno(), self._blobs_lost)

    def close(self, loop: Loop) -> None:
        """Let go; the storage thread has ended."""
        loop.unwatch(self._lost.fileno())
        self._store.on_lost = None
        self._lost.close()
        self._results.close()

    def obey(self, command: LookUp | Keep) -> None:
        """Do this with all others of this turn."""
        if isinstance(command, LookUp):
            self._lookups.append(command)
        else:
            self._keeps.append((command.digest, command.result))

    def flush(self) -> None:
        """Hand what was gathered to the storage thread."""
        if self._lookups:
            lookups, self._lookups = self._lookups, []
            self._storage.submit(partial(self._find, lookups), self._looked_up)
        if self._keeps:
            keeps, self._keeps = self._keeps, []
            self._storage.submit(partial(self._results.put_many, keeps), self._kept)

    def _find(self, lookups: Sequence[LookUp]) -> list[tuple[TaskKey, Result | None]]:
        known = self._results.get_many([lookup.digest for lookup in lookups])
        return [(lookup.key, known.get(lookup.digest)) for lookup in lookups]

    def _looked_up(self, value: Any, error: BaseException | None) -> None:
        if error is not None:
            raise error
        for key, result in value:
            if result is None:
                self._learn(NotFound(key))
                continue
            for entry in result.outputs:
                if entry.digest not in self._store:
                    self._store.refresh(entry.digest)
            self._learn(Found(key, result))

    def _kept(self, value: Any, error: BaseException | None) -> None:
        if error is not None:
            log.error("the result cache cannot be written: %s", error)
        if self._store.wants_room:
            self._storage.submit(self._store.evict, self._evicted)

    def _evicted(self, _value: Any, error: BaseException | None) -> None:
        if error is not None:
            log.error("the store cannot be trimmed: %s", error)

    def _blobs_lost(self) -> None:
        """Evicted, or found damaged by whichever thread looked."""
        lost = tuple(digest for group in self._lost.drain() for digest in group if digest not in self._store)
        if lost:
            self._learn(Vanished(lost))
