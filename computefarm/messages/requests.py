"""Volatile requests: answered by warm processes, never written down."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from .base import MANY, Count, Message, Short


class Request(Message, frozen=True, tag="request"):
    """A pure function's arguments; answered by one `Reply`. From clients to the manager, and on to a worker.

    Sending one twice is harmless: its number names it. The client keeps it, and asks somebody else when the
    manager is gone.
    """

    number: int
    """The sender's own."""
    kernel: Short
    body: Annotated[bytes, Meta(max_length=1 << 20)]
    """What determines the answer, as a msgpack map with sorted keys: equal requests have equal bodies."""
    budget_s: float
    """How long the answer is of use, from now on."""
    device: Short = "any"
    """`any`, `cpu` or `gpu`."""
    version: int = 1
    """Of the kernel's requests; a worker must know it."""
    memory: Count = 0
    """Bytes it will need."""
    sizes: Annotated[tuple[tuple[Short, int], ...], Meta(max_length=16)] = ()
    """Numbers that a worker's limits are compared with: `k` 32 needs a worker whose tag `k` is a range
    around it, as `18-40`."""
    attempt: int = 1
    """Counts the workers that were asked; set by the manager."""
    path: Annotated[tuple[Short, ...], Meta(max_length=16)] = ()
    """The managers that have passed it on, each by the fingerprint of its key, the first one first."""
    vram: Count = 0
    """Bytes of a GPU's memory it will need when it runs there."""
    cpu_s: float = 0.0
    """Expected seconds on one core."""
    gpu_s: float = 0.0
    """Expected seconds on a GPU; 0 when it cannot run there."""
    others: bool = False
    """The sender has others to ask: say `busy` rather than let it wait where nobody can answer now."""


class Reply(Message, frozen=True, tag="reply"):
    """The answer to the `Request` with the same number, or why there is none."""

    number: int
    status: Short
    """`ok`, `no_proof`, `bad_request`, `too_large`, `deadline`, `busy` or `error`."""
    reason: Annotated[str, Meta(max_length=4096)] = ""
    """For people; empty when it is answered."""
    values: Annotated[bytes, Meta(max_length=1 << 20)] = b""
    """The kernel's answer, as a msgpack map."""
    device: Short = ""
    cpu_ms: float = 0.0
    wall_ms: float = 0.0
    queue_ms: float = 0.0
    """Waiting at the manager and at the worker."""
    worker: Short = ""
    hostname: Short = ""
    attempts: int = 1
    merged: bool = False
    """Equal to somebody else's request, and computed once for both."""
    about: Short = ""
    """What was asked, for people."""


class Withdraw(Message, frozen=True, tag="withdraw"):
    """Nobody waits for these requests any more."""

    numbers: Annotated[tuple[int, ...], MANY]


class DeviceStatus(Message, frozen=True):
    """One device of a worker that answers requests, in `status`."""

    device: str
    """`cpu`, or a GPU with index, name and UUID."""
    running: int
    served: int
    failed: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    oldest_s: float
    """Age of the oldest request that runs there; 0 when there is none."""


class ServerStatus(Message, frozen=True):
    """A worker that answers requests, in `status`."""

    worker: str
    hostname: str
    device: str
    """Of its last answer; empty before the first."""
    pending: int
    served: int
    failed: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    oldest_s: float
    """Age of the oldest request that it has in hand; 0 when it has none."""
    state: str
    """`up`, `silent` (its requests were given to others), `held`, or of an upstream `down`."""
    upstream: bool = False
    """It is another manager, to which requests are passed on."""
    reason: str = ""
    """Why it is not asked now; empty when it is."""
    slots: int = 0
    """Requests that it computes at once."""
    devices: tuple[DeviceStatus, ...] = ()
