"""The journal's own thread: writes and syncs what the control thread hands over, many records at once.

Urgent records are synced at once, together with everything that has come until then; while the disk is busy,
and for a moment after a large group, the next one gathers. Others wait for the next urgent one, but not
longer than `BEHIND_S`.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from computefarm.core.commands import JournalFailed, JournalWorks, Record
from computefarm.core.entries import Forgotten, Submitted
from computefarm.errors import FarmError

from .compaction import Closed, Compacted, compact
from .frames import HEADER_BYTES, Header
from .segments import GrowingSegment

log = logging.getLogger("computefarm.journal")

BEHIND_S = 0.05
"""Longest time between a record's arrival and its sync when nobody waits for it."""

COMPANY_S = 0.0002
"""Rest after a sync for each record in it: the more there is to do, the more goes into one sync."""

COMPANY_MAX_S = 0.004
"""The longest such rest; workers have several times that lying ready then."""

RETRY_S = 1.0
"""Between two tries to write to a disk that has failed."""

SEGMENT_BYTES = 16 * 1024 * 1024
"""A segment that has grown to this size is closed."""

SEGMENTS = 16
"""Closed segments that are kept without a compaction; restarts leave small ones."""

LOOK_S = 0.1
"""How often an idle writer looks whether a compaction has ended."""

LATER_S = 60.0
"""Between two compactions when one has failed."""


class Synced(msgspec.Struct, frozen=True, gc=False):
    """Everything up to the record with this number is on the disk."""

    number: int


Report = Synced | JournalFailed | JournalWorks


class Weight(msgspec.Struct):
    """What the closed segments hold, to tell when rewriting them is worth it."""

    closed: list[Closed]
    tasks: int = 0
    """In all segments."""
    forgotten: int = 0
    """Of those."""

    @property
    def size(self) -> int:
        """Return the closed segments' bytes."""
        return sum(segment.counts for segment in self.closed)

    def excessive(self, growing: int) -> bool:
        """Return whether more than half of it is about tasks that are forgotten."""
        if len(self.closed) > SEGMENTS:
            return True
        share = max(0, self.tasks - self.forgotten) / max(1, self.tasks)
        return self.size > 2 * share * (self.size + growing) + SEGMENT_BYTES


