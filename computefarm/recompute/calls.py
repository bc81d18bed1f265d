"""Requests on their way, and the servers that they are given to, as a client keeps them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from computefarm.errors import FarmError, Refused, Unreachable
from computefarm.messages import Pool, Reply, Request
from computefarm.services.link import Link

from .balance import Standing

QUIET_BEATS = 3.0
"""A server that says nothing for so many heartbeats is taken for gone, even if nothing is asked."""

ASKS = 4
"""How often a server with requests in hand is asked whether it lives, before it is given up."""

DIALLED = "it is being dialled"


class Call(msgspec.Struct, eq=False):
    """One request, until it has its answer."""

    request: Request
    """Its number and its budget are filled in when it is sent."""
    deadline_s: float
    then: Callable[[Reply], None]
    """Called once, on the loop's thread; the reply's `attempts` counts all servers' workers."""
    until: float = 0.0
    number: int = 0
    host: str = ""
    """Who has it; empty while it waits."""
    tried: list[str] = []
    troubles: list[str] = []
    ended: bool = False


class Server(msgspec.Struct, eq=False):
    """One server and what it has in hand."""

    standing: Standing
    link: Link
    heard_at: float
    said_at: float
    asked_at: float
    """Whether it lives."""
    heartbeat_s: float = 2.0
    calls: dict[int, Call] = {}
    error: FarmError | None = None
    """Why there is no connection."""
    met: bool = False
    pools: tuple[Pool, ...] = ()

    @property
    def awaited(self) -> bool:
        """Return whether it may be there in a moment: it is being dialled, or was there just now."""
        if self.standing.up:
            return False
        return self.error is None or (self.met and not isinstance(self.error, Refused))

    def quiet_at(self, connect_s: float) -> float:
        """Return when it has said nothing for too long: less is allowed while somebody waits."""
        return self.heard_at + (connect_s if self.calls else QUIET_BEATS * self.heartbeat_s)

    def ask_at(self, connect_s: float) -> float:
        """Return when it is asked whether it lives, while somebody waits."""
        return max(self.heard_at, self.asked_at) + connect_s / ASKS

    def silent(self, now: float, connect_s: float) -> bool:
        """Return whether it has said nothing for too long."""
        return self.standing.up and now >= self.quiet_at(connect_s)

    def state(self, connect_s: float, *, new: bool) -> str:
        """Say why it is not asked; `new`: it was not dialled for `connect_s` yet."""
        if self.error is not None:
            return str(self.error).splitlines()[0]
        if not self.standing.trouble and new:
            return DIALLED
        return self.standing.trouble or f"no answer within {connect_s * 1000:.0f} ms"


def common_error(errors: Iterable[FarmError | None]) -> FarmError | None:
    """Return why no server can be used at all, when that is so."""
    known = list(errors)
    if any(error is None for error in known):
        return None
    refused = next((error for error in known if isinstance(error, Refused)), None)
    return refused or next((error for error in known if isinstance(error, Unreachable)), None)
