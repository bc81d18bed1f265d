"""Ctrl-C, SIGTERM and `majordomo cancel`: the first stops the run cleanly, a second signal at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from .local import leave_at_once

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 143}

CANCELLED = 1
"""The exit code of a run that somebody has cancelled: its tasks did not succeed, and nobody killed it."""


HURRY_S = 0.5
"""How long a process that is told twice to end may still take to tell the farm."""


class Terminated(BaseException):
    """SIGTERM came while an action ran on the main thread."""


class Stopping:
    """Signal handlers for the time of one run."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self.hurry: Callable[[], None] = lambda: None
        """Called by a second signal, on a thread of its own, for at most `HURRY_S`."""
        self._before: dict[int, Any] = {}
        self.code = 0
        """130 or 143 once a signal came, 1 once the run was cancelled."""
        self.reason = ""
        """Why, for people."""
        self.look: Callable[[], None] = lambda: None
        """Called when SIGTERM comes: it may be what hurries a request that could not be seen otherwise."""
        self.raising = False
        """While an action runs on the main thread a signal ends it as an exception, as under doit."""

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in EXIT_CODES:
                # An ignored signal (nohup) stays ignored.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._caught)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def cancel(self, reason: str) -> None:
        """Stop the run because somebody asked for it."""
        if not self.code:
            self.code, self.reason = CANCELLED, reason

    def _caught(self, number: int, frame: FrameType | None) -> None:
        code = EXIT_CODES[signal.Signals(number)]
        if self.code:
            # On a thread, because this one may hold any lock at this moment.
            hurrying = threading.Thread(target=self.hurry, daemon=True)
            hurrying.start()
            hurrying.join(HURRY_S)
            leave_at_once(max(self.code, code))
        if number == signal.SIGTERM:
            self.look()
        if not self.code:
            self.code, self.reason = code, "interrupted" if code == 130 else "terminated"
        self._wake()
        if self.raising:
            self.raising = False
            raise KeyboardInterrupt if number == signal.SIGINT else Terminated
