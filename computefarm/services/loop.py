"""One thread that waits once for everything: sockets, file descriptors and deadlines.

Services register what they wait on and are called back; at the end of each turn every service flushes,
so that all messages of a turn leave in one frame per peer.
A plain poll loop instead of asyncio: it costs a quarter per message (docs/explanation/performance.md).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Protocol

import zmq

Source = zmq.Socket[bytes] | int
Callback = Callable[[], None]

LATE_S = 1.0
"""A turn or a sleep that takes so much longer than it should: this process was stopped, or its machine slept.

That time is nobody's silence, so the loop's clock leaves the rest of it out (after Ctrl-Z and `fg`
an embedded farm would else take its own parts for dead).
"""

IDLE_S = 5.0
"""Longest sleep without a deadline: a bound on how long a lost wake-up can hurt."""


class Service(Protocol):
    """A part of the loop."""

    def attach(self, loop: Loop) -> None:
        """Register sockets and start what runs beside the loop."""

    def tick(self, now: float) -> None:
        """Do what is due at `now` (monotonic seconds)."""

    def next_deadline(self) -> float | None:
        """Return when `tick` is wanted next, or None."""

    def pace(self) -> float:
        """Return how many seconds may pass between two turns without anybody waiting; 0 for none.

        A loop that has work for everybody turns no more often than this: then each turn, each frame, each
        system call and each wake-up of another process carries many messages instead of one.
        """

    def flush(self) -> None:
        """Send what this turn has gathered."""

    def close(self) -> None:
        """Let go of everything; called once, after the last turn."""


class Loop:
    """Runs services until told to stop."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._raw = clock
        self._base = self._since = clock()
        self._sleep = sleep
        self._poller = zmq.Poller()
        self._callbacks: dict[Source, Callback] = {}
        self._services: list[Service] = []
        self._stopped = False
        self._turned_at = 0.0

    def clock(self) -> float:
        """Return monotonic seconds, without the time in which this process did not run."""
        passed = self._raw() - self._since
        return self._base + (passed if passed < LATE_S else LATE_S)

    def _pass(self, expected_s: float) -> None:
        """Let the time pass that has gone by since the last call, which should not be longer than this."""
        raw = self._raw()
        self._base += min(raw - self._since, expected_s + LATE_S)
        self._since = raw

    def add(self, service: Service) -> None:
        """Make `service` part of the loop."""
        self._services.append(service)
        service.attach(self)

    def remove(self, service: Service) -> None:
        """Close `service` and forget it."""
        self._services.remove(service)
        service.close()

    def watch(self, source: Source, callback: Callback) -> None:
        """Call `callback` in every turn in which `source` is readable."""
        self._callbacks[source] = callback
        self._poller.register(source, zmq.POLLIN)

    def unwatch(self, source: Source) -> None:
        """Stop waiting on `source`."""
        if self._callbacks.pop(source, None) is not None:
            self._poller.unregister(source)

    def stop(self) -> None:
        """Leave `run` after this turn."""
        self._stopped = True

    def run(self) -> None:
        """Turn until `stop`, then close every service, the last added first."""
        try:
            while not self._stopped:
                self.turn()
        finally:
            for service in reversed(self._services):
                service.close()
            self._services.clear()

    def turn(self) -> None:
        """Wait for one event or deadline, and serve all that is ready."""
        self._pause()
        for source, _ in self._wait():
            callback = self._callbacks.get(source)
            if callback is not None:
                callback()
        for service in self._services:
            deadline = service.next_deadline()
            # The clock is looked at after: whoever says `clock()` means now, and would never be served.
            if deadline is not None and deadline <= (now := self.clock()):
                service.tick(now)
        for service in self._services:
            service.flush()

    def _pause(self) -> None:
        pace = min((service.pace() for service in self._services), default=0.0)
        if pace > 0:
            left = self._turned_at + pace - self.clock()
            if 0 < left <= pace:
                self._sleep(left)
        self._pass(max(pace, 0.0))
        self._turned_at = self.clock()

    def _wait(self) -> list[tuple[Source, int]]:
        timeout = IDLE_S
        now = self.clock()
        for service in self._services:
            deadline = service.next_deadline()
            if deadline is not None and deadline - now < timeout:
                timeout = max(0.0, deadline - now)
        # Rounded up, or the last fraction of a millisecond would be spent spinning.
        milliseconds = int(timeout * 1000 + 0.999)
        self._pass(0.0)
        events: list[tuple[Source, int]] = []
        with contextlib.suppress(InterruptedError):
            events = self._poller.poll(milliseconds)
        self._pass(timeout)
        return events
