"""Who is there: connections, roles, registrations, leases, sessions, load reports."""

from __future__ import annotations

import math

from computefarm.messages import (
    PROTOCOL,
    Disconnect,
    Halt,
    Heartbeat,
    Hello,
    LoadReport,
    Register,
    Running,
    Welcome,
)

from .accept import Accept
from .beats import FRESH_BEATS, GRACE_BEATS, HOST_BEATS
from .commands import Drop, PeerId, Send
from .dispatch import Dispatch
from .state import Peer, Session, Worker
from .tables import Tables
from .wants import Wants
from .withdrawals import Withdrawals

ROLES = frozenset({"client", "worker", "monitor", "viewer", "admin"})

OFFERS_REMEMBERED = 10_000


class Members:
    """Keeps the tables of peers, workers, hosts and sessions true."""

    def __init__(
        self, tables: Tables, dispatch: Dispatch, wants: Wants, accept: Accept, withdrawals: Withdrawals
    ) -> None:
        self._tables = tables
        self._dispatch = dispatch
        self._wants = wants
        self._accept = accept
        self._withdrawals = withdrawals

    # --- coming ---------------------------------------------------------------------------------------

    def connect(
        self, peer: PeerId, role: str, hello: Hello, now: float, owner: str, welcome: Welcome
    ) -> bool:
        """Make a peer known and welcome it; return False when it was turned away."""
        if hello.protocol != PROTOCOL:
            self.turn_away(peer, "version", _mismatch(hello, welcome), now)
            return False
        if role not in ROLES:
            self.turn_away(peer, "role", f"{role!r} is not a role", now)
            return False
        known = self._tables.peers.get(peer)
        if known is not None:  # the same process on a new connection: what was in flight may be lost
            self.part(known, "its connection ended", now, at_once=False)
        self._tables.peers[peer] = Peer(peer, role, owner, hello.boot, hello.host, hello.hostname, now, now)
        self._tables.say(peer, welcome, now)
        return True

    def turn_away(self, peer: PeerId, code: str, text: str, now: float) -> None:
        """Say why we do not go on with a peer, and forget it."""
        known = self._tables.peers.get(peer)
        self._tables.do(Send(peer, Disconnect(code, text)))
        if known is not None:
            self.part(known, f"was refused: {text}", now, at_once=True)
        self._tables.do(Drop(peer, text))

    def register(self, peer: Peer, message: Register, now: float) -> None:
        """Enter what a worker offers, and compare what it has in hand with what we believe."""
        fault = _fault(message)
        if fault is not None:
            self.turn_away(peer.peer, "protocol", fault, now)
            return
        old = self._tables.workers.get(message.worker)
        if old is not None and old.peer != peer.peer and not self._may_replace(old, peer, now):
            there = self._tables.peers[old.peer]
            text = (
                f"a worker named {old.name} is already connected from {there.hostname or 'another process'}"
            )
            self.turn_away(peer.peer, "name", f"{text}; choose another name", now)
            return
        if peer.worker and peer.worker != message.worker:
            self._retire(peer, "changed its name", now)
        worker = self._enter(peer, message, old, now)
        if worker.peer != peer.peer:
            worker.peer = peer.peer
            peer.worker = worker.name
            self._reconcile(worker, message.running, now)
            self._tables.returning.discard(worker.name)
            self._wants.moved()
        self._dispatch.freed(worker)

    def session(self, peer: Peer, name: str, now: float) -> Session | None:
        """Return the session that `peer` speaks for; None when it belongs to somebody else."""
        session = self._tables.sessions.get(name)
        if session is None:
            session = self._tables.sessions[name] = Session(name, peer.owner, peer.peer)
        elif session.owner != peer.owner or session.closed:
            return None
        elif session.peer != peer.peer:
            session.peer = peer.peer
            session.left = None
            self._wants.moved()
        return session

    def load(self, peer: Peer, report: LoadReport, now: float) -> str | None:
        """Enter a host's load; return what is wrong with the report, or None."""
        numbers = (report.load, report.task_load, report.interval_s)
        if not all(0 <= number < math.inf for number in numbers) or report.cpus < 1:
            return "a load report with impossible numbers"
        host = self._tables.host(report.host, report.hostname)
        host.hostname = report.hostname or host.hostname
        host.report = report
        host.reported_at = now
        host.reporter = peer.peer
        host.ledger.report(report.load, report.task_load)
        for worker in self._tables.free.values():
            if worker.host is host:
                self._dispatch.freed(worker)
        return None

    # --- going ----------------------------------------------------------------------------------------

    def part(self, peer: Peer, reason: str, now: float, *, at_once: bool, polite: bool = False) -> None:
        """A peer is gone: at once for good, or with a grace in which it may come back."""
        self._tables.peers.pop(peer.peer, None)
        worker = self._tables.workers.get(peer.worker)
        if worker is not None and worker.peer == peer.peer:
            worker.peer = ""
            worker.silent_until = now if at_once else now + GRACE_BEATS * self._tables.heartbeat_s
            self._dispatch.freed(worker)
            if at_once:
                self.lose(worker, reason, now, blame=not polite)
        for session in list(self._tables.sessions.values()):
            if session.peer == peer.peer:
                session.peer = ""
                session.expires_at = now + (session.lease_s or self._tables.session_lease_s)
                if polite:
                    self.close(session, now)
        if polite and peer.role == "monitor":
            for host in self._tables.hosts.values():
                if host.reporter == peer.peer:
                    host.report = None
                    host.ledger.report(0.0, 0.0)
        self._wants.moved()

    def lose(self, worker: Worker, reason: str, now: float, *, blame: bool) -> None:
        """A worker is gone for good: its attempts are given to others."""
        worker.peer = ""
        self._dispatch.freed(worker)
        for attempt in reversed(worker.attempts()):  # from the end, so that nothing sent ahead is promoted
            self._accept.lost(attempt, reason, now, blame=blame)
        self._tables.queues.expel(worker)
        del self._tables.workers[worker.name]
        self._tables.offers_changed = True

    def close(self, session: Session, now: float) -> None:
        """Nobody will ask for this session's tasks again: cancel and forget them."""
        session.closed = True
        for number in list(session.tasks):  # not by key: a task may leave its entry to another one's
            key = session.tasks.get(number)
            if key is None:
                continue
            task = self._tables.tasks[key]
            if task.done is not None:
                self._withdrawals.taken(session, (task.number,), now)
            else:
                self._withdrawals.cancel(task, "its client is gone", now)
        if not session.tasks:
            self._tables.sessions.pop(session.name, None)

    def sweep(self, now: float) -> None:
        """Find who has been silent for too long, and tell the others that we live."""
        tables = self._tables
        for peer in list(tables.peers.values()):
            if now >= peer.seen_at + tables.lease_s:
                silence = f"silent for {now - peer.seen_at:.1f} s"
                self.part(peer, silence, now, at_once=True)
                tables.drop(peer.peer, silence)
            elif now >= peer.told_at + tables.heartbeat_s:
                tables.say(peer.peer, Heartbeat(), now)
        for worker in list(tables.workers.values()):
            if not worker.peer and now >= worker.silent_until:
                text = "its connection ended and it did not come back"
                if worker.restored:
                    text = "it did not come back after the manager was started again"
                self.lose(worker, text, now, blame=not worker.restored)
        for session in list(tables.sessions.values()):
            if not session.peer and not session.closed and now >= session.expires_at:
                self.close(session, now)
        self._forget_hosts(now)

    def _forget_hosts(self, now: float) -> None:
        """Forget hosts that nobody works on and nobody reports any more."""
        working = {worker.host.host for worker in self._tables.workers.values()}
        for host in list(self._tables.hosts.values()):
            if host.host in working or host.seen_at is None or (host.report and not host.stale(now)):
                host.seen_at = now
            elif now >= host.seen_at + HOST_BEATS * self._tables.heartbeat_s:
                del self._tables.hosts[host.host]

    # --- inside ---------------------------------------------------------------------------------------

    def _may_replace(self, old: Worker, peer: Peer, now: float) -> bool:
        """Return whether `peer` may go on under the name of `old`: its owner's restart or reconnect."""
        there = self._tables.peers.get(old.peer)
        if there is None or (there.owner == peer.owner and there.boot == peer.boot):
            return True
        fresh = now < there.seen_at + FRESH_BEATS * self._tables.heartbeat_s
        return there.owner == peer.owner and not fresh

    def _retire(self, peer: Peer, reason: str, now: float) -> None:
        worker = self._tables.workers.get(peer.worker)
        peer.worker = ""
        if worker is not None and worker.peer == peer.peer:
            self.lose(worker, reason, now, blame=False)

    def _enter(self, peer: Peer, message: Register, old: Worker | None, now: float) -> Worker:
        """Return the worker's entry with what it offers now."""
        tables = self._tables
        if old is not None and old.peer != peer.peer and old.peer in tables.peers:
            there = tables.peers[old.peer]
            there.worker = ""
            old.peer = ""
            tables.drop(there.peer, f"{old.name} has connected again")
        if old is not None and not _same_process(old, peer):
            self.lose(old, "was restarted", now, blame=not old.restored)
            old = None
        host = tables.host(message.host, message.hostname)
        offers = {offer.capability: offer for offer in message.offers}
        for offer in message.offers:
            if len(tables.offers_seen) < OFFERS_REMEMBERED:
                tables.offers_seen[offer, message.platform] = None
        worker = old or Worker(message.worker, "", peer.owner, peer.boot, host)
        before = (worker.offers, worker.slots, worker.platform)
        tables.queues.expel(worker)
        worker.move_to(host)
        worker.hostname, worker.platform = message.hostname, message.platform
        worker.slots, worker.offers, worker.cpus = message.slots, offers, message.cpus
        worker.withdrawn.clear()
        worker.memory, worker.gpus = message.memory, message.gpus
        worker.tier, worker.weight, worker.max_load = message.tier, message.weight, message.max_load
        worker.draining, worker.held = message.draining, message.held
        worker.owner, worker.restored = peer.owner, False
        if before[1] != message.slots:
            self._dispatch.resize(worker)
        tables.workers[worker.name] = worker
        tables.queues.enrol(worker)
        if old is None or before != (offers, message.slots, message.platform):
            tables.offers_changed = True
        return worker

    def _reconcile(self, worker: Worker, running: tuple[Running, ...], now: float) -> None:
        """On a new connection: keep what the worker still has, give back what it has not, stop the rest."""
        present = self._tables.epoch
        listed = {(entry.key, entry.attempt, entry.epoch or present) for entry in running}
        for attempt in reversed(worker.attempts()):
            name = (attempt.key, attempt.attempt, attempt.epoch)
            if name not in listed:
                self._accept.give_back(attempt, now)
                continue
            listed.discard(name)
            attempt.adopted = True
            if attempt.backlog:
                self._dispatch.begun(attempt, now)
            if attempt.halted:
                self._dispatch.halt(attempt, "cancelled", now)
        for key, number, epoch in sorted(listed):
            task = self._tables.tasks.get(key)
            if task is not None and self._accept.adoptable(task, worker, number, epoch):
                self._accept.adopt(task, worker, number, epoch, now)
            else:
                text = "the manager has given this task to others or forgotten it"
                halt = Halt(key, number, text, epoch=self._tables.abroad(epoch))
                self._tables.say(worker.peer, halt, now)


def _same_process(old: Worker, peer: Peer) -> bool:
    return old.boot == peer.boot and (old.restored or old.owner == peer.owner)


def _mismatch(hello: Hello, welcome: Welcome) -> str:
    """Return which side is the older, and what to type there."""
    newer, older = welcome.version, "this machine"
    if hello.protocol > PROTOCOL:
        newer, older = hello.version, "the manager's machine"
    newer = "".join(letter for letter in newer if letter.isalnum() or letter in ".+-!")[:40]
    return (
        f"this farm speaks protocol {PROTOCOL} (version {welcome.version}), this machine {hello.protocol} "
        f"(version {hello.version}): {older} is the older\n"
        f"  pip install 'computefarm=={newer}'    # on {older}"
    )


def _fault(message: Register) -> str | None:
    """Return what is impossible in a registration, or None."""
    if not message.worker:
        return "a worker needs a name"
    if message.slots < 1 or message.cpus < 1:
        return f"worker {message.worker}: slots and cpus must be at least 1"
    if not 0 < message.weight < math.inf:
        return f"worker {message.worker}: the weight must be positive, not {message.weight}"
    return None
