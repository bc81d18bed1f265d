"""Everything the manager knows, and the commands it has decided on so far."""

from __future__ import annotations

from collections.abc import Container

from computefarm.messages import Digest, FromManager, Need, Obstacle, Offer, TaskKey

from .beats import LEASE_BEATS as LEASE_BEATS
from .beats import SESSION_BEATS
from .commands import Command, Drop, PeerId, Record, Send
from .deadlines import Deadlines
from .entries import Forgotten, JournalEntry
from .queues import Queues
from .state import Host, Kind, Peer, Queue, Session, Task, Worker

KINDS = 4096
"""Kinds of tasks whose run time is remembered."""


class Tables:
    """The tables, with the few operations that every part of the manager needs."""

    def __init__(
        self,
        epoch: str,
        blobs: Container[Digest],
        heartbeat_s: float,
        now: float,
        *,
        journalled: bool = False,
    ) -> None:
        self.epoch = epoch
        self.journalled = journalled
        self.journal_fault = ""
        """What is wrong with the journal; nothing new is accepted until it is empty."""
        self.promised = 0
        """The last record that somebody waits for: once it is synced, everything said may be relied on."""
        self.forgotten: list[TaskKey] = []
        """Tasks that were forgotten in this turn, not written down yet."""
        self.blobs = blobs
        self.heartbeat_s = heartbeat_s
        self.lease_s = LEASE_BEATS * heartbeat_s
        self.session_lease_s = SESSION_BEATS * heartbeat_s
        self.started_at = now
        self.settled_at = now + self.lease_s
        """From then on a capability that nobody offers is known to be missing, not just late."""
        self.returning: set[str] = set()
        """After a restart: workers that may have attempts of which the journal's lost tail told."""
        self.held_until = now
        """Nothing is placed before, whoever is back: a worker may be unknown to the journal."""
        self.returned_by = now
        """When nobody is waited for any more."""
        self.wall_offset = 0.0
        """Add it to `now` for a wall-clock time."""
        self.epochs: dict[str, int] = {}
        """The managers before this one that the journal knows, counted from 1 in their order."""
        self.peers: dict[PeerId, Peer] = {}
        self.workers: dict[str, Worker] = {}
        self.free: dict[str, Worker] = {}
        """Workers that take work and have a slot that nobody occupies."""
        self.hosts: dict[str, Host] = {}
        self.sessions: dict[str, Session] = {}
        self.tasks: dict[TaskKey, Task] = {}
        self.by_action: dict[Digest, TaskKey] = {}
        """The unended task that identical actions join."""
        self.offers_seen: dict[tuple[Offer, str], None] = {}
        """Every offer and platform since the start."""
        self.queues = Queues()
        self.offers_changed = False
        self.deadlines = Deadlines()
        self.overdue: set[TaskKey] = set()
        """Tasks that are being halted because their deadline has passed."""
        self.unheard: dict[int, Queue] = {}
        """Queues with new tasks that need what no worker has ever offered."""
        self._kinds: dict[tuple[str, str], Kind] = {}
        self._keys = 0
        self._records = 0
        self.oddities: list[tuple[PeerId, str]] = []
        """What peers sent that no honest one sends, for the log."""
        self._out: list[Command] = []

    def new_key(self) -> TaskKey:
        """Return the next task's number."""
        self._keys += 1
        return self._keys

    def keys_from(self, last: TaskKey) -> None:
        """Never use a key up to `last` again."""
        self._keys = max(self._keys, last)

    def kind(self, capability: str, name: str) -> Kind:
        """Return the shared entry for tasks of one kind."""
        kind = self._kinds.get((capability, name))
        if kind is None:
            if len(self._kinds) >= KINDS:
                del self._kinds[next(iter(self._kinds))]
            kind = self._kinds[capability, name] = Kind(name)
        return kind

    def queue(self, need: Need) -> Queue:
        """Return the queue of a need; raise `ValueError` when its version is not a constraint."""
        return self.queues.queue(need, self.workers.values(), self.offers_seen)

    def host(self, host: str, hostname: str) -> Host:
        """Return the entry of a host, made when it is new."""
        entry = self.hosts.get(host)
        if entry is None:
            entry = self.hosts[host] = Host(host, hostname)
        return entry

    def journal_obstacle(self) -> Obstacle:
        """Return why nothing new is accepted, for people."""
        return Obstacle("host", "manager", f"nothing new is accepted: {self.journal_fault}")

    def offer_again(self, worker: Worker) -> None:
        """What a worker offers has changed: enter it anew where it may serve."""
        self.queues.expel(worker)
        self.queues.enrol(worker)
        self.offers_changed = True

    def abroad(self, epoch: str) -> str:
        """Return an epoch as messages name it: empty for our own."""
        return "" if epoch == self.epoch else epoch

    def do(self, command: Command) -> None:
        """Decide on `command`."""
        self._out.append(command)

    def say(self, peer: PeerId, message: FromManager, now: float, after: int = 0) -> None:
        """Send `message` unless the peer is away; once the record `after` is synced."""
        known = self.peers.get(peer)
        if known is not None:
            known.told_at = now
            self._out.append(Send(peer, message, after))

    def record(self, entry: JournalEntry, *, urgent: bool = False) -> None:
        """Write `entry` down; ask `journalled` first. Somebody waits for an urgent one."""
        self._records += 1
        if urgent:
            self.promised = self._records
        self._out.append(Record(self._records, entry, urgent))

    def drop(self, peer: PeerId, reason: str) -> None:
        """Forget a connection, and have the shell forget it."""
        self.peers.pop(peer, None)
        self._out.append(Drop(peer, reason))

    def holding(self, now: float) -> bool:
        """Return whether nothing may be placed yet: it may be running already."""
        return now < self.held_until or (bool(self.returning) and now < self.returned_by)

    def holding_obstacle(self, now: float) -> Obstacle:
        """Return why nothing is placed yet, for people."""
        text = "it was started again and waits for workers to tell what they run"
        names = sorted(self.returning)
        if names and now >= self.held_until:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            text = f"{text}: {', '.join(names[:3])}{more}"
        return Obstacle("host", "manager", text)

    def commands(self) -> list[Command]:
        """Return what was decided since the last call."""
        if self.forgotten:
            self.record(Forgotten(tuple(self.forgotten)))
            self.forgotten.clear()
        out, self._out = self._out, []
        return out

    def watchers(self, task: Task) -> list[tuple[PeerId, str, int]]:
        """Return everybody who is there and whose task is run by this one: peer, session, number."""
        found = []
        for key in (task.key, *(task.followers or ())):
            watching = self.tasks[key]
            if watching.session.peer:
                found.append((watching.session.peer, watching.session.name, watching.number))
        return found
