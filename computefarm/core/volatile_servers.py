"""Workers that answer requests: who can, who should, and how they have done.

`choose` prefers the lowest tier with room, then the least pending for its weight, roughly, then whoever was
given least so far: so equal workers share evenly, and one of weight 3 gets three times as much, at any
concurrency.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Sequence
from typing import TypeVar

import msgspec

from computefarm.messages import Offer, Request, ServerStatus

from .commands import PeerId
from .placement import mebibytes, over_limit
from .state import Worker
from .volatile_devices import FIRST, SAMPLES, UNITS, VRAM, Devices, budgets, percentile

T = TypeVar("T")

CAPABILITY = "recompute"
"""What a worker offers that answers requests."""

REQUESTS = "recompute-requests"
"""What an upstream is entered with: it answers requests, and takes no tasks."""

MANAGER = "manager"
"""A tag of an upstream: which manager it is."""

BEHIND = "behind"
"""A tag of an upstream: the managers that it passes requests on to, and those that they do."""

PASSED_ON = 8
"""How many managers may pass a request on."""

KERNEL = "kernel:"
"""Tags `kernel:NAME` say which kernels, and up to which version of their requests."""

DEVICES = "devices"
"""A tag: where the worker's processes compute, `cpu`, `cuda` or `cpu cuda`."""

MEMORY_SHARE = 0.8
"""Of a machine's memory, for all requests together; the rest is for the processes themselves."""

QUICK_S = 0.02
"""Requests that take less are sent ahead of the slots, or a worker would wait for a message after each."""


class Pending(msgspec.Struct, eq=False):
    """One request that a worker has in hand."""

    ticket: int
    memory: int
    since: float
    due: float
    """When it must have said something about it: nobody waits longer."""
    abandoned: bool = False
    """Given to somebody else since: this worker has fallen silent."""


class Server(msgspec.Struct, eq=False):
    """A worker, as far as requests go."""

    worker: Worker
    peer: PeerId
    """The connection that was told about `pending`."""
    pending: dict[int, Pending] = {}
    given: float = 0.0
    """Requests given to it, per weight; what a newcomer starts with is what the others have."""
    served: int = 0
    failed: int = 0
    device: str = ""
    latencies: deque[float] = msgspec.field(default_factory=lambda: deque(maxlen=SAMPLES))
    """Milliseconds."""
    mean_s: float = 1.0
    """Of a request, smoothed."""
    silent: bool = False
    """It has said nothing for too long while it had requests in hand."""
    devices: Devices = msgspec.field(default_factory=Devices)

    @property
    def upstream(self) -> bool:
        """Return whether it is another manager."""
        return REQUESTS in self.worker.offers

    @property
    def room(self) -> int:
        """Return how many more requests it may be given now."""
        # Those that lie ready at an upstream hide the way there and back.
        ahead = self.worker.slots if self.mean_s < QUICK_S or self.upstream else 0
        return self.worker.slots - self.worker.used + ahead - len(self.pending)

    def took(self, seconds: float) -> None:
        """Enter how long an answer has taken."""
        self.latencies.append(seconds * 1000.0)
        self.mean_s = seconds if self.served <= 1 else 0.9 * self.mean_s + 0.1 * seconds

    def status(self, now: float) -> ServerStatus:
        """Return its line in `status`."""
        times = sorted(self.latencies)
        since = min((one.since for one in self.pending.values()), default=now)
        return ServerStatus(
            self.worker.name,
            self.worker.hostname,
            self.device,
            len(self.pending),
            self.served,
            self.failed,
            percentile(times, 0.50),
            percentile(times, 0.95),
            percentile(times, 0.99),
            now - since,
            self._state(),
            self.upstream,
            self.worker.held,
            self.worker.slots,
            self.devices.status(self.tags.get(UNITS, ""), bool(self.pending), now),
        )

    @property
    def tags(self) -> dict[str, str]:
        """Return what it says of itself."""
        offer = answers(self.worker)
        return dict(offer.tags) if offer is not None else {}

    def _state(self) -> str:
        if self.worker.held and self.upstream:
            return "down"
        if self.silent or not self.worker.peer:
            return "silent"
        return "up" if self.worker.able else "held"


def answers(worker: Worker) -> Offer | None:
    """Return with what a worker answers requests, if it does."""
    return worker.offers.get(CAPABILITY) or worker.offers.get(REQUESTS)


