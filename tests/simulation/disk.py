"""The manager's disk: a journal of which only a part is known to survive."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from computefarm.core.commands import Record
from computefarm.core.entries import Cancelled, Ended, Forgotten, JournalEntry, Started, Submitted

if TYPE_CHECKING:
    from .world import World

BATCH_S = 0.05
"""How long a record that nobody waits for may wait for others."""


class Disk:
    """Entries in order and a mark up to which they are synced; syncs take time and may fail."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random = world.stream("disk")
        self.entries: list[JournalEntry] = []
        self.synced = 0
        self.base = 0
        """Entries that were there when the present process started."""
        self.full = False
        self.slow = False
        self.process = 0
        """Counts the lives of the manager: a sync that was begun by an earlier one does nothing."""
        self.syncing = False
        self.on_synced: Callable[[int], None] = lambda number: None
        self.on_failed: Callable[[], None] = lambda: None

    def append(self, record: Record) -> None:
        """Write without syncing; sync soon when somebody waits for it."""
        self.entries.append(record.entry)
        assert self.base + record.number == len(self.entries), "the records are not numbered one by one"
        if record.urgent:
            self.sync()
        elif len(self.entries) == self.synced + 1:
            process = self.process
            self.world.after(BATCH_S, lambda: process == self.process and self.sync())

    def sync(self) -> None:
        """Begin a sync of all that is written, unless one is under way."""
        if self.syncing or self.synced == len(self.entries):
            return
        self.syncing = True
        mark, process = len(self.entries), self.process
        slow = self.slow or self.world.faults.happens("slow-disk", 0.1)
        took = self.random.uniform(0.3, 4.0) if slow else self.random.expovariate(1000)
        self.world.after(took, lambda: process == self.process and self.done(mark))

    def done(self, mark: int) -> None:
        """A sync has ended; another follows when more was written meanwhile."""
        self.syncing = False
        if self.full:
            self.on_failed()
            return
        self.synced = mark
        self.on_synced(mark - self.base)
        self.sync()

    def crash(self) -> list[JournalEntry]:
        """Lose what was not synced, or the end of it; return the entries that were lost."""
        written = len(self.entries)
        kept = self.random.randint(self.synced, written) if self.random.random() < 0.5 else self.synced
        lost = self.entries[kept:]
        del self.entries[kept:]
        self.process += 1
        self.syncing = self.full = False
        return lost

    def open(self) -> list[JournalEntry]:
        """Return what survived, for a new process; now and then without the dead weight."""
        if self.random.random() < 0.5:
            self.entries = compacted(self.entries)
        self.synced = self.base = len(self.entries)
        return list(self.entries)

    def owed(self) -> list[int]:
        """Return the tasks that the journal says somebody is still owed."""
        return sorted({entry.key for entry in compacted(self.entries) if isinstance(entry, Submitted)})


def keys_of(entry: JournalEntry) -> tuple[int, ...]:
    """Return the tasks an entry is about."""
    if isinstance(entry, Submitted | Started | Ended):
        return (entry.key,)
    return entry.keys if isinstance(entry, Cancelled | Forgotten) else ()


def compacted(entries: list[JournalEntry]) -> list[JournalEntry]:
    """Return the entries about tasks that are not forgotten, and the highest key that was ever given."""
    dead: set[int] = set()
    for entry in entries:
        if type(entry) is Forgotten:
            dead.update(entry.keys)
    about = [keys_of(entry) for entry in entries]
    highest = max((key for keys in about for key in keys), default=0)
    left = [entry for entry, keys in zip(entries, about, strict=True) if not dead.issuperset(keys)]
    return [*left, Forgotten((highest,))] if highest in dead else left
