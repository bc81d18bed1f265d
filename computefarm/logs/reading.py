"""What of a farm's log somebody may see and wants to see, page by page."""

from __future__ import annotations

from pathlib import Path

import msgspec

from computefarm.errors import UsageError

from .jsonl import START, Cursor, Filter, Page, parse_cursor, read_page
from .parsers import LEVELS
from .runs import RunFacts, Runs


class Wish(msgspec.Struct, frozen=True):
    """Which lines; empty fields mean all."""

    run: str = ""
    task: str = ""
    host: str = ""
    level: str = ""
    """This level and worse."""


class Reading(msgspec.Struct, frozen=True):
    """One page, and the run it is of when one was asked for."""

    page: Page
    run: RunFacts | None


def wanted(wish: Wish, labels: tuple[str, ...] | None = None) -> Filter:
    """Return the filter for a wish; `labels` are the runs to choose from, None means all.

    Raises `UsageError` for a level that there is not.
    """
    groups: list[tuple[bytes, ...]] = []
    encode = msgspec.json.encode
    if labels is not None:
        groups.append(tuple(b'"name":' + encode(f"farm.{label}.")[:-1] for label in labels))
    if wish.task:
        groups.append((b'"task":' + encode(wish.task),))
    if wish.host:
        groups.append((b'"host":' + encode(wish.host),))
    if wish.level:
        if wish.level not in LEVELS:
            raise UsageError(f"there is no level {wish.level!r}; there are: {', '.join(LEVELS)}")
        worse = LEVELS[LEVELS.index(wish.level) :]
        groups.append(tuple(b'"level":' + encode(level) for level in worse))
    return Filter(tuple(groups))


def read_farm_log(
    path: Path, runs: Runs, end: Cursor, wish: Wish, cursor: str = "", owner: str | None = None
) -> Reading:
    """Return the next page of a farm's log; only of the runs of `owner`, unless that is None.

    Raises `UsageError` for a run, level or cursor that there is not.
    """
    facts = runs.find(wish.run, owner) if wish.run else None
    chosen = (facts,) if facts is not None else (None if owner is None else runs.of(owner))
    labels = None if chosen is None else tuple(facts.label for facts in chosen)
    look = wanted(wish, labels)
    if cursor == "end":
        return Reading(Page((), end, True), facts)
    if labels == ():
        return Reading(Page((), end, True), facts)
    if cursor:
        try:
            place = parse_cursor(cursor)
        except ValueError as error:
            raise UsageError(str(error)) from error
    else:
        place = min((facts.begins for facts in chosen), default=START) if chosen else START
    return Reading(read_page(path, place, look), facts)
