"""Connections that have not said anything yet."""

from __future__ import annotations

import time

import msgspec

from .tcp import bytes_received, far_end, hang_up

ROOM = 1000
"""Connections at once that have said nothing; a newer one takes the place of the oldest."""

MUTE_S = 10.0
"""How long one may say nothing: who cannot prove a key is gone after half of that (ZeroMQ sees to it)."""

UNREAD = 16 * 1024 * 1024
"""Bytes that may come before the first message is complete."""


class Stranger(msgspec.Struct, frozen=True):
    """One of them."""

    far: tuple[str, int]
    since: float


class Strangers:
    """Who has connected and not spoken, by descriptor: they must take neither all of those nor memory."""

    def __init__(self) -> None:
        self._found: dict[int, Stranger] = {}

    def arrive(self, descriptor: int) -> None:
        """Somebody has connected; too many of them, and the one who waited longest must go."""
        self._found.pop(descriptor, None)
        self._found[descriptor] = Stranger(far_end(descriptor), time.monotonic())
        if len(self._found) > ROOM:
            oldest = next(iter(self._found))
            hang_up(oldest, self._found[oldest].far)

    def meet(self, descriptor: int) -> None:
        """It has spoken, and is a stranger no more."""
        self._found.pop(descriptor, None)

    def leave(self, descriptor: int) -> str | None:
        """Its connection has ended: return its address, or None when it was no stranger."""
        gone = self._found.pop(descriptor, None)
        return gone.far[0] if gone is not None else None

    def look(self, now: float) -> None:
        """Hang up on those who have waited for too long, or send what never becomes a message."""
        for descriptor, one in self._found.items():
            if now >= one.since + MUTE_S or (bytes_received(descriptor) or 0) > UNREAD:
                hang_up(descriptor, one.far)
