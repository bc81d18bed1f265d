"""The TaskManager's loop: one core, one port, one store, one result cache.

The control thread only receives, decides and sends; hashing, files and SQLite run on the storage thread.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterable

from computefarm import __version__
from computefarm.codec import decode_to_manager, encode
from computefarm.core.commands import (
    Arrived,
    Command,
    Drop,
    Fact,
    Gone,
    Keep,
    LookUp,
    Pin,
    Record,
    Send,
    Unpin,
)
from computefarm.core.manager import TaskManager
from computefarm.core.tables import LEASE_BEATS
from computefarm.errors import ProtocolError
from computefarm.journal.tasks import TaskJournal
from computefarm.logs.farm_log import FarmLog
from computefarm.messages import (
    Absent,
    AskTime,
    Chunk,
    Digest,
    Disconnect,
    Fetch,
    FromManager,
    Goodbye,
    Heartbeat,
    Hello,
    Join,
    Output,
    OutputPage,
    ReadLog,
    ReadOutput,
    Reply,
    Reported,
    TaskOutput,
    ToManager,
    Want,
)
from computefarm.store.blobs import BlobStore
from computefarm.store.results import ResultCache
from computefarm.transport.invitation import Enrolment
from computefarm.transport.manager_end import Incoming, ManagerEnd

from .gate import Gate
from .journalling import Journalling
from .log_desk import LogDesk
from .loop import Loop
from .manager_bulk import ManagerBulk
from .offload import Offload
from .outgoing import Outgoing
from .peers import Peer
from .porter import Porter
from .remembered import Remembered
from .roster import Roster
from .volatile_log import log_reply

log = logging.getLogger("computefarm.taskmanager")

REVIEW_S = 1.0
"""How soon an idle manager notices that a key was revoked or has expired."""

PACE_S = 0.003
"""Between two turns under pressure; a worker has many times that lying ready then."""

PRESSED = 8
"""Tasks lying ready per connected process from which on the manager takes its time."""


class TaskManagerService:
    """Serves one farm on one `ManagerEnd`."""

    def __init__(
        self,
        *,
        farm: str,
        end: ManagerEnd,
        store: BlobStore,
        results: ResultCache,
        enrolment: Enrolment | None = None,
        heartbeat_s: float = 2.0,
        settle_s: float | None = None,
        journal: TaskJournal | None = None,
        farm_log: FarmLog | None = None,
    ) -> None:
        """Without a journal everything is forgotten when the service ends; without a log no line is kept."""
        self._end = end
        self._journal = journal
        self._enrolment = enrolment
        self._settle_s = settle_s
        self._store = store
        self._results = results
        self._heartbeat_s = heartbeat_s
        self.epoch = secrets.token_hex(8)
        self.farm = farm
        self._storage = Offload("cf-storage")
        self._roster = Roster(end, LEASE_BEATS * heartbeat_s)
        self._desk = LogDesk(
            farm_log,
            say=self._tell,
            goes_on=lambda run: self.core.goes_on(run),
            workers=self._roster.workers_on,
        )
        self._inside: dict[str, Callable[[FromManager], None]] = {}
        """Peers that are parts of this process."""
        self._replies: list[tuple[str, Reply]] = []
        """Sent in this turn, to whom: to be logged."""

    # --- the loop's side ---

    def attach(self, loop: Loop) -> None:
        """Register the port and start the storage thread."""
        self._loop = loop
        self._clock = loop.clock
        self._review_at = loop.clock() + REVIEW_S
        self.core = TaskManager(
            farm=self.farm,
            version=__version__,
            epoch=self.epoch,
            blobs=self._store,
            heartbeat_s=self._heartbeat_s,
            now=loop.clock(),
            settle_s=self._settle_s,
            wall_offset=time.time() - loop.clock(),
            journalled=self._journal is not None,
            lineage=self._journal.lineage if self._journal is not None else "",
        )
        self._gate = Gate(self._end, self.core, time.time)
        self._porter = Porter(self._end, self._roster, self._enrolment, loop.clock)
        self._outgoing = Outgoing(self._end, clock=loop.clock, choked=self._choked)
        self._remembered = Remembered(self._store, self._results, self._storage, self._learn)
        self._bulk = ManagerBulk(
            self._end,
            self._store,
            self._storage,
            route=self._roster.bulk_route,
            arrived=lambda digests: self._learn(Arrived(tuple(digests))),
            failed=self._pull_failed,
            greedy=self._greedy,
            clock=loop.clock,
        )
        self._storage.attach(loop)
        self._remembered.attach(loop)
        self._desk.attach(loop)
        self._journalling: Journalling | None = None
        if self._journal is not None:
            self._journalling = Journalling(self._journal, say=self._send, learn=self._learn)
            self._obey(self._journalling.restore(lambda entries: self.core.restore(entries, loop.clock())))
            self._journalling.attach(loop)
        for source in self._end.sockets():
            loop.watch(source, self._readable)

    def tick(self, now: float) -> None:
        """Let the core and the puller act on the passing of time."""
        if now >= self._review_at:
            # An idle port must be looked at, or a revoked key would stay connected until somebody speaks.
            self._readable()
            self._review_at = now + min(REVIEW_S, self._end.pause_s)
        self._obey(self.core.tick(now))
        self._bulk.puller.tick(now)
        self._desk.tick(now)
        for name in self._roster.overdue(now):
            self._drop(name, "it has no control connection")

    def next_deadline(self) -> float | None:
        """Return the earlier of the core's and the puller's deadline."""
        deadline = min(self._review_at, self._outgoing.deadline())
        for part in (
            self.core.next_deadline(),
            self._bulk.puller.next_deadline(),
            self._desk.next_deadline(),
            self._journalling.next_deadline() if self._journalling is not None else None,
        ):
            if part is not None and part < deadline:
                deadline = part
        if self._bulk.stuck:
            deadline = min(deadline, self._clock() + 0.01)
        return deadline

    def pace(self) -> float:
        """Wait for company while every worker has tasks lying ready."""
        return PACE_S if self.core.sent_ahead >= PRESSED * max(1, len(self._roster)) else 0.0

    def flush(self) -> None:
        """Hand what was gathered to the journal, the storage thread and the sockets."""
        if self._journalling is not None:
            self._journalling.flush()
        self._remembered.flush()
        self._outgoing.flush()
        if self._replies:
            # After they were sent: somebody waits for every tenth of a millisecond.
            replies, self._replies = self._replies, []
            for who, reply in replies:
                log_reply(who, reply)
        if self._bulk.stuck:
            self._bulk.retry()

    def close(self) -> None:
        """Write down what was decided, say what waited for that, tell everybody, and stop.

        Nothing is cancelled: a manager that goes on with the journal adopts what runs.
        """
        if self._journalling is not None:
            self._journalling.close(self._loop)
        for peer in self._roster:
            peer.outbox.append(Disconnect("stopping", f"the TaskManager of farm {self.farm!r} is stopping"))
            self._outgoing.flush_peer(peer)
        self._storage.close(self._loop)
        self._remembered.close(self._loop)
        self._desk.close()
        self._end.close()

    # --- from the port ---

    def _readable(self) -> None:
        clock = time.thread_time  # of this thread alone: a busy machine is nobody's fault
        for incoming in self._end.receive():
            if self._end.thrown_out(incoming.route):
                continue  # by what it said before
            began, idle = clock(), 1.0
            try:
                if incoming.identity.invited:
                    self._reply(incoming.route, self._porter.invited(incoming))
                else:
                    idle = self._accept(incoming)
            except ProtocolError as error:
                self._end.refuse(incoming.route, str(error))
                self._reply(incoming.route, Disconnect("protocol", str(error)))
            if idle:
                self._gate.spend(incoming, (clock() - began) * idle, self._clock())
        self._porter.report(self.core.oddities)
        for route in self._end.departed():
            self._departed(route)

    def _departed(self, route: bytes) -> None:
        """A connection ended by itself; the process behind it has a grace to come back."""
        peer, channel = self._roster.unplugged(route, self._clock())
        if peer is not None and channel == "control":
            self._learn(Gone(peer.name))
        elif peer is not None and not peer.met:
            # The late greeting of a process that has said goodbye.
            self._drop(peer.name)

    def _accept(self, incoming: Incoming) -> float:
        """Do what a frame says; return what part of it moved no task."""
        messages = decode_to_manager(incoming.body)
        peer = self._roster.behind(incoming.route)
        now = self._clock()
        idle = 0
        if peer is not None:
            peer.unheard = 0
        for message in messages:
            if peer is None:
                idle += 1
            else:
                idle += self._gate.idle(incoming, peer.name, message, self.epoch)
                fault = self._gate.may_not(incoming.identity, peer.hello.role, peer.role, message)
                if fault and not isinstance(message, Hello):
                    self._turn_away(incoming, peer, fault)
                    return 1.0
            match message:
                case Hello() if peer is not None and peer.hello.boot == message.boot:
                    pass  # a copy: taken for a new connection, it would call what came since into question
                case Hello():
                    peer = self._greet(incoming, message, now)
                case Join():
                    self._reply(incoming.route, Disconnect("role", "this key has joined already"))
                case _ if peer is None:
                    self._end.refuse(incoming.route, f"{type(message).__name__} before Hello")
                    self._reply(incoming.route, Disconnect("protocol", "say Hello first"))
                    return 1.0
                case Chunk():
                    if incoming.data is None or not self._bulk.puller.take(peer.name, message, incoming.data):
                        idle += 1
                        self._end.refuse(incoming.route, "a chunk that nobody asked for")
                case Fetch():
                    self._bulk.fetch(peer.name, message)
                case Absent():
                    self._bulk.puller.absent(peer.name, message.digests)
                case Output():
                    self._relay(peer, message, now)
                case Reported():
                    self._desk.reported(peer, message)
                    self._obey(self.core.receive(peer.name, message, now))
                case AskTime():
                    self._desk.time(peer, message)
                case ReadLog():
                    self._obey(self.core.receive(peer.name, message, now))
                    if fault := self._desk.asked(peer, message):
                        self._turn_away(incoming, peer, fault)
                        return 1.0
                case ReadOutput():
                    self._obey(self.core.receive(peer.name, message, now))
                    if fault := self._desk.outputs.asked(peer, message, now):
                        self._turn_away(incoming, peer, fault)
                        return 1.0
                case OutputPage():
                    self._obey(self.core.receive(peer.name, message, now))
                    if not self._desk.outputs.answered(peer.name, message):
                        idle += 1
                        self._end.refuse(incoming.route, "a page of output that nobody asked for")
                case Goodbye():
                    self._roster.said_goodbye(peer, now)
                    self._obey(self.core.receive(peer.name, message, now))
                case _:
                    self._obey(self.core.receive(peer.name, message, now))
        return min(1.0, idle / max(1, len(messages)))

    def _turn_away(self, incoming: Incoming, peer: Peer, text: str) -> None:
        """Say why nothing more is taken from this process, and hang up."""
        self._end.refuse(incoming.route, text)
        self._reply(incoming.route, Disconnect("role", text))
        if peer.control is not None and peer.control != incoming.route:
            self._reply(peer.control, Disconnect("role", text))
        self._learn(Gone(peer.name))
        self._drop(peer.name, text)

    def _greet(self, incoming: Incoming, hello: Hello, now: float) -> Peer | None:
        identity = incoming.identity
        if identity.role != "local" and not identity.may(hello.role):
            text = f"the key {identity.name!r} is a {identity.role}'s and may not act as {hello.role}"
            self._end.refuse(incoming.route, text)
            self._reply(incoming.route, Disconnect("role", text))
            return None
        role = self._gate.role_of(identity, hello.role)
        peer = self._roster.greet(incoming, hello, role, now)
        if peer is None:
            return None
        if hello.channel == "bulk":
            self._bulk.restart(peer.name)
            return peer
        if self._journalling is not None:
            self._journalling.forget(peer.name)
        self._obey(self.core.connect(peer.name, role, hello, now, owner=identity.key))
        return peer

    def _relay(self, peer: Peer, output: Output, now: float) -> None:
        """Write a task's lines down, and pass them on to its clients; they never enter the core."""
        if self.core.holds(peer.name, output.key, output.attempt):
            self._desk.output(self.core.source(output.key), output)
            for name, session, task in self.core.watchers(output.key, output.attempt):
                client = self._roster.get(name)
                if client is not None:
                    self._outgoing.say(client, TaskOutput(session, task, output.attempt, output.pieces))
        self._obey(self.core.receive(peer.name, Heartbeat(), now))

    def admit(self, hello: Hello, hear: Callable[[FromManager], None]) -> Callable[[ToManager], None]:
        """Let a part of this process be a peer; return by what it speaks. It hears `Disconnect` last."""
        name = self._roster.new_name(hello.role)
        self._inside[name] = hear
        self._obey(self.core.connect(name, hello.role, hello, self._clock()))
        return lambda message: self._obey(self.core.receive(name, message, self._clock()))

    # --- the core's commands ---

    def _learn(self, fact: Fact) -> None:
        self._obey(self.core.learn(fact, self._clock()))

    def _obey(self, commands: Iterable[Command]) -> None:
        for command in commands:
            match command:
                case Send():
                    if self._journalling is None or not self._journalling.hold(command):
                        self._send(command)
                case Record():
                    if self._journalling is not None:
                        self._journalling.record(command)
                case LookUp() | Keep():
                    self._remembered.obey(command)
                case Pin(digests=digests):
                    self._store.pin(digests)
                case Unpin(digests=digests):
                    self._store.unpin(digests)
                case Drop(peer=name, reason=reason):
                    self._drop(name, reason)

    def _tell(self, name: str, message: FromManager) -> None:
        peer = self._roster.get(name)
        if peer is not None:
            self._outgoing.say(peer, message)

    def _send(self, command: Send) -> None:
        hear = self._inside.get(command.peer)
        if hear is not None:
            hear(command.message)
            return
        peer = self._roster.get(command.peer)
        if peer is None:
            return
        message = command.message
        if isinstance(message, Want):
            self._bulk.puller.want(peer.name, [(digest, None) for digest in message.digests])
        else:
            if isinstance(message, Reply):
                self._replies.append((peer.who, message))
            self._outgoing.say(peer, message)

    def _drop(self, name: str, reason: str = "") -> None:
        """Forget a peer; without a reason nobody needs to read of it."""
        hear = self._inside.pop(name, None)
        if hear is not None:
            hear(Disconnect("gone", reason))
        peer = self._roster.remove(name)
        if peer is None:
            return
        level = logging.INFO if reason else logging.DEBUG
        log.log(level, "%s is gone: %s", peer.who, reason or "it said goodbye")
        self._outgoing.flush_peer(peer)
        self._outgoing.forget(peer)
        self._roster.forget(peer)
        self._bulk.forget(name)
        self._desk.forget(name)

    # --- what goes wrong ---

    def _pull_failed(self, peer: str, digests: list[Digest], text: str) -> None:
        known = self._roster.get(peer)
        log.warning("%s cannot deliver %d files: %s", known.who if known else peer, len(digests), text)
        if peer in self._roster:
            self._obey(self.core.receive(peer, Absent(tuple(digests)), self._clock()))

    def _choked(self, peer: Peer) -> None:
        if peer.name in self._roster:
            log.warning("%s does not read; dropped", peer.who)
            self._learn(Gone(peer.name))
            self._drop(peer.name, "does not read")

    def _greedy(self, name: str) -> None:
        peer = self._roster.get(name)
        if peer is not None and peer.bulk is not None:
            self._end.refuse(peer.bulk, "it asked for files and does not read them")
            self._learn(Gone(name))
            self._drop(name, "does not read the files it asked for")

    def _reply(self, route: bytes, message: FromManager) -> None:
        self._end.send(route, encode([message]))
