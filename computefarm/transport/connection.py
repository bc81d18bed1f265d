"""One live connection at the listening end, and what comes in on it."""

from __future__ import annotations

import time

import msgspec
import zmq

from .authorized import Authorization
from .keys import PublicKey
from .tcp import bytes_received
from .wire import Buffer

Route = bytes
"""ZeroMQ's own name for one connection, made by the manager, never by the peer."""


class Incoming(msgspec.Struct, frozen=True, gc=False):
    """One message from one connection, with what the table says of its key now."""

    route: Route
    identity: Authorization
    body: bytes
    data: Buffer | None = None


BEATS = 64
"""Bytes per second that ZeroMQ's own heartbeats may take."""


class Connection:
    """One live connection."""

    __slots__ = ("address", "descriptor", "identity", "key", "read", "refused", "since")

    def __init__(self, key: PublicKey, address: str, descriptor: int) -> None:
        self.key = key
        self.address = address
        self.descriptor = descriptor
        """Of ZeroMQ's TCP connection; -1 when unknown."""
        self.identity: Authorization | None = None
        self.refused = False
        self.read = 0
        """Bytes of the wire that have been handed on."""
        self.since = time.monotonic()

    def unread(self, now: float) -> int:
        """Return how many bytes have come in and are not a message that could be read."""
        received = bytes_received(self.descriptor)
        return 0 if received is None else received - self.read - int(BEATS * (now - self.since))


def property_of(frame: zmq.Frame, name: str) -> str:
    """Return what ZeroMQ knows of where a frame came from, or the empty string."""
    try:
        return str(frame.get(name))
    except zmq.ZMQError:
        return ""
