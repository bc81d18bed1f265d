"""What a daemon logs itself, on its way to the farm's log."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from computefarm.messages import LogRecord

from .clock import FarmClock

KEPT = 1000
"""Records that wait for a manager; more is left out, and counted."""

RATE = 50.0
"""Records a second that are sent, in the long run."""

TOGETHER = 200
"""Records in one message."""

LONGEST = 8192
"""Characters of a record; stderr has the rest."""


class OwnRecords(logging.Handler):
    """Collects this process's records until they are taken. Any thread may log."""

    def __init__(self, level: int = logging.INFO) -> None:
        super().__init__(level)
        self._waiting: deque[logging.LogRecord] = deque()
        self._left_out = 0
        self._allowed = float(KEPT)
        self._at: float | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record; never waits."""
        if len(self._waiting) >= KEPT:
            self._left_out += 1
        else:
            self._waiting.append(record)

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def take(self, now: float, clock: FarmClock) -> tuple[LogRecord, ...]:
        """Return what may be sent at `now`, with the farm's time; empty when there is nothing."""
        passed = 0.0 if self._at is None else now - self._at
        self._at = now
        self._allowed = min(float(KEPT), self._allowed + passed * RATE)
        taken: list[LogRecord] = []
        while self._waiting and self._allowed >= 1.0 and len(taken) < TOGETHER:
            taken.append(record_of(self._waiting.popleft(), clock.offset_s()))
            self._allowed -= 1.0
        if taken and self._left_out:
            count, self._left_out = self._left_out, 0
            text = f"{count} records are missing here: there were too many; see this process's stderr"
            taken.append(LogRecord(taken[-1].created_at, "warning", text))
        return tuple(taken)


def own_records() -> OwnRecords:
    """Begin to collect what this process logs."""
    handler = OwnRecords()
    logging.getLogger().addHandler(handler)
    return handler


class Direct(logging.Handler):
    """Hands each of this process's records to the farm's log at once: the manager's own."""

    def __init__(self, keep: Callable[[tuple[LogRecord, ...]], None]) -> None:
        super().__init__(logging.INFO)
        self._keep = keep

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record."""
        self._keep((record_of(record, 0.0),))


def record_of(record: logging.LogRecord, offset_s: float) -> LogRecord:
    """Return a record in words that travel."""
    try:
        text = record.getMessage()
    except Exception:  # a wrong format in some library must not end a daemon
        text = str(record.msg)
    if record.exc_info and record.exc_info[1] is not None:
        text += f": {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
    level = record.levelname.lower()
    return LogRecord(record.created + offset_s, level[:20], text[:LONGEST])
