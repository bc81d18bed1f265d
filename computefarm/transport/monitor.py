"""What ZeroMQ tells of its connections."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import zmq
from zmq.utils.monitor import parse_monitor_message

from .wire import INPROC, NOW, readable

FAILURES = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
)


class Monitor:
    """The events of one socket."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], watched: zmq.Socket[bytes], events: int
    ) -> None:
        self._watched = watched
        name = f"{INPROC}computefarm-monitor-{watched.underlying:x}"
        watched.monitor(name, events)
        self.socket = context.socket(zmq.PAIR)
        # Without a limit: ZeroMQ's own thread blocks on a full monitor, and the whole port with it.
        self.socket.setsockopt(zmq.RCVHWM, 0)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(name)

    def read(self) -> Iterator[tuple[int, int]]:
        """Yield event and value (a descriptor, an error number or a time) of everything new."""
        while readable(self.socket):
            frames = self.socket.recv_multipart(NOW)
            event = parse_monitor_message(frames)
            yield int(event["event"]), int(event["value"])

    def close(self) -> None:
        """Stop watching; to be called before the watched socket is closed."""
        # Switched off before its reader goes: ZeroMQ would block for ever on telling nobody.
        with contextlib.suppress(zmq.ZMQError):
            self._watched.disable_monitor()
        self.socket.close(linger=0)