def mismatch(request: Request, worker: Worker) -> str:
    """Return why this worker can never answer the request, or nothing."""
    offer = answers(worker)
    if offer is None:
        return f"does not offer {CAPABILITY}"
    tags = dict(offer.tags)
    if offer.capability == REQUESTS:
        if tags.get(MANAGER) in request.path:
            return "has passed this request on itself"
        if len(request.path) >= PASSED_ON:
            return f"is one manager too many: {PASSED_ON} have passed this request on"
        if DEVICES not in tags:
            return ""  # nothing is known of it yet
    version = tags.get(KERNEL + request.kernel)
    if version is None:
        return f"has no kernel {request.kernel}{_kernels(offer)}"
    if not _whole(version) >= request.version:
        return f"has version {version} of {request.kernel}, the request is of version {request.version}"
    if request.device != "any":
        wanted = "cuda" if request.device == "gpu" else request.device
        works = tags.get(f"{DEVICES}:{request.kernel}", tags.get(DEVICES, "cpu"))
        if wanted not in works.split():
            return f"computes on {works}, not on {request.device}"
        vram = max(budgets(tags.get(VRAM, "")), default=request.vram)
        if wanted == "cuda" and request.vram > vram:
            return f"has {mebibytes(vram)} on its GPU, the request needs {mebibytes(request.vram)}"
    for name, value in request.sizes:
        least, between, most = tags.get(name, "").partition("-")
        if between and not _whole(least) <= value <= _whole(most):
            return f"takes {name} from {least} to {most}, the request has {name} {value}"
    if worker.memory and request.memory > MEMORY_SHARE * worker.memory:
        most = mebibytes(int(MEMORY_SHARE * worker.memory))
        return f"has {most} for requests, this one needs {mebibytes(request.memory)}"
    return ""


def hindrance(request: Request, server: Server, memory: int, now: float) -> bool:
    """Return whether an able worker has no room now; `memory` is in use by requests on its host.

    How much of a GPU's memory requests have is the worker's own business: it knows on which they run.
    """
    worker = server.worker
    if server.silent or not worker.able or server.room <= 0 or over_limit(worker, now) is not None:
        return True
    if not request.memory or not worker.memory:
        return False
    return memory + worker.host.ledger.memory + request.memory > MEMORY_SHARE * worker.memory


def choose(
    request: Request, servers: Iterable[Server], tried: Container[str], now: float
) -> tuple[Server | None, bool]:
    """Return who should answer, and whether anybody ever could who was not tried.

    Of the lowest tier with room; among them those with a GPU for what a GPU does sooner.

    One that was tried is asked again only when there is nobody else.
    """
    able = [server for server in servers if not mismatch(request, server.worker)]
    fresh = [server for server in able if server.worker.name not in tried]
    memory: dict[str, int] = {}
    if request.memory:
        for server in servers:
            name = server.worker.host.host
            memory[name] = memory.get(name, 0) + sum(one.memory for one in server.pending.values())
    willing = [
        server
        for server in (fresh or able)
        if not hindrance(request, server, memory.get(server.worker.host.host, 0), now)
    ]
    tier = min((server.worker.tier for server in willing), default=0)
    there = [server for server in willing if server.worker.tier == tier]
    shares = [_share(server) for server in [one for one in there if _has_gpu_for(request, one)] or there]
    return (in_turn(shares)[-1] if shares else None), bool(fresh)


def _has_gpu_for(request: Request, server: Server) -> bool:
    """Return whether a worker answers a request sooner than others, having a GPU that others have not."""
    if request.device != "any" or not 0 < request.gpu_s < request.cpu_s:
        return False
    tags = server.tags
    works = tags.get(f"{DEVICES}:{request.kernel}", tags.get(DEVICES, "cpu"))
    fits = any(request.vram <= size for size in budgets(tags.get(VRAM, "")))
    return FIRST in tags and fits and "cuda" in works.split()


def _share(server: Server) -> tuple[int, float, float, str, Server]:
    worker = server.worker
    return len(server.pending), worker.weight, server.given, worker.name, server


def in_turn(shares: Sequence[tuple[int, float, float, str, T]]) -> tuple[int, float, float, str, T]:
    """Return whose turn it is, of (pending, weight, given per weight, name, whatever).

    The least pending for its weight; among those that differ by less than one request of the weakest, whoever
    was given least so far.
    """
    least = min(pending / weight for pending, weight, *_ in shares)
    slack = max(1.0 / weight for _, weight, *_ in shares)
    close = (share for share in shares if share[0] / share[1] < least + slack - 1e-9)
    return min(close, key=lambda share: share[2:4])


def _kernels(offer: Offer) -> str:
    names = [name.removeprefix(KERNEL) for name, _ in offer.tags if name.startswith(KERNEL)]
    return f" (it has: {', '.join(names)})" if names else ""


def _whole(text: str) -> int:
    return int(text) if text.isdecimal() else 0
