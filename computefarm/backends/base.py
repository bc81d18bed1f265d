"""The seam between majordomo and the places it can send tasks.

A backend owns its threads. It reports through one `sink`, called from any of them;
the sink must only queue the event.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from computefarm.errors import FarmError
from computefarm.messages import Attempt, Digest, Explanation, Need, Obstacle, Piece, Pool, Result, Status


class Submission(msgspec.Struct, frozen=True):
    """One task, as majordomo hands it over."""

    task: int
    """Chosen by majordomo, unique within the run."""
    name: str
    need: Need
    action: bytes
    """An encoded `messages.Action`."""
    sources: Mapping[Digest, str]
    """Where to read each input's bytes, when the farm asks for them."""
    project: Path
    """Where outputs are put, each atomically, before `Ended` is reported."""
    kind: str = ""
    priority: float = 0.0
    retries: int = 0
    read_cache: bool = True
    write_cache: bool = True


class Placed(msgspec.Struct, frozen=True):
    """An attempt was given to a worker."""

    task: int
    attempt: int
    worker: str
    hostname: str


class Printed(msgspec.Struct, frozen=True):
    """A running attempt printed something."""

    task: int
    attempt: int
    pieces: tuple[Piece, ...]


class Ended(msgspec.Struct, frozen=True):
    """A task ended; on success its outputs already stand in the project."""

    task: int
    result: Result
    cached: bool
    worker: str
    hostname: str
    queued_s: float
    attempts: tuple[Attempt, ...]


class Held(msgspec.Struct, frozen=True):
    """Nothing can run these tasks at present (no obstacles: it is over)."""

    tasks: tuple[int, ...]
    need: Need
    obstacles: tuple[Obstacle, ...]
    offered: bool
    """Some live worker offers what is needed, and is only busy or held back."""
    ever: bool
    """Some worker offered it since the manager started."""


class Offered(msgspec.Struct, frozen=True):
    """What can be had now."""

    pools: tuple[Pool, ...]
    settled: bool
    """False while workers may still be coming back after a manager's start."""
    missing: tuple[str, ...] = ()
    """Why this machine cannot offer what was asked for (embedded farm only), for people."""
    gone: tuple[Pool, ...] = ()
    """What was offered since the manager's start and is not now."""


class Link(msgspec.Struct, frozen=True):
    """The connection to the manager went away or came back."""

    up: bool
    text: str


class Broken(msgspec.Struct, frozen=True):
    """The backend cannot go on; every unfinished task is lost."""

    error: FarmError


Event = Placed | Printed | Ended | Held | Offered | Link | Broken
Sink = Callable[[Event], None]


class Backend(Protocol):
    """A farm, wherever it is."""

    @property
    def name(self) -> str:
        """`local`, or the farm's name."""

    def start(self, sink: Sink) -> None:
        """Begin to work and report to `sink`; raise `FarmError` when there is nothing to talk to."""

    def offers(self, capability: str) -> Offered:
        """Return the pools that offer `capability` now; the embedded farm probes for it first."""

    def submit(self, submissions: Sequence[Submission]) -> None:
        """Take these tasks; never blocks for long."""

    def cancel(self, tasks: Sequence[int], reason: str) -> None:
        """End these tasks (all when empty); each is still reported as `Ended`."""

    def abandon(self) -> None:
        """Cancel everything, and wait no longer than until the word has left: this process ends at once."""

    def status(self) -> Status:
        """Return the farm's state now."""

    def explain(self, task: int) -> Explanation:
        """Return why a task waits or where it runs."""

    def close(self) -> None:
        """Stop everything this backend started; unfinished tasks are cancelled."""
