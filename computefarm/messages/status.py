"""What the manager tells of itself and of what waits."""

from __future__ import annotations

from .base import Message
from .requests import ServerStatus
from .tasks import Attempt, Offer


class Pool(Message, frozen=True):
    """Workers that offer the same thing, counted together."""

    offer: Offer
    platform: str
    slots: int
    workers: tuple[str, ...]


class Obstacle(Message, frozen=True):
    """Why one worker or host does not take a task now."""

    place: str
    """`worker` or `host`."""
    name: str
    reason: str


class HostStatus(Message, frozen=True):
    """One host in `status`."""

    host: str
    hostname: str
    online: bool
    load: float | None
    cpus: int
    memory_total: int
    memory_available: int
    gpus: int
    last_report_s: float | None
    """Age of the last report; None when none came."""
    policy: str
    clock_offset_s: float | None = None
    """How much the host's wall clock is ahead of the manager's; None when that was not measured."""


class WorkerStatus(Message, frozen=True):
    """One worker in `status`."""

    worker: str
    host: str
    hostname: str
    offers: tuple[Offer, ...]
    slots: int
    running: int
    state: str
    """`idle`, `busy`, `held` (over the owner's limit), `draining`, `quarantined`, `reserved` or `silent`."""
    tier: int
    weight: float
    done: int
    failed: int
    reason: str = ""
    """Why it is in this state, where that is not plain."""


class Status(Message, frozen=True):
    """The whole farm at one moment."""

    farm: str
    version: str
    uptime_s: float
    hosts: tuple[HostStatus, ...]
    workers: tuple[WorkerStatus, ...]
    waiting: int
    running: int
    journal: str = ""
    """What is wrong with the manager's journal; empty when nothing is, or there is none."""
    servers: tuple[ServerStatus, ...] = ()
    """Workers that have answered requests, or could."""
    requests: int = 0
    """Requests that wait for a free worker."""


class SessionStatus(Message, frozen=True):
    """One client's run, as the manager knows it."""

    session: str
    owner: str
    """Whose key it is; empty where there are no keys."""
    hostname: str
    """Where its client is; empty while it is away."""
    waiting: int
    running: int
    ended: int
    """Ended and not taken by the client yet."""
    expires_s: float | None = None
    """Seconds until a session without its client is cancelled; None while the client is there."""


class Explanation(Message, frozen=True):
    """What the manager knows of one task."""

    task: str
    state: str
    """`unknown`, `waiting`, `running` or `ended`."""
    obstacles: tuple[Obstacle, ...] = ()
    attempts: tuple[Attempt, ...] = ()


class Answer(Message, frozen=True, tag="answer"):
    """The answer to the `Ask` or `Cancel` with the same number; one of the others is set."""

    number: int
    status: Status | None = None
    pools: tuple[Pool, ...] | None = None
    explanation: Explanation | None = None
    sessions: tuple[SessionStatus, ...] | None = None
    cancelled: int | None = None
    """How many tasks a `Cancel` found that had not ended; 0 as well when the session is unknown."""
