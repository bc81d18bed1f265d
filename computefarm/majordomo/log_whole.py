"""All that a task printed: page by page, from a file here or from its worker through the manager."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from computefarm.errors import FarmError
from computefarm.logs.kept_output import Page
from computefarm.logs.reading import Wish
from computefarm.messages import LogPage, OutputPage, ReadLog, ReadOutput

from .log_lines import decode

OUTPUT = "output"
"""Where a worker of this home keeps outputs, in the state folder."""

EXPIRED = "all of it was kept for a while only (log-hold)"

CUT = re.compile(r"\[\.\.\. [^\]]*left out[^\]]*\]")
"""What stands in a log in the place of what was left out."""


class Manager(Protocol):
    """A farm that has a log, and workers."""

    def read_log(self, wish: ReadLog) -> LogPage:
        """Return the next page of its log."""

    def read_output(self, wish: ReadOutput) -> OutputPage:
        """Return the next page of an attempt's output."""


class Attempt(NamedTuple):
    """The last attempt of a task that has printed something."""

    asked: ReadOutput
    cut: bool
    """The farm's log has not all of it."""


def last_attempt(manager: Manager, wish: Wish) -> Attempt | None:
    """Return what the farm's log knows of a task's last attempt; None when it has no line of it."""
    run, cursor = wish.run, ""
    found: Attempt | None = None
    while True:
        page = manager.read_log(ReadLog(0, run, wish.task, "", "", cursor))
        run, cursor = page.run or run, page.cursor
        for record in map(decode, page.lines):
            if found is None or found.asked.attempt != record["attempt"]:
                asked = ReadOutput(0, run, wish.task, record["attempt"], record["host"])
                found = Attempt(asked, page.lost > 0)
            if CUT.search(record["msg"]):
                found = found._replace(cut=True)
        if page.at_end and not page.lines:
            return found


def pages_of(manager: Manager, asked: ReadOutput) -> Callable[[str], Page]:
    """Return what reads the pages of an output through the manager, one after the other."""

    def read(cursor: str) -> Page:
        page = manager.read_output(msgspec.structs.replace(asked, cursor=cursor))
        if page.fault:
            how = "; what was printed above is not all" if cursor else ""
            hint = f"majordomo status    # is a worker on {asked.host} connected?"
            if "no such file" in page.fault:
                page = msgspec.structs.replace(page, fault=f"{EXPIRED}: {page.fault}")
                hint = f"majordomo logs {asked.task}    # what was kept of it"
            raise FarmError(f"{page.fault}{how}", hint=hint)
        return Page(page.data, page.cursor, page.left_out)

    return read


def write_pages(read: Callable[[str], Page], say: Callable[[str], object]) -> None:
    """Write an output to stdout as it comes, and say where something is missing."""
    cursor, first = "", True
    while cursor or first:
        page = read(cursor)
        cursor, first = page.cursor, False
        if page.left_out:
            sys.stdout.flush()
            say(f"{page.left_out:,} bytes are missing here: more than its worker keeps (log-limit)")
        sys.stdout.buffer.write(page.data)
    sys.stdout.flush()


def is_whole(path: Path) -> bool:
    """Return whether a task's log has all that it printed."""
    try:
        return CUT.search(path.read_text(encoding="utf-8", errors="replace")) is None
    except OSError:
        return True  # printing it says what is wrong with it
