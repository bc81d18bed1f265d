"""Between a worker, or the monitor of its machine, and the manager."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from .base import MANY, Digest, Message, Short, TaskKey
from .tasks import Offer, Piece, Result

# --- worker → manager ---------------------------------------------------------------------------------


class Running(Message, frozen=True):
    """An attempt that a registering worker still has in hand."""

    key: TaskKey
    attempt: int
    epoch: str = ""


class Register(Message, frozen=True, tag="register"):
    """What a worker offers. Sent after every Welcome, and again when the offer changes."""

    worker: Short
    host: Short
    hostname: Short
    platform: Short
    slots: int
    offers: Annotated[tuple[Offer, ...], Meta(max_length=1000)]
    cpus: int = 1
    memory: int = 0
    gpus: int = 0
    running: Annotated[tuple[Running, ...], MANY] = ()
    tier: int = 0
    """Workers of a higher tier get tasks only when all lower tiers are full or gone."""
    weight: float = 1.0
    """Speed relative to the others."""
    max_load: float | None = None
    """Strict limit of the host's load per core; None orders by load but never refuses."""
    draining: bool = False
    held: str = ""
    """Why the worker itself takes no new work for now, such as a full disk; empty when it does."""


class Begun(Message, frozen=True, tag="begun"):
    """The attempt's first command has been started."""

    key: TaskKey
    attempt: int
    epoch: str = ""
    """Of the manager that sent the attempt; empty when it is the one spoken to."""


class Output(Message, frozen=True, tag="output"):
    """Lines of a running attempt."""

    key: TaskKey
    attempt: int
    pieces: Annotated[tuple[Piece, ...], MANY]


class Finished(Message, frozen=True, tag="finished"):
    """An attempt ended. Re-sent until `Settled` arrives."""

    key: TaskKey
    attempt: int
    result: Result
    epoch: str = ""


class Declined(Message, frozen=True, tag="declined"):
    """The attempt was not started, or given back, through no fault of the task; it costs no attempt."""

    key: TaskKey
    attempt: int
    reason: str
    absent: tuple[Digest, ...] = ()
    """Inputs that the manager said it had but could not deliver."""
    epoch: str = ""
    """Of the manager that sent the attempt; empty when it is the one spoken to."""
    kind: str = ""
    """Why, where others should know: `missing-tool` or `disk-full` as in `Result.kind`, or `preparation` (the
    worker itself could not make the attempt ready)."""


class Leaving(Message, frozen=True, tag="leaving"):
    """No new work, please: the worker ends when what it runs has ended."""


# --- monitor → manager --------------------------------------------------------------------------------


class LoadReport(Message, frozen=True, tag="load"):
    """How busy a host is, without ComputeFarm's own processes."""

    host: Short
    hostname: Short
    load: float
    """Runnable work per core: 1.0 means all cores busy."""
    cpus: int
    memory_total: int
    memory_available: int
    gpus: int = 0
    disk_free: int = 0
    users: int = 0
    on_battery: bool = False
    max_load: float | None = None
    """The owner's strict limit for the whole host, per core."""
    policy: str = ""
    """What the owner's policy says now, for people; empty means no restriction."""
    interval_s: float = 3.0
    """The host is stale after three of these in silence."""
    task_load: float = 0.0
    """Our own processes' share, per core, in the same sample."""
    clock_offset_s: float | None = None
    """How much the host's wall clock is ahead of the manager's; None when that was not measured."""


# --- manager → worker ---------------------------------------------------------------------------------


class Run(Message, frozen=True, tag="run"):
    """Start this attempt as soon as a slot is free."""

    key: TaskKey
    attempt: int
    name: str
    action: bytes
    cpus: int = 1
    memory: int = 0
    session: str = ""
    epoch: str = ""


class Halt(Message, frozen=True, tag="halt"):
    """End this attempt, or do not start it; the worker still answers with `Finished` or `Declined`."""

    key: TaskKey
    attempt: int
    reason: str = ""
    unless_begun: bool = False
    """Only give it back if it has not been started; a running attempt goes on."""
    epoch: str = ""
    """Of the manager that sent the attempt; empty when it is the one that speaks."""


class Settled(Message, frozen=True, tag="settled"):
    """The manager has taken these results (or will never want them); stop re-sending."""

    attempts: tuple[tuple[TaskKey, int], ...]
    epoch: str = ""
    """Of the manager that sent these attempts; empty when it is the one that speaks."""


class Drain(Message, frozen=True, tag="drain"):
    """Take no new work and leave when idle."""
