"""The door: answers ZeroMQ's question whether a key may connect, on the manager's own loop.

While nobody reads these questions, nobody is let in.
"""

from __future__ import annotations

from collections.abc import Callable

import zmq
from zmq.utils import z85

from .authorized import Authorized
from .keys import PublicKey

ENDPOINT = "inproc://zeromq.zap.01"
DOMAIN = b"computefarm"

Refuse = Callable[[str, PublicKey, str, str], None]
"""Called with address, key, name, reason."""


class Door:
    """Serves the ZeroMQ authentication protocol (ZAP) for one context."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        table: Authorized,
        clock: Callable[[], float],
        refuse: Refuse,
    ) -> None:
        self.socket = context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(ENDPOINT)
        self._table = table
        self._clock = clock
        self._refuse = refuse

    def answer(self) -> None:
        """Answer all questions that wait."""
        while True:
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._answer(frames)

    def _answer(self, frames: list[bytes]) -> None:
        asker, request = frames[0], frames[3] if len(frames) > 3 else b""
        key, reason = self._judge(frames)
        self.socket.send_multipart(
            [
                asker,
                b"",
                b"1.0",
                request,
                b"400" if reason else b"200",
                b"refused" if reason else b"OK",
                key.encode(),
                b"",
            ]
        )

    def _judge(self, frames: list[bytes]) -> tuple[PublicKey, str]:
        """Return the key, and why it may not connect or the empty string."""
        if len(frames) != 9 or frames[2] != b"1.0" or frames[4] != DOMAIN or frames[7] != b"CURVE":
            return "", "not a CURVE connection"
        address = frames[5].decode("ascii", "replace")
        if len(frames[8]) != 32:
            return "", "not a CURVE key"
        key = z85.encode(frames[8]).decode()
        self._table.refresh()
        entry = self._table.find(key)
        if entry is None:
            reason = "unknown key"
        elif not entry.welcome_from(address):
            reason = f"this key may connect from {', '.join(entry.hosts)} only"
        elif entry.expired(self._clock()) and not entry.invited:
            # An expired invitation is let in to be told so; it can do nothing else.
            reason = "this key has expired"
        else:
            return key, ""
        self._refuse(address, key, entry.name if entry else "", reason)
        return key, reason

    def close(self) -> None:
        """Stop answering: from now on nobody is let in."""
        self.socket.close(linger=0)
