"""From the journal back to the tables, after the manager was started again.

A worker that held attempts is entered as a silent one with these in hand: when it registers they are
compared as after any other cut, and when it does not come they are given to others.
A client's session is entered without its client, and ends like any other that is not fetched.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

import msgspec

from computefarm.errors import ProtocolError
from computefarm.messages import Done, Outcome, TaskKey

from .admission import Admission
from .beats import ADOPT_BEATS, RETURN_BEATS
from .commands import Pin
from .dispatch import Dispatch
from .endings import Endings
from .entries import Cancelled, Ended, Forgotten, JournalEntry, Started, Submitted
from .state import Host, Session, Task, TaskState, Worker
from .tables import Tables
from .wants import Wants

RECENT_S = 60.0
"""A worker that was sent nothing for so long before the end is not waited for."""


class Remembered(msgspec.Struct, gc=False):
    """What the journal says of one task that has not been forgotten."""

    submitted: Submitted
    since: int
    """The manager that gave the key, counted from 1; 0 when that is not known."""
    started: Started | None = None
    over: bool = False
    """The attempt has ended."""
    done: Done | None = None
    cancelled: str | None = None


class Exchanges:
    """Clients whose tasks shared a run and who have exchanged their entries (see `Withdrawals.detach`).

    Two records tell of that, and the second may be lost with the journal's tail: so the first does it all.
    """

    def __init__(self, remembered: dict[TaskKey, Remembered]) -> None:
        self._remembered = remembered
        self._keys: dict[tuple[str, int], TaskKey] | None = None
        """By session and number; made when it is needed, for most journals tell of no exchange."""

    def entered(self, entry: Submitted) -> None:
        """A key is new."""
        if self._keys is not None:
            self._keys[entry.session, entry.spec.task] = entry.key

    def submitted_again(self, known: Remembered, entry: Submitted) -> None:
        """A known key stands for another client's task from now on, and that one's key for this one's."""
        keys = self._keys
        if keys is None:
            keys = self._keys = {
                (each.submitted.session, each.submitted.spec.task): key
                for key, each in self._remembered.items()
            }
        before = known.submitted
        names = ((before.session, before.spec.task), (entry.session, entry.spec.task))
        partner = self._remembered.get(keys.get(names[1], 0))
        if partner is not None and partner is not known:
            key = partner.submitted.key
            partner.submitted = msgspec.structs.replace(before, key=key)
            partner.done = None
            keys[names[0]] = key
        elif keys.get(names[0]) == entry.key:
            del keys[names[0]]
        known.submitted = entry
        known.done = None  # only what has not ended is exchanged
        keys[names[1]] = entry.key


