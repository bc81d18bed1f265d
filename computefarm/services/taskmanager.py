"""The TaskManager's loop: one core, one port, one store, one result cache.

The control thread only receives, decides and sends; hashing, files and SQLite run on the storage thread.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from computefarm import __version__
from computefarm.codec import CHUNK, decode_to_manager, encode
from computefarm.core.commands import (
    Arrived,
    Command,
    Drop,
    Fact,
    Found,
    Gone,
    Keep,
    LookUp,
    NotFound,
    Pin,
    Record,
    Send,
    Unpin,
    Vanished,
)
from computefarm.core.manager import TaskManager
from computefarm.core.tables import LEASE_BEATS
from computefarm.errors import ProtocolError
from computefarm.messages import (
    Absent,
    Chunk,
    Digest,
    Disconnect,
    Fetch,
    FromManager,
    Heartbeat,
    Hello,
    Join,
    Output,
    Result,
    TaskKey,
    TaskOutput,
    Want,
)
from computefarm.store.blobs import BlobStore
from computefarm.store.results import ResultCache
from computefarm.transport.invitation import Enrolment
from computefarm.transport.mailbox import Mailbox
from computefarm.transport.manager_end import Incoming, ManagerEnd

from .bulk import Provider, Puller, StoreShelf
from .gate import Gate
from .loop import Loop
from .offload import Offload
from .peers import Peer

log = logging.getLogger("computefarm.taskmanager")

REVIEW_S = 1.0
"""How soon an idle manager notices that a key was revoked or has expired."""

PACE_S = 0.003
"""Between two turns under pressure; a worker has many times that lying ready then."""

PRESSED = 8
"""Tasks lying ready per connected process from which on the manager takes its time."""

REPORT_S = 1.0
"""Between two reports of who was turned away."""

BACKLOG_BYTES = 64 * 1024 * 1024
"""The same in bytes, and for the files that it asked for."""

BACKLOG_FRAMES = 2000
"""Frames kept for a peer that does not read; then it is dropped, and adopts its session when it returns."""


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
    ) -> None:
        self._end = end
        self._enrolment = enrolment
        self._settle_s = settle_s
        self._store = store
        self._results = results
        self._heartbeat_s = heartbeat_s
        self.epoch = secrets.token_hex(8)
        self.farm = farm
        self._storage = Offload("cf-storage")
        self._lost: Mailbox[tuple[Digest, ...]] = Mailbox()
        self._routes: dict[bytes, Peer] = {}
        self._peers: dict[str, Peer] = {}
        self._by_boot: dict[tuple[str, str], Peer] = {}
        self._dirty: dict[str, Peer] = {}
        self._waiting: dict[str, Peer] = {}
        """Those with a `Placed` held back, looked at again when the first of them is due."""
        self._placed_due = float("inf")
        self._uncontrolled: dict[str, float] = {}
        """Peers without a control connection, and when they are forgotten."""
        self._patience_s = LEASE_BEATS * heartbeat_s
        self._counter = 0
        self._lookups: list[LookUp] = []
        self._keeps: list[tuple[Digest, Result]] = []
        self._bulk_blocked: dict[bytes, list[tuple[bytes, bytes | None]]] = {}

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
        )
        self._gate = Gate(self._end, self.core, time.time)
        self._report_at = loop.clock()
        self._puller = Puller(
            self._store,
            self._storage,
            ask=self._ask_bulk,
            arrived=lambda digests: self._learn(Arrived(tuple(digests))),
            failed=self._pull_failed,
            clock=loop.clock,
        )
        self._provider = Provider(StoreShelf(self._store), self._storage, send=self._send_bulk)
        self._storage.attach(loop)
        self._store.on_lost = self._lost.put
        loop.watch(self._lost.fileno(), self._blobs_lost)
        for source in self._end.sockets():
            loop.watch(source, self._readable)

    def tick(self, now: float) -> None:
        """Let the core and the puller act on the passing of time."""
        if now >= self._review_at:
            # An idle port must be looked at, or a revoked key would stay connected until somebody speaks.
            self._readable()
            self._review_at = now + min(REVIEW_S, self._end.pause_s)
        self._obey(self.core.tick(now))
        self._puller.tick(now)
        for name in [name for name, until in self._uncontrolled.items() if now >= until]:
            self._drop(name, "it has no control connection")

    def next_deadline(self) -> float | None:
        """Return the earlier of the core's and the puller's deadline."""
        deadline = min(self._review_at, self._placed_due)
        for part in (self.core.next_deadline(), self._puller.next_deadline()):
            if part is not None and part < deadline:
                deadline = part
        if self._bulk_blocked or self._dirty:
            deadline = min(deadline, self._clock() + 0.01)
        return deadline

    def pace(self) -> float:
        """Wait for company while every worker has tasks lying ready."""
        return PACE_S if self.core.sent_ahead >= PRESSED * max(1, len(self._peers)) else 0.0

    def flush(self) -> None:
        """Hand gathered look-ups to the storage thread and gathered messages to the socket."""
        if self._lookups:
            lookups, self._lookups = self._lookups, []
            self._storage.submit(partial(self._find, lookups), self._looked_up)
        if self._keeps:
            keeps, self._keeps = self._keeps, []
            self._storage.submit(partial(self._results.put_many, keeps), self._kept)
        if self._clock() >= self._placed_due:
            self._dirty.update(self._waiting)
            self._waiting = {}
            self._placed_due = float("inf")
        if self._dirty:
            dirty, self._dirty = self._dirty, {}
            for peer in dirty.values():
                self._flush_peer(peer)
        if self._bulk_blocked:
            self._retry_bulk()

    def close(self) -> None:
        """Tell everybody and stop."""
        for peer in list(self._peers.values()):
            peer.outbox.append(Disconnect("stopping", f"the TaskManager of farm {self.farm!r} is stopping"))
            self._flush_peer(peer)
        self._storage.close(self._loop)
        self._loop.unwatch(self._lost.fileno())
        self._store.on_lost = None
        self._lost.close()
        self._end.close()
        self._results.close()

    # --- from the port ---

    def _readable(self) -> None:
        clock = time.perf_counter
        for incoming in self._end.receive():
            if self._end.gone(incoming.route):
                continue  # thrown out by what it said before
            began, idle = clock(), 1.0
            try:
                if incoming.identity.invited:
                    self._invited(incoming)
                else:
                    idle = self._accept(incoming)
            except ProtocolError as error:
                self._end.refuse(incoming.route, str(error))
                self._reply(incoming.route, Disconnect("protocol", str(error)))
            if idle:
                self._gate.spend(incoming, (clock() - began) * idle, self._clock())
        self._report_refusals()
        for route in self._end.departed():
            self._departed(route)

    def _report_refusals(self) -> None:
        """Log who was turned away, equal cases in one line, so that a flood of them fills no disk."""
        now = self._clock()
        if now < self._report_at:
            return
        refusals = self._end.refusals()
        for refusal in refusals:
            log.warning("%s", refusal)
        for complaint in self._end.complaints():
            log.warning("%s", complaint)
        if refusals:
            self._report_at = now + REPORT_S

    def _departed(self, route: bytes) -> None:
        """A connection ended by itself; the process behind it has a grace to come back."""
        self._bulk_blocked.pop(route, None)
        peer = self._routes.pop(route, None)
        if peer is None:
            return  # its process has connected anew already
        if peer.bulk == route:
            peer.bulk = None
        if peer.control == route:
            peer.control = None
            peer.forget_unsent()
            self._uncontrolled[peer.name] = self._clock() + self._patience_s
            self._learn(Gone(peer.name))

    def _invited(self, incoming: Incoming) -> None:
        """A key out of an invitation may say one thing: Join."""
        answer: FromManager = Disconnect("role", "an invitation is good for joining and nothing else")
        try:
            messages = decode_to_manager(incoming.body)
        except ProtocolError as error:
            messages = []
            answer = Disconnect("protocol", str(error))
        if len(messages) == 1 and isinstance(messages[0], Join) and self._enrolment is not None:
            answer = self._enrolment.join(incoming.identity, messages[0], time.time())
            log.info("invitation of role %s: %s", incoming.identity.enrols, answer)
        self._reply(incoming.route, answer)

    def _accept(self, incoming: Incoming) -> float:
        """Do what a frame says; return what part of it moved no task."""
        messages = decode_to_manager(incoming.body)
        peer = self._routes.get(incoming.route)
        now = self._clock()
        idle = 0
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
                case Hello():
                    peer = self._greet(incoming, message, now)
                case Join():
                    self._reply(incoming.route, Disconnect("role", "this key has joined already"))
                case _ if peer is None:
                    self._end.refuse(incoming.route, f"{type(message).__name__} before Hello")
                    self._reply(incoming.route, Disconnect("protocol", "say Hello first"))
                    return 1.0
                case Chunk():
                    if incoming.data is None or not self._puller.take(peer.name, message, incoming.data):
                        idle += 1
                        self._end.refuse(incoming.route, "a chunk that nobody asked for")
                case Fetch():
                    self._provider.fetch(peer.name, message)
                case Absent():
                    self._puller.absent(peer.name, message.digests)
                case Output():
                    self._relay(peer, message, now)
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
        peer = self._by_boot.get((identity.key, hello.boot))
        if peer is None or peer.role != role:
            self._counter += 1
            peer = Peer(f"{hello.role}-{self._counter}", identity.key, role, hello)
            where = self._end.address_of(incoming.route)
            peer.who = f"{peer.name} ({hello.hostname}, key {identity.name} at {where or 'this process'})"
            self._by_boot[identity.key, hello.boot] = peer
            self._peers[peer.name] = peer
        self._routes[incoming.route] = peer
        if hello.channel == "bulk":
            self._forget_route(peer.bulk)
            peer.bulk = incoming.route
            if peer.control is None:
                self._uncontrolled.setdefault(peer.name, now + self._patience_s)
            self._puller.restart(peer.name)
        else:
            self._forget_route(peer.control)
            peer.control = incoming.route
            self._uncontrolled.pop(peer.name, None)
            peer.forget_unsent()
            self._obey(self.core.connect(peer.name, role, hello, now, owner=identity.key))
        return peer

    def _forget_route(self, route: bytes | None) -> None:
        if route is not None:
            self._routes.pop(route, None)
            self._end.drop(route)
            self._bulk_blocked.pop(route, None)

    def _relay(self, peer: Peer, output: Output, now: float) -> None:
        """Pass a task's lines on to whoever asked for the task; they never enter the core."""
        if self.core.holds(peer.name, output.key, output.attempt):
            for name, session, task in self.core.watchers(output.key, output.attempt):
                client = self._peers.get(name)
                if client is not None:
                    self._say(client, TaskOutput(session, task, output.attempt, output.pieces))
        self._obey(self.core.receive(peer.name, Heartbeat(), now))

    # --- the core's commands ---

    def _learn(self, fact: Fact) -> None:
        self._obey(self.core.learn(fact, self._clock()))

    def _obey(self, commands: Iterable[Command]) -> None:
        for command in commands:
            match command:
                case Send(peer=name, message=message):
                    peer = self._peers.get(name)
                    if peer is None:
                        continue
                    if isinstance(message, Want):
                        self._puller.want(name, [(digest, None) for digest in message.digests])
                    else:
                        self._say(peer, message)
                case Record():
                    pass
                case LookUp():
                    self._lookups.append(command)
                case Keep(digest=digest, result=result):
                    self._keeps.append((digest, result))
                case Pin(digests=digests):
                    self._store.pin(digests)
                case Unpin(digests=digests):
                    self._store.unpin(digests)
                case Drop(peer=name, reason=reason):
                    self._drop(name, reason)

    def _drop(self, name: str, reason: str) -> None:
        peer = self._peers.pop(name, None)
        if peer is None:
            return
        log.info("%s is gone: %s", peer.who, reason)
        self._flush_peer(peer)
        self._dirty.pop(name, None)
        self._waiting.pop(name, None)
        self._uncontrolled.pop(name, None)
        self._forget_route(peer.control)
        self._forget_route(peer.bulk)
        boot = (peer.owner, peer.hello.boot)
        if self._by_boot.get(boot) is peer:
            del self._by_boot[boot]
        self._puller.forget(name)

    # --- the storage thread's side ---

    def _find(self, lookups: Sequence[LookUp]) -> list[tuple[TaskKey, Result | None]]:
        known = self._results.get_many([lookup.digest for lookup in lookups])
        return [(lookup.key, known.get(lookup.digest)) for lookup in lookups]

    def _looked_up(self, value: Any, error: BaseException | None) -> None:
        if error is not None:
            raise error
        for key, result in value:
            if result is None:
                self._learn(NotFound(key))
                continue
            for entry in result.outputs:
                if entry.digest not in self._store:
                    self._store.refresh(entry.digest)
            self._learn(Found(key, result))

    def _kept(self, value: Any, error: BaseException | None) -> None:
        if error is not None:
            log.error("the result cache cannot be written: %s", error)
        if self._store.wants_room:
            self._storage.submit(self._store.evict, self._evicted)

    def _evicted(self, _value: Any, error: BaseException | None) -> None:
        if error is not None:
            log.error("the store cannot be trimmed: %s", error)

    def _blobs_lost(self) -> None:
        """Evicted, or found damaged by whichever thread looked."""
        lost = tuple(digest for group in self._lost.drain() for digest in group if digest not in self._store)
        if lost:
            self._learn(Vanished(lost))

    def _pull_failed(self, peer: str, digests: list[Digest], text: str) -> None:
        known = self._peers.get(peer)
        log.warning("%s cannot deliver %d files: %s", known.who if known else peer, len(digests), text)
        if peer in self._peers:
            self._obey(self.core.receive(peer, Absent(tuple(digests)), self._clock()))

    # --- to the port ---

    def _say(self, peer: Peer, message: FromManager) -> None:
        peer.gather(message, self._clock())
        self._dirty[peer.name] = peer

    def _flush_peer(self, peer: Peer) -> None:
        peer.close_turn(self._clock())
        if peer.placed:
            self._placed_due = min(self._placed_due, peer.placed_due)
            self._waiting[peer.name] = peer
        while peer.frames:
            if peer.control is None or not self._end.send(peer.control, peer.frames[0]):
                if peer.control is None or self._end.gone(peer.control):
                    # It will be told again what still matters when it comes back.
                    peer.frames.clear()
                break
            del peer.frames[0]
        many = len(peer.frames) > BACKLOG_FRAMES // 40 and sum(map(len, peer.frames)) > BACKLOG_BYTES
        if many or len(peer.frames) > BACKLOG_FRAMES:
            log.warning("%s does not read; dropped", peer.who)
            self._learn(Gone(peer.name))
            self._drop(peer.name, "does not read")
        elif peer.frames:
            self._dirty[peer.name] = peer

    def _reply(self, route: bytes, message: FromManager) -> None:
        self._end.send(route, encode([message]))

    def _ask_bulk(self, name: str, request: Fetch) -> None:
        peer = self._peers.get(name)
        if peer is not None and peer.bulk is not None:
            self._send_on_bulk(peer.bulk, encode([request]), None)

    def _send_bulk(self, name: str, message: Chunk | Absent, data: bytes | None) -> None:
        peer = self._peers.get(name)
        if peer is not None and peer.bulk is not None:
            self._send_on_bulk(peer.bulk, encode([message]), data)

    def _send_on_bulk(self, route: bytes, body: bytes, data: bytes | None) -> None:
        blocked = self._bulk_blocked.get(route)
        if blocked is not None:
            blocked.append((body, data))
            if len(blocked) > BACKLOG_BYTES // CHUNK:
                self._end.refuse(route, "it asked for files and does not read them")
                self._bulk_blocked.pop(route, None)
                peer = self._routes.get(route)
                if peer is not None:
                    self._learn(Gone(peer.name))
                    self._drop(peer.name, "does not read the files it asked for")
        elif not self._end.send(route, body, data) and not self._end.gone(route):
            self._bulk_blocked[route] = [(body, data)]

    def _retry_bulk(self) -> None:
        for route, blocked in list(self._bulk_blocked.items()):
            while blocked and self._end.send(route, *blocked[0]):
                del blocked[0]
            if not blocked or self._end.gone(route):
                del self._bulk_blocked[route]