class Writer:
    """Appends to the segments of one folder."""

    def __init__(
        self, folder: Path, lineage: str, weight: Weight, *, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        self._folder = folder
        self._lineage = lineage
        self._weight = weight
        self._segment_bytes = segment_bytes
        self._segment: GrowingSegment | None = None
        self._queue: queue.SimpleQueue[tuple[list[Record], bool] | None] = queue.SimpleQueue()
        self._pending: list[Record] = []
        self._due = float("inf")
        """When the pending ones must be synced at the latest."""
        self._rest_until = 0.0
        self._ending = False
        self._failed = False
        self._compactor: threading.Thread | None = None
        self._compacted: Compacted | None = None
        self._compact_at = 0.0
        self.syncs = 0
        self._thread = threading.Thread(target=self._run, name="cf-journal", daemon=True)

    def start(self, report: Callable[[Report], None]) -> None:
        """Start the thread; `report` is called on it."""
        self._report = report
        self._thread.start()

    def append(self, records: list[Record], urgent: bool) -> None:
        """Take records over; never blocks. `urgent`: somebody waits for one of them."""
        self._queue.put((records, urgent))

    def close(self) -> bool:
        """Write what is left and end; return whether all of it is on the disk."""
        self._queue.put(None)
        self._thread.join()
        if self._compactor is not None:
            self._compactor.join()
        return not self._pending

    # --- the thread -----------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._work()
        except Exception as error:  # whatever it is, nobody may go on waiting without a word
            log.exception("the journal's thread has failed")
            self._report(JournalFailed(f"the journal's thread has failed: {error!r}; restart the manager"))

    def _work(self) -> None:
        self._begin_segment()
        while not self._ending:
            self._gather()
            if self._due <= time.monotonic() or self._ending:
                self._sync()
            self._tidy()
        if self._segment is not None:
            with contextlib.suppress(OSError):
                self._segment.end()

    def _gather(self) -> None:
        """Wait until something is to be done, and take all that has come until then."""
        try:
            self._take(self._queue.get(timeout=self._patience()))
            self._take_all()
        except queue.Empty:
            pass
        rest = self._rest_until - time.monotonic()
        if rest > 0 and self._due <= self._rest_until and not self._ending:
            time.sleep(rest)  # not on the queue: each hand-over would wake us
            self._take_all()

    def _take(self, item: tuple[list[Record], bool] | None) -> None:
        if item is None:
            self._ending = True
            return
        records, urgent = item
        self._pending += records
        if not self._failed:
            now = time.monotonic()
            self._due = min(self._due, now if urgent else now + BEHIND_S)

    def _take_all(self) -> None:
        with contextlib.suppress(queue.Empty):
            while not self._ending:
                self._take(self._queue.get_nowait())

    def _patience(self) -> float | None:
        if self._due < float("inf"):
            return max(0.0, self._due - time.monotonic())
        return LOOK_S if self._compactor is not None else None

    def _begin_segment(self) -> bool:
        closed = self._weight.closed
        number, before = (closed[-1].number + 1, closed[-1].counts) if closed else (1, 0)
        try:
            self._segment = GrowingSegment(self._folder, Header(number, self._lineage, before))
        except OSError as error:
            self._fail(error)
            return False
        return True

    def _sync(self) -> None:
        self._due = float("inf")
        if self._segment is None and not self._begin_segment():
            return
        assert self._segment is not None
        if self._pending:
            rest = min(COMPANY_MAX_S, COMPANY_S * len(self._pending))
            self._rest_until = time.monotonic() + rest
            try:
                self._segment.append([record.entry for record in self._pending])
            except OSError as error:
                self._segment.abandon()
                self._leave_segment()
                self._fail(error)
                return
            self.syncs += 1
            number = self._pending[-1].number
            self._weigh(self._pending)
            self._pending = []
            self._report(Synced(number))
        if self._failed:
            self._failed = False
            log.warning("the journal can be written again")
            self._report(JournalWorks())
        if self._segment.size >= self._segment_bytes and not self._ending:
            self._roll()

    def _weigh(self, records: Sequence[Record]) -> None:
        weight = self._weight
        for record in records:
            entry = record.entry
            if type(entry) is Submitted:
                weight.tasks += 1
            elif type(entry) is Forgotten:
                weight.forgotten += len(entry.keys)

    def _fail(self, error: OSError) -> None:
        """Say it once, and try again until it works."""
        self._due = time.monotonic() + RETRY_S
        if not self._failed:
            self._failed = True
            text = f"the journal in {self._folder} cannot be written: {error.strerror or error}"
            log.error("%s; nothing new is accepted until it can", text)
            self._report(JournalFailed(text))
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                self._compact()  # may make room

    def _roll(self) -> None:
        """Continue in a new segment."""
        assert self._segment is not None
        try:
            self._segment.end()
        except OSError as error:
            log.debug("segment %d has no proper end: %s", self._segment.number, error)
        self._leave_segment()
        self._begin_segment()

    def _leave_segment(self) -> None:
        """Count the present segment among the closed ones, unless it is empty: then its number is free."""
        segment, self._segment = self._segment, None
        assert segment is not None
        if segment.size > HEADER_BYTES:
            self._weight.closed.append(Closed(segment.number, segment.size))

    # --- compaction -----------------------------------------------------------------------------------

    def _tidy(self) -> None:
        """Take a finished compaction over, and start one when it is worth it."""
        if self._compactor is not None:
            if self._compactor.is_alive():
                return
            self._compactor.join()
            self._compactor = None
            self._take_over()
        growing = self._segment.size if self._segment is not None else 0
        if not self._ending and self._weight.excessive(growing) and time.monotonic() >= self._compact_at:
            self._compact()

    def _compact(self) -> None:
        if self._compactor is not None or not self._weight.closed:
            return
        closed = list(self._weight.closed)
        self._compact_at = time.monotonic() + LATER_S

        def work() -> None:
            try:
                self._compacted = compact(self._folder, closed, self._lineage)
            except FarmError as error:
                log.warning("the journal is not made smaller: %s", error)

        self._compactor = threading.Thread(target=work, name="cf-journal-compaction", daemon=True)
        self._compactor.start()

    def _take_over(self) -> None:
        compacted, self._compacted = self._compacted, None
        if compacted is None:
            return
        self._compact_at = 0.0
        weight = self._weight
        before = weight.size
        later = [segment for segment in weight.closed if segment.number > compacted.closed.number]
        weight.closed = [compacted.closed, *later]
        weight.tasks -= compacted.tasks
        weight.forgotten -= compacted.forgotten
        log.info("the journal was rewritten: %d of %d bytes still mattered", compacted.closed.counts, before)
