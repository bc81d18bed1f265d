"""The task manager's heart: messages, facts and the passing of time in; commands out.

    peer's message --> receive --+                                  +--> Send to a peer
    shell's finding --> learn ---+--> tables change --> dispatch ---+--> LookUp Keep Pin Unpin
    time passes -----> tick -----+     (state.py)      (places)     +--> Drop a connection

Every call first lets the parts change the tables (`members`: who is there, `admission`: what comes in,
`accept`: what ends), then once places what can be placed, asks for what is missing, tells what has changed.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import assert_never

from computefarm.messages import (
    PROTOCOL,
    Absent,
    Ask,
    AskTime,
    Begun,
    Cancel,
    Chunk,
    Declined,
    Digest,
    Disconnect,
    Explanation,
    Fetch,
    Finished,
    Goodbye,
    Got,
    Heartbeat,
    Hello,
    Join,
    Leaving,
    LoadReport,
    Output,
    OutputPage,
    Pool,
    ReadLog,
    ReadOutput,
    Register,
    Reply,
    Reported,
    Request,
    Status,
    Submit,
    Taken,
    TaskKey,
    ToManager,
    Welcome,
    Withdraw,
)

from .accept import Accept
from .admission import Admission
from .answers import Answers
from .commands import (
    Arrived,
    Command,
    Fact,
    Found,
    Gone,
    JournalFailed,
    JournalWorks,
    NotFound,
    PeerId,
    Send,
    Vanished,
)
from .dispatch import Dispatch
from .endings import Endings
from .entries import JournalEntry
from .members import Members
from .quarantine import Quarantine
from .report import LOOKS, Report
from .reservations import Reservations
from .restoring import Restorer
from .source import Source
from .state import Peer, Worker
from .tables import Tables
from .volatile import Volatile
from .wants import Wants
from .withdrawals import Withdrawals

_ANY = frozenset({"client", "worker", "monitor", "viewer", "admin"})
_CLIENT = frozenset({"client", "admin"})
_WORKER = frozenset({"worker"})
_STORES = frozenset({"client", "worker", "admin"})

ALLOWED: dict[type[ToManager], frozenset[str]] = {
    Hello: _ANY, Heartbeat: _ANY, Goodbye: _ANY, Ask: _ANY, Join: frozenset(),
    Submit: _CLIENT, Cancel: _CLIENT, Taken: _CLIENT,
    Register: _WORKER, Begun: _WORKER, Output: _WORKER, Finished: _WORKER, Declined: _WORKER,
    Leaving: _WORKER,
    LoadReport: frozenset({"monitor", "worker"}),
    Chunk: _STORES, Fetch: _STORES, Absent: _STORES, Got: _STORES,
    ReadLog: frozenset({"client", "viewer", "admin"}),
    ReadOutput: frozenset({"client", "viewer", "admin"}), OutputPage: _WORKER,
    Reported: frozenset({"monitor", "worker"}), AskTime: _ANY,
    Request: _CLIENT, Withdraw: _CLIENT, Reply: _WORKER,
}  # fmt: skip
"""Which roles may say what."""


class TaskManager:
    """Decides what runs where; see `receive`, `learn` and `tick`."""

    def __init__(
        self,
        farm: str,
        version: str,
        epoch: str,
        blobs: Container[Digest],
        *,
        heartbeat_s: float = 2.0,
        now: float,
        settle_s: float | None = None,
        wall_offset: float = 0.0,
        journalled: bool = False,
        lineage: str = "",
    ) -> None:
        """Start empty.

        `blobs` tells what the store holds, at no cost. `settle_s` is how long workers may take to come back
        before a capability counts as not offered (one lease by default). `now + wall_offset` is the wall
        clock, for display. `journalled` makes it say what must be written down; then `lineage` is the
        journal's own name, the same for every manager that goes on with it.
        """
        self._farm = farm
        self._version = version
        self._epoch = epoch
        self._heartbeat_s = heartbeat_s
        self._lineage = lineage
        self._tables = Tables(epoch, blobs, heartbeat_s, now, journalled=journalled)
        self._tables.wall_offset = wall_offset
        if settle_s is not None:
            self._tables.settled_at = now + settle_s
        self._dispatch = Dispatch(self._tables)
        self._wants = Wants(self._tables)
        parts = (self._tables, self._dispatch, self._wants)
        self._reservations = Reservations(self._tables, self._dispatch)
        self._endings = Endings(*parts)
        self._accept = Accept(*parts, self._endings, Quarantine(self._dispatch))
        self._withdrawals = Withdrawals(*parts, self._endings, self._accept)
        self._admission = Admission(*parts, self._endings, self._accept, self._withdrawals)
        self._members = Members(*parts, self._accept, self._withdrawals)
        self._volatile = Volatile(self._tables)
        self._report = Report(self._tables, farm, version, self._volatile)
        self._answers = Answers(self._tables, self._members, self._withdrawals, self._report)
        self._sweep_at = now + heartbeat_s / 2
        self._now = now

    def restore(self, entries: Iterable[JournalEntry], now: float) -> list[Command]:
        """Rebuild the tables from the journal, before anybody connects.

        What ran may be running still: its workers have `ADOPT_BEATS` to come back with it. What had ended and
        was not taken is kept for its clients, which have `SESSION_BEATS` to come back.
        """
        parts = (self._tables, self._dispatch, self._wants)
        Restorer(*parts, self._endings, self._admission).restore(entries, now)
        return self._turn(now)

    # --- the shell's side -----------------------------------------------------------------------------

    def connect(self, peer: PeerId, role: str, hello: Hello, now: float, *, owner: str = "") -> list[Command]:
        """Make `peer` known; the commands hold the `Welcome`, or a `Disconnect` and a `Drop`.

        A known peer has connected anew: a worker must register, a client submit again what has not ended.
        `role` and `owner` come from its key, never from itself.
        """
        welcome = Welcome(
            PROTOCOL, self._version, self._farm, self._epoch, self._heartbeat_s, peer, self._lineage
        )
        if self._members.connect(peer, role, hello, now, owner, welcome) and role in LOOKS:
            self._tables.say(peer, self._report.offers(now), now)
        return self._turn(now)

    def receive(self, peer: PeerId, message: ToManager, now: float) -> list[Command]:
        """Return what to do about one message of the control connection."""
        known = self._tables.peers.get(peer)
        if known is None:
            return [Send(peer, Disconnect("protocol", "say Hello first"))]
        known.seen_at = now
        if known.role not in ALLOWED[type(message)]:
            what = type(message).__name__
            self._members.turn_away(peer, "role", f"a {known.role} may not send {what}", now)
        else:
            self._take(known, message, now)
        return self._turn(now)

    def learn(self, fact: Fact, now: float) -> list[Command]:
        """Return what to do about something the shell found out."""
        match fact:
            case Arrived():
                self._admission.arrived(fact.digests, now)
            case Found():
                self._admission.found(fact, now)
            case NotFound():
                self._admission.not_found(fact.key, now)
            case Vanished():
                self._admission.vanished(fact.digests, now)
            case Gone():
                peer = self._tables.peers.get(fact.peer)
                if peer is not None:
                    self._members.part(peer, "its connection ended", now, at_once=False)
            case JournalFailed():
                self._tables.journal_fault = fact.text
            case JournalWorks():
                self._tables.journal_fault = ""
                self._admission.resume(now)
            case _:
                assert_never(fact)
        return self._turn(now)

    def tick(self, now: float) -> list[Command]:
        """Return what time alone makes necessary."""
        self._withdrawals.expire(now)
        self._members.sweep(now)
        self._reservations.review(now)
        self._dispatch.retry(now)
        self._dispatch.recall(now)
        self._sweep_at = now + self._heartbeat_s / 2
        self._wants.say(now)
        self._report.look(now)
        self._volatile.tick(now)
        return self._turn(now)

    @property
    def sent_ahead(self) -> int:
        """Return how many tasks lie ready at busy workers."""
        return self._dispatch.ahead

    def next_deadline(self) -> float | None:
        """Return when to call `tick`."""
        deadline = self._sweep_at
        for other in (
            self._dispatch.recall_at(),
            self._report.deadline(),
            self._tables.deadlines.next(),
            self._volatile.next_deadline(),
        ):
            if other is not None and other < deadline:
                deadline = other
        if self._now < self._tables.settled_at < deadline:
            deadline = self._tables.settled_at
        if self._tables.holding(self._now):
            held = self._tables.held_until
            deadline = min(deadline, held if self._now < held else self._tables.returned_by)
        return deadline

    # --- questions ------------------------------------------------------------------------------------

    def explain(self, session: str, task: str) -> Explanation:
        """Return what is known of a task, by name or number; an empty session means any."""
        return self._report.explain(session, task, self._now)

    def status(self, now: float) -> Status:
        """Return the whole farm at this moment."""
        return self._report.status(now)

    def pools(self) -> tuple[Pool, ...]:
        """Return what live workers offer, counted together."""
        return self._report.pools()

    def watchers(self, key: TaskKey, attempt: int) -> list[tuple[PeerId, str, int]]:
        """Return `(peer, session, task)` for everybody whose task this attempt runs."""
        task = self._tables.tasks.get(key)
        if task is None or task.live is None or task.live.attempt != attempt:
            return []
        return self._tables.watchers(task)

    def source(self, key: TaskKey) -> Source | None:
        """Return whose lines an attempt's output is; None when the task is not known."""
        task = self._tables.tasks.get(key)
        if task is None or task.live is None:
            return None
        worker = self._tables.workers.get(task.live.worker)
        names = [
            (entry.session.name, entry.session.owner, entry.name)
            for entry in (task, *(self._tables.tasks[key] for key in task.followers or ()))
        ]
        need = task.queue.need
        host = worker.hostname if worker is not None else ""
        return Source(host, need.capability, tuple(names), need.logs)

    def goes_on(self, session: str) -> bool:
        """Return whether a session is known and not closed."""
        known = self._tables.sessions.get(session)
        return known is not None and not known.closed

    def oddities(self) -> list[tuple[PeerId, str]]:
        """Return who sent, since the last call, what no honest peer sends, and what it was."""
        found, self._tables.oddities = self._tables.oddities, []
        return found

    def holds(self, peer: PeerId, key: TaskKey, attempt: int) -> bool:
        """Return whether `peer` is the worker that was given this attempt, which has not ended."""
        known = self._tables.peers.get(peer)
        task = self._tables.tasks.get(key)
        live = task.live if task is not None else None
        return (
            known is not None
            and live is not None
            and bool(known.worker)
            and (live.attempt, live.worker) == (attempt, known.worker)
        )

    def was_given(self, peer: PeerId, key: TaskKey, attempt: int) -> bool:
        """Return whether `peer` may speak of this attempt: it has or had it, or nobody knows it any more."""
        task = self._tables.tasks.get(key)
        known = self._tables.peers.get(peer)
        if task is None or known is None or attempt > task.attempt:
            return task is None
        if attempt == task.attempt:
            return task.worker in ("", known.worker)
        return any(past.attempt == attempt and past.worker == known.worker for past in task.past)

    # --- inside ---------------------------------------------------------------------------------------

    def _turn(self, now: float) -> list[Command]:
        """Place, ask and tell what has become possible, and return all commands."""
        self._now = now
        self._dispatch.run(now)
        self._volatile.settle(now)
        self._wants.say(now)
        self._report.push_offers(now)
        self._report.arm(now)
        return self._tables.commands()

    def _take(self, peer: Peer, message: ToManager, now: float) -> None:
        match message:
            case Finished() | Begun() | Declined() | Leaving() | Output() | Register():
                self._from_worker(peer, message, now)
            case Submit() | Cancel() | Taken():
                self._from_client(peer, message, now)
            case LoadReport():
                fault = self._members.load(peer, message, now)
                if fault is not None:
                    self._members.turn_away(peer.peer, "protocol", fault, now)
            case Heartbeat():
                self._volatile.heard(peer, message, now)
            case Chunk() | Fetch() | Got() | Join() | Reported() | ReadLog() | AskTime():
                pass  # it lives; bulk traffic, logs and clocks are the shell's own business
            case ReadOutput() | OutputPage():
                pass
            case Request():
                self._volatile.request(peer, message, now)
            case Reply():
                self._volatile.reply(peer, message, now)
            case Withdraw():
                self._volatile.withdraw(peer, message, now)
            case Ask():
                self._answers.answer(peer, message, now)
            case Hello():
                text = "Hello is said once on a connection"
                self._members.turn_away(peer.peer, "protocol", text, now)
            case Absent():
                self._absent(peer, message, now)
            case Goodbye():
                reason = message.reason or "said goodbye"
                self._members.part(peer, reason, now, at_once=True, polite=True)
                self._tables.drop(peer.peer, message.reason)
            case _:
                assert_never(message)

    def _from_worker(
        self, peer: Peer, message: Finished | Begun | Declined | Leaving | Output | Register, now: float
    ) -> None:
        if isinstance(message, Register):
            self._members.register(peer, message, now)
            return
        worker = self._worker(peer)
        if worker is None:
            return  # said on an earlier connection; its registration will tell what it has in hand
        match message:
            case Finished():
                self._accept.finished(worker, message, now)
            case Begun():
                task = self._tables.tasks.get(message.key)
                attempt = task.live if task is not None else None
                if attempt is not None and self._accept.current(
                    attempt, worker, message.attempt, message.epoch
                ):
                    self._dispatch.begun(attempt, now)
            case Declined():
                self._accept.declined(worker, message, now)
            case Leaving():
                worker.draining = True
                self._dispatch.freed(worker)
            case Output():
                pass  # its lines are relayed around the core
            case _:
                assert_never(message)

    def _from_client(self, peer: Peer, message: Submit | Cancel | Taken, now: float) -> None:
        if isinstance(message, Cancel) and (message.number or message.names):
            self._answers.cancel(peer, message, now)
            return
        session = self._members.session(peer, message.session, now)
        if session is None:
            # Its own session, closed while it was away: it may come back once the last attempts have ended.
            own = self._tables.sessions[message.session].owner == peer.owner
            text = f"session {message.session} {'is ending' if own else 'belongs to somebody else'}"
            self._members.turn_away(peer.peer, "protocol" if own else "key", text, now)
            return
        match message:
            case Submit():
                fault = self._admission.submit(session, message, now)
                if fault is not None:
                    self._members.turn_away(peer.peer, "protocol", fault, now)
            case Taken():
                self._withdrawals.taken(session, message.tasks, now)
            case Cancel():
                for number in message.tasks or tuple(session.tasks):
                    key = session.tasks.get(number)
                    if key is not None:
                        self._withdrawals.cancel(self._tables.tasks[key], message.reason, now)
            case _:
                assert_never(message)

    def _absent(self, peer: Peer, message: Absent, now: float) -> None:
        worker = self._worker(peer)
        if worker is not None:
            self._accept.undeliverable(worker, message.digests, now)
        else:
            self._admission.absent(peer.peer, message.digests, now)

    def _worker(self, peer: Peer) -> Worker | None:
        worker = self._tables.workers.get(peer.worker)
        return worker if worker is not None and worker.peer == peer.peer else None
