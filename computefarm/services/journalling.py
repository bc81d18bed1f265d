"""The journal's side of the TaskManager's loop: hands records over, holds back what must not be said yet."""

from __future__ import annotations

import heapq
import logging
import time
from collections.abc import Callable, Iterable

from computefarm.core.commands import (
    Command,
    JournalFailed,
    JournalWorks,
    PeerId,
    Record,
    Send,
)
from computefarm.core.entries import Ended, JournalEntry
from computefarm.journal.tasks import TaskJournal, take_stock
from computefarm.journal.writer import BEHIND_S, Report, Synced
from computefarm.messages import Halt, Run, Settled
from computefarm.transport.mailbox import Mailbox

from .loop import Loop

log = logging.getLogger("computefarm.taskmanager")

NEVER = float("inf")

MOST = 100_000
"""Messages held back; a disk that fails for hours must not make workers' repetitions pile up here."""


class Journalling:
    """What was decided is written down by a thread; what relies on that waits here until it is."""

    def __init__(
        self,
        journal: TaskJournal,
        *,
        say: Callable[[Send], None],
        learn: Callable[[JournalFailed | JournalWorks], None],
    ) -> None:
        self._journal = journal
        self._say = say
        self._learn = learn
        self._reports: Mailbox[Report] = Mailbox()
        self._records: list[Record] = []
        self._urgent = False
        self._due = NEVER
        """When the records are handed over although nobody waits for them."""
        self._held: list[tuple[int, int, Send]] = []
        """A heap: by the record that must be synced first, then as they came."""
        self._count = 0
        self._synced = 0
        self._last = 0
        """The number of the last record."""
        self._works = True

    def attach(self, loop: Loop) -> None:
        """Start the journal's thread."""
        self._clock = loop.clock
        loop.watch(self._reports.fileno(), self._reported)
        self._journal.start(self._reports.put)

    def restore(self, restore: Callable[[Iterable[JournalEntry]], list[Command]]) -> list[Command]:
        """Give the journal's entries to the core; return its commands."""
        for note in self._journal.notes:
            log.warning("%s", note)
        began = time.monotonic()
        entries, self._journal.entries = self._journal.entries, []
        stock = take_stock(entries)
        commands = restore(entries)
        took = time.monotonic() - began
        if not self._journal.fresh:
            log.info(
                "from the journal: %d tasks (%d waiting, %d running, %d ended and not fetched), %.2f s",
                stock.tasks, stock.waiting, stock.running, stock.owed, took,
            )  # fmt: skip
        return commands

    def record(self, record: Record) -> None:
        """Have this written down."""
        self._records.append(record)
        self._last = record.number
        if record.urgent and type(record.entry) is not Ended:
            # For an end only its worker waits, which has all the time: the next group will do.
            self._urgent = True

    def hold(self, command: Send) -> bool:
        """Keep `command` until it may be said; return False when that is now.

        An attempt is started only when that is written down: a manager that is started again then knows who
        has it, and waits for that worker instead of giving the task to the first one that comes. But a disk
        that fails stops nothing that was accepted.
        """
        after = command.after
        if isinstance(command.message, Run | Halt) and self._works and self._last > self._synced:
            after = self._last
            self._urgent = bool(self._records)  # else the journal's thread has all of it already
        if after <= self._synced:
            return False
        if len(self._held) >= MOST and isinstance(command.message, Settled):
            return True  # not said at all: its worker will ask again
        self._count += 1
        heapq.heappush(self._held, (after, self._count, command))
        return True

    @property
    def held(self) -> int:
        """Return how many messages wait."""
        return len(self._held)

    def forget(self, peer: PeerId) -> None:
        """Drop what waits for a peer: it is told anew what still matters."""
        kept = [item for item in self._held if item[2].peer != peer]
        if len(kept) < len(self._held):
            heapq.heapify(kept)
            self._held = kept

    def next_deadline(self) -> float:
        """Return when to flush although nothing has happened."""
        return self._due

    def flush(self) -> None:
        """Hand over what this turn has brought, if somebody waits for it; else it waits for company.

        Waking the journal's thread costs more than a record, and it would compete with what is said now.
        """
        if not self._urgent and self._records:
            now = self._clock()
            self._due = min(self._due, now + BEHIND_S)
            self._urgent = now >= self._due
        if self._urgent:
            self._hand_over()

    def _hand_over(self) -> None:
        self._journal.append(self._records, True)
        self._records = []
        self._urgent = False
        self._due = NEVER

    def close(self, loop: Loop) -> None:
        """Write everything, and say what waited for that."""
        if self._records or self._urgent:
            self._hand_over()
        if not self._journal.close():
            log.error("the journal could not be written to its end: what was decided last is lost")
        loop.unwatch(self._reports.fileno())
        for report in self._reports.drain():
            if isinstance(report, Synced):
                self._release(report.number)
        self._reports.close()

    def _reported(self) -> None:
        for report in self._reports.drain():
            match report:
                case Synced(number=number):
                    self._release(number)
                case JournalFailed() | JournalWorks():
                    self._works = isinstance(report, JournalWorks)
                    self._learn(report)
                    if not self._works:
                        self._let_go()

    def _let_go(self) -> None:
        """Say what waits for nothing but the word that it was begun."""
        held, self._held = sorted(self._held), []
        for after, count, command in held:
            if command.after > self._synced:
                self._held.append((after, count, command))
            else:
                self._say(command)

    def _release(self, number: int) -> None:
        self._synced = number
        while self._held and self._held[0][0] <= number:
            self._say(heapq.heappop(self._held)[2])
