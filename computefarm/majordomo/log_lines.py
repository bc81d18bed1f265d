"""The lines of a run, or of a farm, one after the other: from the files here, or through the manager."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from computefarm.logs.jsonl import START, read_page
from computefarm.logs.reading import Wish, wanted
from computefarm.logs.records import Record
from computefarm.messages import LogPage, ReadLog

LOOK_S = 0.1
"""How often a file is looked at for new lines."""

WAITING = 1000
"""Lines that are read before they are taken."""

_record = msgspec.json.Decoder(dict)


class Manager(Protocol):
    """A farm that has a log."""

    def read_log(self, wish: ReadLog) -> LogPage:
        """Return the next page."""


def missing(count: int) -> str:
    """Return what is said where the log was too large to be kept."""
    return "the oldest lines are gone: the log was too large (farm-log-limit)" if count else ""


def from_file(
    path: Path,
    wish: Wish,
    *,
    going: Callable[[], bool],
    say: Callable[[str], object],
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Record]:
    """Yield the lines of a run of this machine, as long as it is `going`; then it ends."""
    look, cursor = wanted(wish), START
    while True:
        more = going()  # asked before reading: what was printed before the end has been written by then
        page = read_page(path, cursor, look)
        if page.lost:
            say(missing(page.lost))
        yield from map(decode, page.lines)
        cursor = page.cursor
        if page.at_end and not page.lines:
            if not more:
                return
            sleep(LOOK_S)


def from_farm(
    manager: Manager, wish: Wish, *, follow: bool, say: Callable[[str], object]
) -> Iterator[Record]:
    """Yield the lines that the manager keeps; with `follow`, also those to come, until the run has ended.

    Without a run there is no end to follow, and it begins with what comes next.
    """
    cursor = "end" if follow and not wish.run else ""
    run, first = wish.run, True
    while True:
        asked = ReadLog(0, run, wish.task, wish.host, wish.level, cursor, wait=follow and not first)
        page = manager.read_log(asked)
        if page.lost:
            say(missing(page.lost))
        yield from map(decode, page.lines)
        run, cursor, first = page.run or run, page.cursor, False
        if page.at_end and not page.lines and not (follow and page.going):
            return


def while_wanted(records: Iterator[Record], wanted: Callable[[], bool]) -> Iterator[Record]:
    """Yield what comes as long as it is `wanted`, which is looked at even while nothing comes."""
    lines: queue.Queue[Record | BaseException | None] = queue.Queue(WAITING)

    def read() -> None:
        end: BaseException | None = None
        try:
            for record in records:
                lines.put(record)
        except Exception as error:  # whatever it is, it is raised where the lines are taken
            end = error
        lines.put(end)

    threading.Thread(target=read, name="log-reader", daemon=True).start()
    while wanted():
        try:
            item = lines.get(timeout=LOOK_S)
        except queue.Empty:
            continue
        if isinstance(item, BaseException):
            raise item
        if item is None:
            return
        yield item


def decode(line: bytes) -> Record:
    """Return a line as a record; one that is damaged as plain text."""
    try:
        record = _record.decode(line)
    except msgspec.MsgspecError:
        record = {"level": "warning", "msg": line.decode("utf-8", "replace")}
    for field, default in DEFAULTS.items():
        record.setdefault(field, default)
    return record


DEFAULTS: Record = {
    "created": 0.0, "level": "info", "name": "farm", "msg": "", "task": "", "attempt": 0, "host": "",
    "stream": "", "seq": 0,
}  # fmt: skip
