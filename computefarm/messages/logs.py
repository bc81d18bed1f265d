"""Lines of logs, and what time it is elsewhere."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from .base import Count, Message, Short


class LogRecord(Message, frozen=True):
    """One line of a daemon's own log."""

    created_at: float
    level: Short
    """`debug`, `info`, `warning`, `error` or `critical`."""
    text: Annotated[str, Meta(max_length=65_536)]


class Reported(Message, frozen=True, tag="reported"):
    """What a worker or monitor has logged."""

    program: Short
    """`worker` or `monitor`."""
    records: Annotated[tuple[LogRecord, ...], Meta(max_length=1000)]


class ReadLog(Message, frozen=True, tag="read-log"):
    """Lines of the farm's log, please; answered by one `LogPage`. A client is shown its own runs' only."""

    number: int
    run: Short = ""
    """A name, a beginning of one, or `last`; empty means all that the asker may see."""
    task: str = ""
    host: Short = ""
    level: Short = ""
    """This level and worse; empty means all."""
    cursor: Short = ""
    """Of the last page; empty begins with the oldest line, `end` with the next one."""
    wait: bool = False
    """Answer only when there is something to tell, or the run has ended."""


class LogPage(Message, frozen=True, tag="log-page"):
    """Some lines of the log, and where to go on."""

    number: int
    lines: tuple[bytes, ...]
    """JSON objects, one per line."""
    cursor: str
    at_end: bool
    """There are no more lines yet."""
    going: bool
    """The run asked for is still going on, or no run was asked for."""
    lost: Count = 0
    """Bytes of the log that were removed, for its size, before they could be read."""
    fault: str = ""
    """Why there is nothing to read, for people."""
    run: str = ""
    """The run that was meant by `last` or by a beginning of its name."""


class ReadOutput(Message, frozen=True, tag="read-output"):
    """All that an attempt has printed, please, as its worker keeps it; answered by one `OutputPage`.

    From a viewer or client to the manager, which asks the workers of that host. A client is shown its own
    runs' only.
    """

    number: int
    run: Short
    task: str
    attempt: int
    host: Short
    """The name of the machine that it ran on."""
    cursor: Short = ""
    """Of the last page; empty begins."""


class OutputPage(Message, frozen=True, tag="output-page"):
    """Some of what an attempt has printed, and where to go on."""

    number: int
    data: Annotated[bytes, Meta(max_length=1 << 20)] = b""
    cursor: Short = ""
    """Empty when this is the end."""
    left_out: Count = 0
    """Bytes before `data` that were too much to be kept."""
    fault: Annotated[str, Meta(max_length=4096)] = ""
    """Why there is nothing to read, for people."""


class AskTime(Message, frozen=True, tag="ask-time"):
    """What time is it at the manager?"""

    asked_s: float
    """On the asker's own clock, given back unchanged."""


class Time(Message, frozen=True, tag="time"):
    """The manager's wall clock, as it took the question."""

    asked_s: float
    at: float
