"""What both ends of a connection agree on below the messages.

A message is two or three ZeroMQ frames: `HEADER`, a body (encoded messages), and the bytes of a chunk.
"""

from __future__ import annotations

import zmq

from computefarm.codec import MAX_FRAME
from computefarm.errors import ProtocolError

INPROC = "inproc://"

BATCH = 256
"""Messages per turn, so that a flood cannot keep the clock from ticking."""

ZERO_COPY = 256 * 1024
"""Bytes from which handing a buffer to ZeroMQ beats copying it."""

Buffer = bytes | memoryview
"""Bytes of blobs; a memoryview keeps ZeroMQ's own buffer alive and is not to be written to."""

LIMITS = (
    (zmq.LINGER, 0),
    (zmq.SNDHWM, 1000),
    (zmq.RCVHWM, 1000),
    # The frame as encrypted is a little longer than what was sent.
    (zmq.MAXMSGSIZE, MAX_FRAME + 1024),
    (zmq.HANDSHAKE_IVL, 5000),
    (zmq.HEARTBEAT_IVL, 2000),
    (zmq.HEARTBEAT_TIMEOUT, 10000),
    (zmq.HEARTBEAT_TTL, 10000),
)
"""Socket options of both ends, in milliseconds, messages and bytes."""

MANAGER_LIMITS = (
    # A peer that does not read holds so many chunks; one that floods gets so many frames read ahead.
    (zmq.SNDHWM, 64),
    (zmq.RCVHWM, 32),
    (zmq.BACKLOG, 2048),
)
"""What the manager sets besides, on its port: whoever connects may be slow, stuck or hostile."""

NOW, NOW_MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
"""As plain numbers: joining two flags costs as much as encoding a message."""

_EVENTS, _READABLE = int(zmq.EVENTS), int(zmq.POLLIN)

UNREAD = 128 * 1024 * 1024
"""Bytes of one peer that may have come in and not been handed on; with more it sends one endless message."""


def on_the_wire(size: int) -> int:
    """Return the bytes that a frame of `size` takes: the encryption's 33, and the length before it."""
    return size + (35 if size < 223 else 42)


def check_size(body: bytes, data: Buffer | None) -> None:
    """Refuse to send what the other end would drop without a word."""
    size = len(body) if data is None or len(body) > len(data) else len(data)
    if size > MAX_FRAME:
        raise ProtocolError(f"a message of {size} bytes was to be sent, and {MAX_FRAME} is the limit")


def readable(socket: zmq.Socket[bytes]) -> bool:
    """Return whether something can be received, in less than half the time of trying in vain."""
    return bool(int(socket.getsockopt(_EVENTS)) & _READABLE)
