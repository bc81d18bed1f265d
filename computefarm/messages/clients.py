"""Between a client and the manager."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from .base import MANY, Digest, Message, Short
from .status import Obstacle, Pool
from .tasks import Attempt, Need, Piece, Result, TaskSpec

# --- client → manager ---------------------------------------------------------------------------------


class Submit(Message, frozen=True, tag="submit"):
    """Tasks to run. Sending one twice is harmless: `(session, task)` names it."""

    session: Short
    needs: Annotated[tuple[Need, ...], Meta(max_length=10_000)]
    tasks: Annotated[tuple[TaskSpec, ...], Meta(max_length=10_000)]
    lease_s: float = 0.0
    """How long the session may be without its client before it is cancelled; 0 means the manager's own lease.
    What is submitted to be left alone needs a long one."""


class Cancel(Message, frozen=True, tag="cancel"):
    """Forget these tasks; all of the session when empty."""

    session: Short
    tasks: Annotated[tuple[int, ...], MANY] = ()
    reason: str = ""
    names: Annotated[tuple[str, ...], MANY] = ()
    """Tasks by name, besides those by number; all of the session only when both are empty."""
    number: int = 0
    """When not 0, an `Answer` with this number says how many tasks it was. A session that is not the sender's
    own, but of the same owner, can be cancelled so too; an `admin` may cancel anybody's."""


class Taken(Message, frozen=True, tag="taken"):
    """The client has these results in its hands; the manager may forget the tasks."""

    session: Short
    tasks: Annotated[tuple[int, ...], MANY]


class Ask(Message, frozen=True, tag="ask"):
    """A question; `Answer` carries the same number."""

    number: int
    about: str
    """`status`, `offers`, `explain` or `sessions`."""
    session: str = ""
    task: str = ""


# --- manager → client ---------------------------------------------------------------------------------


class Want(Message, frozen=True, tag="want"):
    """Send these blobs on the bulk connection (to a client: inputs; to a worker: outputs)."""

    digests: tuple[Digest, ...]


class Offers(Message, frozen=True, tag="offers"):
    """What the farm offers now; sent to a client after Welcome and whenever it changes."""

    pools: tuple[Pool, ...]
    settled: bool = True
    """False for one lease after the manager's start, while workers may still be coming back."""
    gone: tuple[Pool, ...] = ()
    """What was offered since the manager's start and is not now, without slots and workers."""


class Placed(Message, frozen=True, tag="placed"):
    """A task was given to a worker."""

    session: str
    task: int
    attempt: int
    worker: str
    hostname: str


class TaskOutput(Message, frozen=True, tag="task-output"):
    """Lines of one of the session's tasks."""

    session: str
    task: int
    attempt: int
    pieces: tuple[Piece, ...]


class Accepted(Message, frozen=True, tag="accepted"):
    """These tasks are written down: they survive the manager. Never said where there is no journal."""

    session: str
    tasks: tuple[int, ...]


class Done(Message, frozen=True, tag="done"):
    """A task ended. Re-sent after a reconnect until `Taken`."""

    session: str
    task: int
    result: Result
    cached: bool = False
    worker: str = ""
    hostname: str = ""
    queued_s: float = 0.0
    attempts: tuple[Attempt, ...] = ()


class Waiting(Message, frozen=True, tag="waiting"):
    """Nothing can run these tasks at present; sent when the reason changes, and empty when it is over."""

    session: str
    tasks: tuple[int, ...]
    need: Need
    obstacles: tuple[Obstacle, ...]
    offered: bool
    """Some live worker meets capability, version, tags, toolchain and size: it is only busy or held back."""
    ever: bool
    """Some worker did so since the manager started."""
