"""The door: answers ZeroMQ's question whether a key may connect, on the manager's own loop.

While nobody reads these questions, nobody is let in.
"""

from __future__ import annotations

from collections.abc import Callable

import zmq
from zmq.utils import z85

from .addresses import plain_ip
from .authorized import Authorization, Authorized, format_time
from .keys import PublicKey
from .wire import NOW, readable

ENDPOINT = "inproc://zeromq.zap.01"
DOMAIN = b"computefarm"

Refuse = Callable[[str, PublicKey, str, str], None]
"""Called with address, key, name, reason."""


STRANGER, BARRED = b"400", b"500"
"""Refused: a key that nobody knows; one that is known and may not connect now."""


class Door:
    """Serves the ZeroMQ authentication protocol (ZAP) for one context."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        table: Authorized,
        clock: Callable[[], float],
        refuse: Refuse,
        barred: Callable[[PublicKey], str] = lambda _key: "",
    ) -> None:
        """Answer by `table`; `barred` returns why a key in it may not connect for a while."""
        self.socket = context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(ENDPOINT)
        self._table = table
        self._clock = clock
        self._refuse = refuse
        self._barred = barred

    def answer(self) -> None:
        """Answer all questions that wait."""
        while readable(self.socket):
            self._answer(self.socket.recv_multipart(NOW))

    def _answer(self, frames: list[bytes]) -> None:
        asker, request = frames[0], frames[3] if len(frames) > 3 else b""
        key, status = self._judge(frames)
        text = b"OK" if status == b"200" else b"refused"
        self.socket.send_multipart([asker, b"", b"1.0", request, status, text, key.encode(), b""])

    def _judge(self, frames: list[bytes]) -> tuple[PublicKey, bytes]:
        """Return the key, and what to say: 200 lets it in."""
        if len(frames) != 9 or frames[2] != b"1.0" or frames[4] != DOMAIN or frames[7] != b"CURVE":
            return "", STRANGER
        address = plain_ip(frames[5].decode("ascii", "replace"))
        if len(frames[8]) != 32:
            return "", STRANGER
        key = z85.encode(frames[8]).decode()
        self._table.refresh()
        entry = self._table.find(key)
        reason = objection(entry, address, self._clock())
        if entry is not None and not reason:
            reason = self._barred(key)
        if not reason:
            return key, b"200"
        self._refuse(address, key, entry.name if entry else "", reason)
        return key, BARRED if entry else STRANGER

    def close(self) -> None:
        """Stop answering: from now on nobody is let in."""
        self.socket.close(linger=0)


def objection(entry: Authorization | None, address: str, wall: float) -> str:
    """Return why a key may not speak from `address` at `wall` (seconds), or the empty string."""
    if entry is None:
        return "unknown key"
    if entry.revoked:
        return f"this key was revoked on {format_time(entry.at)}"
    if not entry.welcome_from(address):
        return f"this key may connect from {', '.join(entry.hosts)} only"
    if entry.expired(wall) and not entry.invited:
        # An expired invitation is let in to be told so; it can do nothing else.
        return f"this key expired on {format_time(entry.expires_at or 0.0)}"
    return ""
