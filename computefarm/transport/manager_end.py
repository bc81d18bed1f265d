"""The listening end: the farm's one port."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable

import zmq

from computefarm.codec import HEADER
from computefarm.errors import UsageError

from .addresses import Address, parse_address, plain_ip
from .authorized import Authorization, Authorized
from .connection import Connection, Incoming, Route, property_of
from .keys import KeyPair, PublicKey, check_curve
from .monitor import FAILURES, Monitor
from .refusals import Refusal, Refusals
from .strangers import Strangers
from .tcp import bind_error, far_end, hang_up, resolved, shuffle_routes
from .wire import (
    BATCH,
    INPROC,
    LIMITS,
    MANAGER_LIMITS,
    NOW,
    NOW_MORE,
    UNREAD,
    ZERO_COPY,
    Buffer,
    check_size,
    on_the_wire,
)
from .zap import DOMAIN, Door, objection

__all__ = ["LOCAL", "Incoming", "ManagerEnd", "Route"]

LOCAL = Authorization(role="local", name="this process")


_EVENTS = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | FAILURES

CALM_S = 1.0
"""Between two looks at what has come in and was not handed on."""

ALERT_S = 0.05
"""The same while somebody has sent much that nobody could read yet."""

LAST_WORDS_S = 0.2
"""What a peer is told before its connection ends needs a moment to get there."""

_HEADER_BYTES = on_the_wire(len(HEADER))


class ManagerEnd:
    """A ROUTER: CURVE over TCP with its own door keeper, or `inproc://` inside one process.

    Over TCP there is no way to run it without keys. To be used from one thread.
    Poll `sockets()`; when any is ready call `receive`, then look at `departed` and `refusals`.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        keys: KeyPair | None = None,
        table: Authorized | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._context = context
        self._keys = keys
        self._table = table
        self._clock = clock
        shuffle_routes()
        self._socket = context.socket(zmq.ROUTER)
        self._door: Door | None = None
        self._monitor: Monitor | None = None
        self._peers: dict[Route, Connection] = {}
        self._by_descriptor: dict[int, Route] = {}
        self._strangers = Strangers()
        self._doomed: deque[tuple[float, int, tuple[str, int]]] = deque()
        """Connections to end, and when."""
        self.ended: Counter[PublicKey] = Counter()
        """Connections of each key that were ended because the table no longer lets it in."""
        self._barred: dict[PublicKey, float] = {}
        self._look_at = 0.0
        self._pause_s = CALM_S
        self._failure = 0
        self._ending: list[Route] = []
        self._unmet: dict[int, tuple[str, str]] = {}
        """Connections that ended before anything of theirs was read: address, and what to say of them."""
        self._departed: list[Route] = []
        self._refusals = Refusals()
        self._next_expiry = float("inf")
        self._judged = -1
        self._complaints: list[str] = []
        self._closed = False
        for option, value in LIMITS:
            self._socket.setsockopt(option, value)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.setsockopt(zmq.ROUTER_HANDOVER, 0)

    # --- opening and closing --------------------------------------------------------------------------

    def bind(self, listen: str) -> str:
        """Listen at `tcp://HOST:PORT` (port `*`: any free one) or `inproc://NAME`; return the real address.

        Raises `UsageError` when the port is taken or the address is not ours.
        """
        if listen.startswith(INPROC):
            if self._keys is not None:
                raise UsageError("a farm with keys listens on TCP")
            self._socket.bind(listen)
            return listen
        where = parse_address(listen)
        self._guard(where)
        try:
            self._socket.bind(resolved(where))
        except zmq.ZMQError as error:
            raise bind_error(where, error) from error
        return str(parse_address(self._socket.get_string(zmq.LAST_ENDPOINT)))

    def _guard(self, where: Address) -> None:
        """Switch on everything that keeps strangers out."""
        check_curve()
        if self._keys is None or self._table is None:
            raise UsageError("a farm on TCP needs a key pair and an authorized file")
        self._door = Door(self._context, self._table, self._clock, self._refusals.add, self._bar_of)
        for option, value in (
            *MANAGER_LIMITS,
            (zmq.IPV6, int(where.is_ipv6)),
            (zmq.CURVE_SERVER, 1),
            (zmq.CURVE_SECRETKEY, self._keys.secret.encode()),
            (zmq.CURVE_PUBLICKEY, self._keys.public.encode()),
            (zmq.ZAP_DOMAIN, DOMAIN),
            # Without this ZeroMQ lets everybody in when the door keeper is missing.
            (zmq.ZAP_ENFORCE_DOMAIN, 1),
        ):
            self._socket.setsockopt(option, value)
        self._monitor = Monitor(self._context, self._socket, _EVENTS)

    def sockets(self) -> list[zmq.Socket[bytes]]:
        """Return what to poll for reading; the list is final after `bind`."""
        found = [self._socket]
        if self._door is not None:
            found.append(self._door.socket)
        if self._monitor is not None:
            found.append(self._monitor.socket)
        return found

    def close(self) -> None:
        """Hang up on everybody; what is still queued is lost."""
        if self._closed:
            return
        self._closed = True
        if self._monitor is not None:
            self._monitor.close()
        self._socket.close(linger=0)
        if self._door is not None:
            self._door.close()

    # --- messages -------------------------------------------------------------------------------------

    def receive(self, limit: int = BATCH) -> list[Incoming]:
        """Let in who may come in, and return the messages that arrived, at most `limit`."""
        if self._door is not None:
            self._door.answer()
            self._watch()
            self._review()
            self._look()
            self._hang_up_on_doomed()
        got: list[Incoming] = []
        receive = self._socket.recv
        more = self._socket.getsockopt
        known = self._peers.get
        for _ in range(limit):
            try:
                route = receive(NOW)
            except zmq.Again:
                self._depart()
                break
            peer = known(route)
            if peer is None:
                incoming = self._first(route)
                if incoming is not None:
                    got.append(incoming)
                continue
            # Frames of one message arrive together, so these never block.
            header = receive()
            identity = peer.identity
            if identity is None or header != HEADER or not more(zmq.RCVMORE):
                self._turn_away(peer, "not a ComputeFarm message" if identity else "")
                continue
            body = receive()
            peer.read += _HEADER_BYTES + on_the_wire(len(body))
            if more(zmq.RCVMORE):
                data = self._socket.recv(copy=False).buffer
                peer.read += on_the_wire(len(data))
                self._skip(peer)
                got.append(Incoming(route, identity, body, data))
            else:
                got.append(Incoming(route, identity, body))
        return got

    def _first(self, route: Route) -> Incoming | None:
        """Take a connection's first message: learn whose it is, and keep out who must not be here."""
        header = self._socket.recv(copy=False)
        if self._door is None:
            peer = Connection("", "", -1)
            peer.identity = LOCAL
        else:
            # An older connection's end is told before a newer one with the same descriptor can speak.
            self._watch()
            peer = self._meet(route, header)
        self._peers[route] = peer
        if self._unmet.pop(peer.descriptor, None) is not None:
            self._ending.append(route)
        elif peer.descriptor >= 0:
            self._strangers.meet(peer.descriptor)
            self._by_descriptor[peer.descriptor] = route
        if peer.identity is None or header.bytes != HEADER or not header.more:
            self._turn_away(peer, "not a ComputeFarm message" if peer.identity else "")
            return None
        body = self._socket.recv()
        peer.read += _HEADER_BYTES + on_the_wire(len(body))
        data: Buffer | None = None
        if self._socket.getsockopt(zmq.RCVMORE):
            data = self._socket.recv(copy=False).buffer
            peer.read += on_the_wire(len(data))
            self._skip(peer)
        return Incoming(route, peer.identity, body, data)

    def _meet(self, route: Route, header: zmq.Frame) -> Connection:
        key, address = property_of(header, "User-Id"), plain_ip(property_of(header, "Peer-Address"))
        peer = Connection(key, address, int(header.get(zmq.SRCFD)))
        if not key:
            self._refusals.add(address, "", "", "a message without a key")
        elif len(route) != 5 or route[0] != 0:
            self._refusals.add(address, key, "", "it chose its own routing id")
            peer.refused = True
        else:
            self._judge(peer)
        if peer.identity is None:
            hang_up(peer.descriptor)
        return peer

    def _turn_away(self, peer: Connection, reason: str) -> None:
        self._skip(peer)
        if reason and peer.identity is not None:
            self._refusals.add(peer.address, peer.key, peer.identity.name, reason)

    def _skip(self, peer: Connection) -> None:
        while self._socket.getsockopt(zmq.RCVMORE):
            peer.read += on_the_wire(len(self._socket.recv(copy=False)))

    def send(self, route: Route, body: bytes, data: Buffer | None = None) -> bool:
        """Queue a message; return False when the peer is gone or refused, or its queue is full.

        `gone` tells the two apart: a full queue is worth another try later.
        """
        check_size(body, data)
        peer = self._peers.get(route)
        if peer is None or peer.identity is None:
            return False
        send = self._socket.send
        try:
            send(route, NOW_MORE)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self._end(route)
            return False
        send(HEADER, NOW_MORE)
        if data is None:
            send(body, NOW)
        else:
            send(body, NOW_MORE)
            send(data, NOW, copy=len(data) < ZERO_COPY)
        return True

    # --- who is there ---------------------------------------------------------------------------------

    def gone(self, route: Route) -> bool:
        """Return whether nothing can be sent to `route` any more."""
        peer = self._peers.get(route)
        return peer is None or peer.identity is None

    def thrown_out(self, route: Route) -> bool:
        """Return whether a peer was hung up on; what one has sent that left by itself still counts."""
        peer = self._peers.get(route)
        return peer is not None and peer.identity is None

    def address_of(self, route: Route) -> str:
        """Return the IP address behind `route`, or the empty string."""
        peer = self._peers.get(route)
        return peer.address if peer else ""

    def departed(self) -> list[Route]:
        """Return the connections that ended or lost their right since the last call.

        Nothing more will be received from them.
        """
        found, self._departed = self._departed, []
        return found

    def drop(self, route: Route) -> None:
        """Hear nothing more from a peer, and hang up when it has been told why; it is not `departed`."""
        peer = self._peers.get(route)
        if peer is not None and not peer.refused:
            peer.identity, peer.refused = None, True
            self._doomed.append((time.monotonic() + LAST_WORDS_S, peer.descriptor, far_end(peer.descriptor)))

    def _hang_up_on_doomed(self) -> None:
        now = time.monotonic()
        while self._doomed and now >= self._doomed[0][0]:
            _, descriptor, far = self._doomed.popleft()
            hang_up(descriptor, far)

    def bar(self, key: PublicKey, until: float) -> int:
        """Hang up on every connection of `key` and let none in until then (wall clock); return how many."""
        self._barred = {k: end for k, end in self._barred.items() if end > self._clock()}
        self._barred[key] = until
        found = [
            route for route, peer in self._peers.items() if peer.key == key and peer.identity is not None
        ]
        for route in found:
            self._departed.append(route)
            self.drop(route)
            hang_up(self._peers[route].descriptor)
        return len(found)

    def _bar_of(self, key: PublicKey) -> str:
        until = self._barred.get(key, 0.0)
        return "it was dropped for flooding a moment ago" if self._clock() < until else ""

    def _look(self) -> None:
        """Hang up on who sends what never ends, and on who has connected and says nothing."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._pause_s = CALM_S
        self._strangers.look(now)
        for route, peer in self._peers.items():
            unread = peer.unread(now) if peer.identity is not None else 0
            if unread > UNREAD:
                text = f"{unread >> 20} MiB came that are no end of a message"
                self._refusals.add(peer.address, peer.key, peer.identity.name if peer.identity else "", text)
                self._departed.append(route)
                self.drop(route)
                hang_up(peer.descriptor)
            elif unread > UNREAD // 16:
                self._pause_s = ALERT_S
        self._look_at = now + self._pause_s

    @property
    def pause_s(self) -> float:
        """Return how soon to call `receive` although nothing came."""
        return ALERT_S if self._doomed else self._pause_s

    @property
    def judged(self) -> int:
        """Return which reading of the authorized file holds now."""
        return self._judged

    def connections(self) -> dict[PublicKey, int]:
        """Return how many live connections each key has."""
        return Counter(peer.key for peer in self._peers.values() if peer.identity is not None)

    def refuse(self, route: Route, reason: str) -> None:
        """Report something that came from `route` as turned away."""
        peer = self._peers.get(route)
        if peer is not None:
            known = self._table.find(peer.key) if self._table is not None else None
            self._refusals.add(peer.address, peer.key, known.name if known else "", reason)

    def complaints(self) -> list[str]:
        """Return what is wrong with the authorized file, once after each reading."""
        found, self._complaints = self._complaints, []
        return found

    def refusals(self) -> list[Refusal]:
        """Return who was turned away since the last call, equal cases counted together."""
        return self._refusals.take()

    def _review(self) -> None:
        """Look up every live connection's key again if the table or the time has changed."""
        assert self._table is not None
        self._table.refresh()
        now = self._clock()
        if self._judged == self._table.version and now < self._next_expiry:
            return
        if self._judged != self._table.version:
            self._complaints = self._table.complaints()
        self._judged = self._table.version
        entries = self._table.entries.values()
        self._next_expiry = min(
            (e.expires_at for e in entries if e.expires_at is not None and e.expires_at > now),
            default=float("inf"),
        )
        for route, peer in self._peers.items():
            was = peer.identity
            self._judge(peer)
            if was is not None and peer.identity is None:
                known = self._table.find(peer.key)
                reason = objection(known, peer.address, now) if known else "its key was taken out of the file"
                self._refusals.add(peer.address, peer.key, was.name, f"{reason}; its connection is closed")
                peer.refused = True
                self.ended[peer.key] += 1
                self._departed.append(route)
                hang_up(peer.descriptor)

    def _judge(self, peer: Connection) -> None:
        entry = self._table.find(peer.key) if self._table is not None and not peer.refused else None
        peer.identity = None if objection(entry, peer.address, self._clock()) else entry

    # --- connections that end -------------------------------------------------------------------------

    def _watch(self) -> None:
        if self._monitor is None:
            return
        for event, value in self._monitor.read():
            if event == zmq.EVENT_ACCEPTED:
                self._tell_unmet(value)
                self._strangers.arrive(value)
            elif event == zmq.EVENT_DISCONNECTED:
                self._ended(value)
            else:
                # The next event is this connection's end.
                self._failure = event

    def _ended(self, descriptor: int) -> None:
        failure, self._failure = self._failure, 0
        address = self._strangers.leave(descriptor)
        route = self._by_descriptor.pop(descriptor, None)
        if route is not None:
            self._ending.append(route)
        elif address is not None and failure != zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            reason = "no ComputeFarm connection, or meant for another manager"
            if not failure:
                reason = "it left without a word of ComputeFarm"
            # What it said may lie unread: a short command is gone before its second Hello is looked at.
            self._unmet[descriptor] = (address, reason)

    def _tell_unmet(self, descriptor: int) -> None:
        """Report a connection that has ended before it was heard."""
        address, reason = self._unmet.pop(descriptor, ("", ""))
        if reason:
            self._refusals.add(address, "", "", reason)

    def _depart(self) -> None:
        """Everything that an ended connection had sent is read now: tell that it ended."""
        for descriptor in list(self._unmet):
            self._tell_unmet(descriptor)
        if self._ending:
            ending, self._ending = self._ending, []
            for route in ending:
                self._end(route)

    def _end(self, route: Route) -> None:
        peer = self._peers.pop(route, None)
        if peer is None:
            return
        if self._by_descriptor.get(peer.descriptor) == route:
            del self._by_descriptor[peer.descriptor]
        if peer.identity is not None:
            self._departed.append(route)
