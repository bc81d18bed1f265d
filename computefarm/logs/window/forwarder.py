"""Hand records to a log window without ever waiting for it.

The window may be closed, frozen or slow at any time; the records are safe in the log files,
so here they wait in a bounded queue and the oldest are given up, counted.

The wire is cutelog's (https://github.com/busimus/cutelog/wiki/Creating-a-client-for-cutelog):
frames of a big-endian 32-bit length and a payload; the first payload chooses JSON, so nothing is pickled.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

CAPACITY = 5000
"""Records that wait for a window that does not read; about 2 MB."""

LONGEST = 16_384
"""Characters of one message; the files have the rest."""

RETRY_S = 1.0
"""Between two attempts to reach the window."""

LOOK_S = 0.05
"""How often it is looked meanwhile whether there is still a window to reach."""

STALL_S = 0.2
"""How long one look at a window that does not read lasts; then we see whether we are to end."""

STALLED_S = 1.0
"""A window that has read nothing for so long is not waited for at the end."""

JSON_PLEASE = b"!!cutelog!!format=json"


def frame(payload: bytes) -> bytes:
    """Return `payload` with its length before it."""
    return struct.pack(">L", len(payload)) + payload


def encode(record: Mapping[str, Any]) -> bytes:
    """Return one record as a frame."""
    text = str(record.get("msg", ""))
    if len(text) > LONGEST:
        record = {**record, "msg": f"{text[:LONGEST]}… ({len(text) - LONGEST} more characters in the file)"}
    return frame(json.dumps(record, ensure_ascii=False).encode("utf-8", "replace"))


class Forwarder:
    """Sends records to one window, on a thread of its own."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        capacity: int = CAPACITY,
        alive: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Start the thread; `alive` says whether it is worth trying again after the window went away."""
        self._address = (host, port)
        self._alive = alive
        self._clock = clock
        self._queue: deque[Mapping[str, Any]] = deque()
        self._capacity = capacity
        self._changed = threading.Condition()
        self._ending = False
        self._unsaid = 0
        self._bytes = 0
        self._hung_up = False
        """The window has closed the connection."""
        self.dropped = 0
        """Records given up so far."""
        self.sent = 0
        """Records that the window's host has taken."""
        self.connected = threading.Event()
        """Set while there is a window to send to."""
        self.ended = threading.Event()
        """Set when the window is gone for good, or after `close`."""
        self._thread = threading.Thread(target=self._work, name="log-window", daemon=True)
        self._thread.start()

    def put(self, record: Mapping[str, Any]) -> None:
        """Queue one record; never waits. The oldest waiting one is given up when there are too many."""
        if self.ended.is_set():
            return
        with self._changed:
            if len(self._queue) >= self._capacity:
                self._queue.popleft()
                self.dropped += 1
                self._unsaid += 1
            self._queue.append(record)
            self._changed.notify()

    def put_when_room(self, record: Mapping[str, Any]) -> bool:
        """Queue one record, waiting while the queue is full; False when the window has gone."""
        with self._changed:
            while len(self._queue) >= self._capacity and not self.ended.is_set():
                self._changed.wait(STALL_S)
            if self.ended.is_set():
                return False
            self._queue.append(record)
            self._changed.notify_all()
        return True

    def close(self, patience_s: float = 10.0) -> None:
        """Send what waits, for so long at most and only while the window reads; then end."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        deadline = time.monotonic() + patience_s
        stalled = time.monotonic() + STALLED_S
        before = self._bytes
        while self._thread.is_alive() and time.monotonic() < min(deadline, stalled):
            self._thread.join(STALL_S)
            if self._bytes != before:
                before, stalled = self._bytes, time.monotonic() + STALLED_S
        self.ended.set()
        self._thread.join(1.0)

    # --- the thread ---

    def _work(self) -> None:
        try:
            while not self.ended.is_set():
                try:
                    with socket.create_connection(self._address, timeout=2.0) as connection:
                        connection.settimeout(STALL_S)
                        self._hung_up = False
                        watcher = threading.Thread(target=self._watch, args=(connection,), daemon=True)
                        watcher.start()
                        self.connected.set()
                        try:
                            self._serve(connection)
                        finally:
                            with contextlib.suppress(OSError):
                                connection.shutdown(socket.SHUT_RDWR)
                            watcher.join(1.0)
                except OSError:
                    pass  # closed, or not there: seen below
                finally:
                    self.connected.clear()
                again = time.monotonic() + RETRY_S
                while time.monotonic() < again:
                    if self._ending or not self._alive():
                        return
                    self.ended.wait(LOOK_S)
        finally:
            self.ended.set()
            with self._changed:
                self._changed.notify_all()

    def _watch(self, connection: socket.socket) -> None:
        """Notice at once that the window has hung up, though there is nothing to send; it never speaks."""
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        with contextlib.suppress(OSError):
            while True:
                poll.poll()
                with contextlib.suppress(TimeoutError):
                    if not connection.recv(4096):
                        break
        with self._changed:
            self._hung_up = True
            self._changed.notify_all()

    def _serve(self, connection: socket.socket) -> None:
        self._send(connection, frame(JSON_PLEASE))
        while True:
            with self._changed:
                while not self._queue and not self._ending and not self._hung_up:
                    self._changed.wait()
                if self._hung_up:
                    raise ConnectionResetError("the window was closed")
                if not self._queue:
                    return
                batch = [self._queue.popleft() for _ in range(min(100, len(self._queue)))]
                self._changed.notify_all()
                unsaid, self._unsaid = self._unsaid, 0
            data = [encode(record) for record in batch]
            if unsaid:
                data.insert(0, encode(self._gap(unsaid)))
            try:
                self._send(connection, b"".join(data))
            except OSError:
                with self._changed:
                    # Nobody knows how much of it was shown: counted as not shown.
                    self.dropped += len(batch)
                    self._unsaid += len(batch) + unsaid
                raise
            self.sent += len(batch)

    def _gap(self, count: int) -> dict[str, Any]:
        text = f"{count} lines are not shown: the window did not keep up. The log files have them all."
        return {"created": self._clock(), "name": "farm", "level": "warning", "msg": text}

    def _send(self, connection: socket.socket, data: bytes) -> None:
        """Send everything, however slowly the window reads; raise `OSError` when it is gone or we end."""
        view = memoryview(data)
        while view:
            try:
                sent = connection.send(view)
                view = view[sent:]
                self._bytes += sent
            except TimeoutError:
                if self.ended.is_set():
                    raise ConnectionAbortedError("closed while the window did not read") from None
