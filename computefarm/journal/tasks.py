"""The TaskManager's journal: what was accepted and what was decided, so that it survives the manager."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from pathlib import Path

import msgspec

from computefarm.core.commands import Record
from computefarm.core.entries import Cancelled, Ended, Forgotten, JournalEntry, Started, Submitted
from computefarm.errors import FarmError
from computefarm.home import Home

from .compaction import Closed
from .folder import FolderLock, remove_leftovers
from .reading import Contents, survey, walk_entries
from .writer import SEGMENT_BYTES, Report, Weight, Writer

_decoder: msgspec.msgpack.Decoder[JournalEntry] = msgspec.msgpack.Decoder(JournalEntry)


class JournalDamaged(FarmError):
    """The journal is not as it was written; starting without what is lost must be a person's decision."""


def journal_folder(home: Home, farm: str) -> Path:
    """Return where the journal of a farm lives."""
    return home.state / "journal" / farm


def living_entries(contents: Contents) -> list[JournalEntry]:
    """Return the entries that still matter, in order; a last `Forgotten` tells the highest number ever used.

    Raises `JournalDamaged` for an entry that this version cannot read.
    """
    tally = contents.tally
    found: list[JournalEntry] = []

    def visit(body: bytes) -> None:
        if tally.matters(body):
            try:
                found.append(_decoder.decode(body))
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise JournalDamaged(f"{contents.folder}: a record cannot be read: {error}") from error

    walk_entries(contents, visit)
    if tally.highest in tally.forgotten:
        found.append(Forgotten((tally.highest,)))
    return found


class Stock(msgspec.Struct, frozen=True):
    """How many tasks a journal's entries leave in which state."""

    waiting: int
    running: int
    owed: int
    """Ended, and their results not taken yet."""

    @property
    def tasks(self) -> int:
        """Return how many there are."""
        return self.waiting + self.running + self.owed


def take_stock(entries: list[JournalEntry]) -> Stock:
    """Count the tasks in `living_entries`."""
    submitted = {entry.key for entry in entries if isinstance(entry, Submitted)}
    cancelled = {key for entry in entries if isinstance(entry, Cancelled) for key in entry.keys}
    ended = {entry.key for entry in entries if isinstance(entry, Ended)} & submitted
    started = {entry.key for entry in entries if isinstance(entry, Started)} & submitted
    running = started - ended - cancelled
    return Stock(len(submitted - running - ended), len(running), len(ended))


class TaskJournal:
    """One farm's journal, open for one manager."""

    def __init__(self, folder: Path, farm: str, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        """Lock and read it, or make it.

        Raises `Refused` when another process uses it, `JournalDamaged` when it is not as it was written.
        """
        self.folder = folder
        self._lock = FolderLock(folder)
        try:
            remove_leftovers(folder)
            contents = survey(folder)
            if contents.damage:
                raise _damaged(contents, farm)
            self.entries = living_entries(contents)
            """What a restarted manager must know; to be emptied by who has taken it."""
            self.notes = contents.notes
            """For people: what was dropped."""
        except BaseException:
            self._lock.close()
            raise
        for path in contents.void:
            with contextlib.suppress(OSError):  # they do not count
                path.unlink()
        self.fresh = not contents.segments
        self.lineage = contents.lineage or secrets.token_hex(8)
        """Names this journal; another one has another."""
        closed = [Closed(segment.number, segment.counts) for segment in contents.segments]
        weight = Weight(closed, contents.tally.submitted, len(contents.tally.forgotten))
        self._writer = Writer(folder, self.lineage, weight, segment_bytes=segment_bytes)
        self._started = False

    def start(self, report: Callable[[Report], None]) -> None:
        """Begin to write; `report` is called on the writer's thread."""
        self._started = True
        self._writer.start(report)

    def append(self, records: list[Record], urgent: bool) -> None:
        """Take records over; never blocks. `urgent`: somebody waits for one of them."""
        self._writer.append(records, urgent)

    @property
    def syncs(self) -> int:
        """Return how often the disk was waited for."""
        return self._writer.syncs

    def close(self) -> bool:
        """Write what is left, and let go; return whether everything is on the disk."""
        try:
            return self._writer.close() if self._started else True
        finally:
            self._started = False
            self._lock.close()


def _damaged(contents: Contents, farm: str) -> JournalDamaged:
    more = len(contents.damage) - 1
    text = f"the journal of farm {farm!r} is damaged: {contents.damage[0]}"
    if more:
        text += f" (and {more} more)"
    return JournalDamaged(text, hint=f"cf-taskmanager fsck --name {farm}    # explains it; --repair mends it")
