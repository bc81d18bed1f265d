"""What a client is asked to do and what it reports: the seam between a run and the loop that serves it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from computefarm.errors import FarmError, StoreError
from computefarm.messages import Attempt, Digest, Need, Obstacle, Piece, Pool, Result, TaskSpec


class Order(msgspec.Struct, frozen=True):
    """One task for the farm, and where its files are on this machine."""

    spec: TaskSpec
    need: Need
    sources: dict[Digest, str]
    inputs: tuple[Digest, ...]
    project: Path
    reported_as: int
    """The number majordomo knows the task by; differs from the spec's when it had to be submitted anew."""


class Finish(msgspec.Struct, frozen=True):
    """A task ended, and its outputs stand in the project."""

    task: int
    result: Result
    cached: bool
    worker: str
    hostname: str
    queued_s: float
    attempts: tuple[Attempt, ...]


class Observer:
    """What a client reports; methods are called on the loop's thread and must be quick."""

    def placed(self, task: int, attempt: int, worker: str, hostname: str) -> None:
        """An attempt was given to a worker."""

    def printed(self, task: int, attempt: int, pieces: tuple[Piece, ...]) -> None:
        """An attempt printed something."""

    def finished(self, finish: Finish) -> None:
        """A task ended."""

    def held(
        self, tasks: tuple[int, ...], need: Need, obstacles: tuple[Obstacle, ...], offered: bool, ever: bool
    ) -> None:
        """Nothing can run these tasks at present."""

    def offered(self, pools: tuple[Pool, ...], settled: bool, gone: tuple[Pool, ...]) -> None:
        """What the farm offers changed."""

    def link(self, up: bool, text: str) -> None:
        """The connection came or went."""

    def broken(self, error: FarmError) -> None:
        """The farm cannot be used any more."""

    def flush(self) -> None:
        """The loop's turn is over: nothing more is reported before the next."""


class SourceShelf:
    """The user's own files, by the digest they had when they were submitted."""

    def __init__(self) -> None:
        self._paths: dict[Digest, str] = {}

    def put(self, sources: dict[Digest, str]) -> None:
        """Remember where these are."""
        self._paths.update(sources)

    def path(self, digest: Digest) -> Path | None:
        """Return where the bytes were, or None."""
        path = self._paths.get(digest)
        return None if path is None else Path(path)

    def read_slice(self, digest: Digest, offset: int, length: int) -> tuple[int, bytes]:
        """Read from the file; whoever receives the bytes verifies the digest."""
        path = self._paths.get(digest)
        if path is None:
            raise StoreError(f"no file with digest {digest.hex()[:12]} was submitted")
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(offset)
            return size, file.read(length)
