"""A client's outputs on their way: fetched from the manager, put in place, and only then reported."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from computefarm.errors import StoreError, TaskError
from computefarm.messages import Digest, Done, FileEntry, Outcome
from computefarm.store.blobs import BlobStore
from computefarm.store.deliver import Delivery, from_store

from .transfer import Transfer

log = logging.getLogger("computefarm.client")


class Deliveries:
    """Takes tasks that have ended; a success is finished when its outputs stand in the project."""

    def __init__(
        self,
        store: BlobStore,
        transfer: Transfer,
        *,
        project: Callable[[int], Path],
        finish: Callable[[Done], None],
        again: Callable[[Done, str], None],
    ) -> None:
        """`project` says where a task's outputs belong; `again` is told of outputs that cannot be had."""
        self._store = store
        self._transfer = transfer
        self._project = project
        self._finish = finish
        self._again = again
        self._waiting: dict[int, tuple[Done, set[Digest]]] = {}
        self._awaiting: dict[Digest, list[int]] = {}
        self._by_project: dict[Path, Delivery] = {}

    def take(self, done: Done) -> None:
        """A task ended: fetch what is not here, then put it in place."""
        entries = done.result.outputs
        if done.result.outcome is not Outcome.SUCCEEDED or not entries:
            self._finish(done)
            return
        missing = {
            e.digest for e in entries if e.digest not in self._store and not self._store.refresh(e.digest)
        }
        self._store.pin([entry.digest for entry in entries])
        if not missing:
            self._deliver(done, entries)
            return
        self._waiting[done.task] = (done, missing)
        for digest in missing:
            self._awaiting.setdefault(digest, []).append(done.task)
        sizes: dict[Digest, int | None] = {entry.digest: entry.size for entry in entries}
        self._transfer.want([(digest, sizes[digest]) for digest in missing])

    def arrived(self, digests: Sequence[Digest]) -> None:
        """Blobs came in: deliver the tasks that waited for nothing else."""
        for digest in digests:
            for task in self._awaiting.pop(digest, ()):
                waiting = self._waiting.get(task)
                if waiting is None:
                    continue
                done, missing = waiting
                missing.discard(digest)
                if not missing:
                    del self._waiting[task]
                    self._deliver(done, done.result.outputs)

    def failed(self, digests: Sequence[Digest], text: str) -> None:
        """The manager cannot deliver these."""
        for digest in digests:
            for task in self._awaiting.pop(digest, ()):
                waiting = self._waiting.pop(task, None)
                if waiting is not None:
                    self._undeliverable(waiting[0], text)

    def _undeliverable(self, done: Done, text: str) -> None:
        self._store.unpin([entry.digest for entry in done.result.outputs])
        self._again(done, text)

    def _deliver(self, done: Done, entries: Sequence[FileEntry]) -> None:
        project = self._project(done.task)
        delivery = self._by_project.get(project)
        if delivery is None:
            delivery = self._by_project[project] = Delivery(project)

        def then(_value: Any, error: BaseException | None) -> None:
            self._delivered(done, error)

        self._transfer.submit(lambda: delivery.install(entries, from_store(self._store)), then)

    def _delivered(self, done: Done, error: BaseException | None) -> None:
        if isinstance(error, StoreError):
            self._undeliverable(done, str(error))
            return
        self._store.unpin([entry.digest for entry in done.result.outputs])
        if self._store.wants_room:
            self._transfer.submit(self._store.evict, _evicted)
        if error is None:
            self._finish(done)
        elif isinstance(error, TaskError | OSError):
            self._finish(failed(done, f"the outputs cannot be put in place: {error}"))
        else:
            raise error


def failed(done: Done, reason: str) -> Done:
    """Return an end that is a failure after all."""
    result = msgspec.structs.replace(done.result, outcome=Outcome.FAILED, reason=reason)
    return msgspec.structs.replace(done, result=result)


def _evicted(_value: Any, error: BaseException | None) -> None:
    if error is not None:
        log.error("the store cannot be trimmed: %s", error)
