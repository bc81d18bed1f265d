"""Who may say what, message by message, and for how long the manager listens to what moves no task."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from computefarm.core.manager import ALLOWED, TaskManager
from computefarm.messages import (
    Begun,
    Declined,
    Finished,
    Output,
    OutputPage,
    Reply,
    Request,
    ToManager,
    Withdraw,
)
from computefarm.transport.authorized import Authorization
from computefarm.transport.keys import PublicKey
from computefarm.transport.manager_end import Incoming, ManagerEnd

WORK = frozenset(
    kind for kind in ALLOWED if kind.__name__ in ("Submit", "Cancel", "Taken", "Chunk", "Fetch", "Absent")
) | {Request, Reply, Withdraw, OutputPage}
"""Messages that move tasks or their files; those of workers do so as long as they have the attempt."""

Ending = Begun | Output | Finished | Declined
"""What a worker says of an attempt."""

SHARE = 0.05
"""Of the manager's time that one key may take with all the rest: heartbeats, questions, junk."""

BURST_S = 0.5
"""Seconds of it that may come at once."""

BAR_S = 10.0
"""How long a key stays out that took more."""


class _Purse(msgspec.Struct):
    """What one key may still take."""

    left: float
    at: float


class Gate:
    """Judges what comes in by the key it came with."""

    def __init__(self, end: ManagerEnd, core: TaskManager, wall: Callable[[], float]) -> None:
        self._end = end
        self._core = core
        self._wall = wall
        self._purses: dict[PublicKey, _Purse] = {}

    @staticmethod
    def role_of(identity: Authorization, role: str) -> str:
        """Return what somebody who said `role` is taken for: an admin's client may do more than others."""
        return "admin" if identity.role == "admin" and role == "client" else role

    @staticmethod
    def may_not(identity: Authorization, said: str, role: str, message: ToManager) -> str:
        """Return why the key, as the table has it now, may not send `message` as `role`, or nothing."""
        if not identity.may(said):
            return f"this key is a {identity.role}'s and may not act as {said}"
        if role not in ALLOWED[type(message)]:
            return f"a {role} may not send {type(message).__name__}"
        return ""

    def idle(self, incoming: Incoming, peer: str, message: ToManager, epoch: str) -> bool:
        """Return whether a message moves nothing; what speaks of somebody else's attempt is reported."""
        if type(message) in WORK:
            return False
        if not isinstance(message, Ending):
            return True
        if self._core.holds(peer, message.key, message.attempt):
            return False
        said = getattr(message, "epoch", "")
        if said in ("", epoch) and not self._core.was_given(peer, message.key, message.attempt):
            what = type(message).__name__
            self._end.refuse(incoming.route, f"{what} for an attempt that it was not given")
        return True

    def spend(self, incoming: Incoming, seconds: float, now: float) -> None:
        """Book what a frame has cost for nothing; who takes too much is thrown out for a while."""
        key = incoming.identity.key
        if not key:
            return  # this very process
        purse = self._purses.get(key)
        if purse is None:
            purse = self._purses[key] = _Purse(BURST_S, now)
        purse.left = min(BURST_S, purse.left + (now - purse.at) * SHARE) - seconds
        purse.at = now
        if purse.left < 0.0:
            self._end.refuse(incoming.route, f"it flooded the manager, and stays out for {BAR_S:.0f} s")
            self._end.bar(key, self._wall() + BAR_S)
            del self._purses[key]