class Restorer:
    """Fills empty tables."""

    def __init__(
        self, tables: Tables, dispatch: Dispatch, wants: Wants, endings: Endings, admission: Admission
    ) -> None:
        self._tables = tables
        self._dispatch = dispatch
        self._wants = wants
        self._endings = endings
        self._admission = admission
        self._boots: dict[str, str] = {}
        """The last process of each worker that the journal knows."""
        self._last: dict[str, Started] = {}
        """The last attempt of each worker that the journal knows."""

    def restore(self, entries: Iterable[JournalEntry], now: float) -> None:
        """Rebuild everything; entries about tasks that are not known are ignored."""
        remembered = self._fold(entries)
        waiting: list[tuple[Task, str | None]] = []
        for key in sorted(remembered):
            known = remembered[key]
            done = self._owed(known.done)
            task = self._enter(key, known, done, now)
            if task is None or done is not None:
                continue
            started = known.started
            if started is not None:
                task.attempt, task.worker, task.epoch = started.attempt, started.worker, started.epoch
                task.retries = started.retries
            task.known_since = known.since
            if started is not None and not known.over and self._boots[started.worker] == started.boot:
                self._adopt(task, started, known.cancelled, now)
            else:
                waiting.append((task, known.cancelled))
        self._expect(now)
        # Only now, so that identical actions join a run that goes on.
        for task, cancelled in waiting:
            if cancelled is None:
                self._admission.go_on(task, now)
            else:
                task.cancelled = cancelled
                self._endings.end_cancelled(task, now)

    def _expect(self, now: float) -> None:
        """Hold everything until those workers are back that had attempts last.

        An attempt is sent before the journal's next sync: what looks waiting may run, what looks running may
        have been lost and run elsewhere, and its worker says so.
        """
        if all(task.state is TaskState.ENDED for task in self._tables.tasks.values()):
            return
        newest = max((entry.at for entry in self._last.values()), default=0.0)
        self._tables.returning = {name for name, entry in self._last.items() if entry.at >= newest - RECENT_S}
        self._tables.held_until = now + RETURN_BEATS * self._tables.heartbeat_s
        self._tables.returned_by = now + ADOPT_BEATS * self._tables.heartbeat_s

    def _fold(self, entries: Iterable[JournalEntry]) -> dict[TaskKey, Remembered]:
        """Return what is left to say of each task."""
        remembered: dict[TaskKey, Remembered] = {}
        exchanges = Exchanges(remembered)
        last = 0
        for entry in entries:
            match entry:
                case Submitted(key=key):
                    since = self._place(entry.epoch)
                    known = remembered.get(key)
                    if known is None:
                        remembered[key] = Remembered(entry, since)
                        exchanges.entered(entry)
                        last = max(last, key)
                    else:
                        exchanges.submitted_again(known, entry)
                case Started(key=key):
                    self._place(entry.epoch)
                    self._boots[entry.worker] = entry.boot
                    self._last[entry.worker] = entry
                    known = remembered.get(key)
                    if known is not None:
                        known.started, known.over, known.done = entry, False, None
                case Ended(key=key):
                    known = remembered.get(key)
                    if known is not None:
                        known.over, known.done = True, entry.done
                case Cancelled(keys=keys):
                    for key in keys:
                        if (known := remembered.get(key)) is not None:
                            known.cancelled = entry.reason
                case Forgotten(keys=keys):
                    for key in keys:
                        remembered.pop(key, None)
                    last = max(last, *keys) if keys else last
                case _:
                    assert_never(entry)
        self._tables.keys_from(last)
        return remembered

    def _place(self, epoch: str) -> int:
        """Return the place of a manager in the order of all that the journal knows."""
        epochs = self._tables.epochs
        return epochs.setdefault(epoch, len(epochs) + 1) if epoch else 0

    def _owed(self, done: Done | None) -> Done | None:
        """Return a task's end, unless there is none or its outputs are gone meanwhile."""
        if done is not None and done.result.outcome is Outcome.SUCCEEDED:
            outputs = tuple(entry.digest for entry in done.result.outputs)
            if self._wants.missing(outputs):
                return None
            if outputs:
                self._tables.do(Pin(outputs))
        return done

    def _enter(self, key: TaskKey, known: Remembered, done: Done | None, now: float) -> Task | None:
        """Enter a task; None when it cannot be, and is not owed to anybody."""
        submitted = known.submitted
        session = self._session(submitted, now)
        if submitted.spec.task in session.tasks:  # no manager writes such a journal
            self._tables.forgotten.append(key)
            return None
        try:
            queue = self._tables.queue(submitted.need)
            task = self._admission.restored(key, session, submitted.spec, queue, done, now)
        except (ValueError, ProtocolError):
            self._tables.forgotten.append(key)
            return None
        if done is None and submitted.spec.deadline_s > 0:
            left = submitted.at + submitted.spec.deadline_s - (now + self._tables.wall_offset)
            self._tables.deadlines.set(key, now + min(left, submitted.spec.deadline_s))
        return task

    def _session(self, submitted: Submitted, now: float) -> Session:
        session = self._tables.sessions.get(submitted.session)
        if session is None:
            session = self._tables.sessions[submitted.session] = Session(
                submitted.session, submitted.owner, "", lease_s=submitted.lease_s
            )
            session.expires_at = now + (session.lease_s or self._tables.session_lease_s)
        return session

    def _adopt(self, task: Task, started: Started, cancelled: str | None, now: float) -> None:
        worker = self._tables.workers.get(started.worker)
        if worker is None:
            worker = Worker(started.worker, "", "", started.boot, Host("", ""), restored=True)
            worker.silent_until = now + ADOPT_BEATS * self._tables.heartbeat_s
            self._tables.workers[started.worker] = worker
        self._dispatch.adopt(task, worker, now)
        if cancelled is None:
            self._admission.lead(task)
        elif task.live is not None:
            task.cancelled = cancelled
            task.live.halted = True
