"""Ctrl-C and SIGTERM: the first stops the run cleanly, the second at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from .local import leave_at_once

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 143}


class Terminated(BaseException):
    """SIGTERM came while an action ran on the main thread."""


class Stopping:
    """Signal handlers for the time of one run."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._before: dict[int, Any] = {}
        self.code = 0
        """130 or 143 once a signal came."""
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

    def _caught(self, number: int, frame: FrameType | None) -> None:
        code = EXIT_CODES[signal.Signals(number)]
        if self.code:
            leave_at_once(max(self.code, code))
        self.code = code
        self._wake()
        if self.raising:
            self.raising = False
            raise KeyboardInterrupt if number == signal.SIGINT else Terminated
