"""What the embedded farm's manager and worker, and our own end of a farm, log in this process.

Started by themselves they print it; here it would tear the display, so it goes the way of a run's events.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any

import msgspec

from computefarm.home import hostname
from computefarm.logs.records import Record, logger_name

ROOT = "computefarm"
LEVELS = {"WARN": "warning", "FATAL": "critical"}


class Overheard(msgspec.Struct, frozen=True):
    """A daemon's log record, as lines of output are."""

    record: Record
    text: str
    """The same for people."""


class Overhearing(logging.Handler):
    """Hands warnings and errors to a sink for the length of a `with` block, from whatever thread."""

    def __init__(self, run: str, sink: Callable[[Overheard], Any]) -> None:
        super().__init__(logging.WARNING)
        self._run = run
        self._sink = sink
        self._host = hostname()
        self._seq = 0

    def __enter__(self) -> None:
        logging.getLogger(ROOT).addHandler(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.getLogger(ROOT).removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Pass it on; the handler's lock keeps the numbers in order."""
        program = record.name.removeprefix(f"{ROOT}.")
        told: Record = {
            "created": record.created,
            "level": LEVELS.get(record.levelname, record.levelname.lower()),
            "name": logger_name(self._run, self._host, program),
            "msg": record.getMessage(),
            "task": "",
            "attempt": 0,
            "host": self._host,
            "stream": "log",
            "seq": self._seq,
        }
        if record.exc_info:
            told["exc_text"] = logging.Formatter().formatException(record.exc_info)
        self._seq += 1
        self._sink(Overheard(told, f"{program}: {told['msg']}"))
