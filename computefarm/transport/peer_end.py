"""The dialling end: one connection of a client, worker or monitor to the manager."""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from enum import StrEnum

import msgspec
import zmq

from computefarm.codec import HEADER
from computefarm.errors import ProtocolError, Unreachable
from computefarm.home import hostname

from .addresses import Address, parse_address
from .authorized import clean_name
from .keys import KeyPair, PublicKey, check_curve, spell
from .monitor import FAILURES, Monitor
from .reach import blocked, not_running, silent, unknown_host
from .wire import BATCH, INPROC, LIMITS, NOW, NOW_MORE, ZERO_COPY, Buffer, check_size

RECONNECT_MS = 100
RECONNECT_MAX_MS = 2000

CONNECT_MS = 3000
"""A connection that takes longer is taken for blocked: a firewall that drops looks like silence."""

LAST_WORDS_MS = 300
"""How long what was said last may take to leave; a live connection needs less than one."""

_BARRED = 500
"""What the manager answers to a key that it knows and does not let in."""

_EVENTS = (
    zmq.EVENT_CONNECTED
    | zmq.EVENT_CONNECT_DELAYED
    | zmq.EVENT_CONNECT_RETRIED
    | zmq.EVENT_CLOSED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | FAILURES
)


class LinkState(StrEnum):
    """How a connection stands."""

    UP = "up"
    """Encrypted and accepted: say Hello."""
    DOWN = "down"
    """It was up and has ended; ZeroMQ dials again, and what was queued is lost."""
    UNREACHABLE = "unreachable"
    """Nobody listens at the address; ZeroMQ dials again."""
    STRANGER = "stranger"
    """Whoever answers does not hold the farm's key; `reconnect` dials again."""
    REFUSED = "refused"
    """The manager does not let our key in; `reconnect` asks again."""


class LinkEvent(msgspec.Struct, frozen=True):
    """A change of a connection, in words for people."""

    state: LinkState
    text: str
    hint: str = ""
    """The next command to type."""


class PeerEnd:
    """A DEALER, CURVE client (or `inproc://`, inside one process).

    Every connection starts afresh: nothing that was queued for a broken connection is sent on the next one,
    so the first message after each `UP` can be Hello. To be used from one thread.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        address: str,
        *,
        server_key: PublicKey = "",
        keys: KeyPair | None = None,
        role: str = "",
        farm: str = "",
    ) -> None:
        """Dial; `role` and `farm` are only for the texts of what goes wrong."""
        self.address = address
        self._role = role or "ROLE"
        self._farm = farm
        self._dialled_s = 0.0
        self._tried = False
        self.state: LinkEvent | None = None
        """The last event."""
        self._inproc = address.startswith(INPROC)
        self._server_key = server_key
        self._keys = keys
        self._monitor: Monitor | None = None
        self._endpoint = address
        self._greeted = False
        self._explained = False
        self._socket = context.socket(zmq.DEALER)
        for option, value in LIMITS:
            self._socket.setsockopt(option, value)
        if not self._inproc:
            self._secure()
            self._monitor = Monitor(context, self._socket, _EVENTS)
            self._endpoint = str(parse_address(address))
        self._socket.connect(self._endpoint)

    def _secure(self) -> None:
        check_curve()
        if self._keys is None or not self._server_key:
            raise ValueError("a connection over TCP needs the manager's key and a key pair")
        self._socket.setsockopt(zmq.IPV6, _wants_ipv6(parse_address(self.address)))
        self._socket.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_MS)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
        self._socket.setsockopt(zmq.CURVE_SERVERKEY, self._server_key.encode())
        self._socket.setsockopt(zmq.CURVE_PUBLICKEY, self._keys.public.encode())
        self._socket.setsockopt(zmq.CURVE_SECRETKEY, self._keys.secret.encode())

    def sockets(self) -> list[zmq.Socket[bytes]]:
        """Return what to poll for reading: when one is ready, call `events` and `receive`."""
        return [self._socket] if self._monitor is None else [self._socket, self._monitor.socket]

    @property
    def up(self) -> bool:
        """Return whether a message can be sent now, as far as `events` has told."""
        return self.state is not None and self.state.state is LinkState.UP

    def events(self) -> list[LinkEvent]:
        """Return what happened to the connection since the last call; equal news is told once."""
        news: list[LinkEvent] = []
        if self._monitor is None:
            if not self._greeted:
                self._greeted = True
                self._tell(LinkEvent(LinkState.UP, "connected"), news)
            return news
        for event, value in self._monitor.read():
            if (told := self._read_event(event, value)) is not None:
                self._tell(told, news)
        return news

    def _tell(self, told: LinkEvent, news: list[LinkEvent]) -> None:
        if told != self.state:
            self.state = told
            news.append(told)

    def _read_event(self, event: int, value: int) -> LinkEvent | None:
        if event == zmq.EVENT_CONNECT_DELAYED:
            self._dialled_s, self._tried = time.monotonic(), True
            return None
        if event == zmq.EVENT_CONNECT_RETRIED:
            tried, self._tried = self._tried, False
            return None if tried else self._unreachable(unknown_host(self.address))
        if event == zmq.EVENT_CONNECTED:
            self._explained, self._tried = False, True
            return None
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            # Makes ZeroMQ look at its mailbox, else the first send may still find no pipe.
            self._socket.getsockopt(zmq.EVENTS)
            return LinkEvent(LinkState.UP, "connected")
        if event == zmq.EVENT_DISCONNECTED:
            if self.up:
                return LinkEvent(LinkState.DOWN, f"the connection to {self.address} ended")
            # ZeroMQ has no word for a server that talks something else.
            return None if self._explained else self._stranger("does not speak ComputeFarm")
        self._explained = True
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return self._barred() if value == _BARRED else self._refused()
        if event == zmq.EVENT_CLOSED:
            in_vain = time.monotonic() - self._dialled_s >= 0.9 * CONNECT_MS / 1000
            return self._unreachable(
                blocked(self.address) if in_vain else not_running(self.address, self._farm)
            )
        if event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL and value not in (errno.EPIPE, errno.ECONNRESET):
            return self._unreachable(silent(self.address))
        return self._stranger("is not the manager that this machine joined")

    def _refused(self) -> LinkEvent:
        return LinkEvent(
            LinkState.REFUSED,
            f"the manager at {self.address} does not know this machine's key, {self._spelled}",
            hint=f"{self._allow}    # on the manager's machine",
        )

    def _barred(self) -> LinkEvent:
        return LinkEvent(
            LinkState.REFUSED,
            f"the manager at {self.address} does not know this machine's key any more: it was revoked, "
            "has expired, may not come from this address, or has just flooded it "
            "(`cf-taskmanager keys` says which)",
            hint=f"{self._allow}    # on the manager's machine, to let it in again",
        )

    @property
    def _spelled(self) -> str:
        return spell(self._keys.public) if self._keys else ""

    @property
    def _allow(self) -> str:
        return f"cf-taskmanager allow {self._spelled} --role {self._role} --as {clean_name(hostname())}"

    def _stranger(self, what: str) -> LinkEvent:
        return LinkEvent(
            LinkState.STRANGER,
            f"what answers at {self.address} {what}",
            hint=f"cf-taskmanager invite --role {self._role}    # on the manager's machine, if the farm "
            "was made anew; then join again here with the line it prints",
        )

    def _unreachable(self, error: Unreachable) -> LinkEvent:
        return LinkEvent(LinkState.UNREACHABLE, error.args[0], hint=error.hint)

    def receive(self, limit: int = BATCH) -> list[tuple[bytes, Buffer | None]]:
        """Return the bodies (each with its data frame, if any) that arrived, at most `limit`.

        Raises `ProtocolError` when the manager sent something that is not ComputeFarm's.
        """
        got: list[tuple[bytes, Buffer | None]] = []
        receive = self._socket.recv
        for _ in range(limit):
            try:
                header = receive(NOW)
            except zmq.Again:
                break
            if header != HEADER or not self._socket.getsockopt(zmq.RCVMORE):
                self._skip()
                raise ProtocolError(f"what answers at {self.address} does not speak ComputeFarm")
            body = receive(NOW)
            data: Buffer | None = None
            if self._socket.getsockopt(zmq.RCVMORE):
                data = self._socket.recv(zmq.NOBLOCK, copy=False).buffer
                self._skip()
            got.append((body, data))
        return got

    def _skip(self) -> None:
        while self._socket.getsockopt(zmq.RCVMORE):
            self._socket.recv(zmq.NOBLOCK)

    def send(self, body: bytes, data: Buffer | None = None) -> bool:
        """Queue a message; return False when the connection is not up or the queue is full."""
        check_size(body, data)
        if self._try(body, data):
            return True
        # ZeroMQ looks at its mailbox only once a millisecond while sending.
        return bool(self._socket.poll(0, zmq.POLLOUT)) and self._try(body, data)

    def _try(self, body: bytes, data: Buffer | None) -> bool:
        send = self._socket.send
        try:
            send(HEADER, NOW_MORE)
        except zmq.Again:
            return False
        if data is None:
            send(body, NOW)
        else:
            send(body, NOW_MORE)
            send(data, NOW, copy=len(data) < ZERO_COPY)
        return True

    def reconnect(self) -> None:
        """Hang up and dial again at once; what then happens is told, even if it is no news."""
        if self._monitor is None:
            return
        with contextlib.suppress(zmq.ZMQError):  # there is nothing to hang up when ZeroMQ has given up
            self._socket.disconnect(self._endpoint)
        self.state = None
        self._socket.connect(self._endpoint)

    def close(self, *, last_words: bool = False) -> None:
        """Hang up; what is still queued is lost, or with `last_words` has a moment to get out."""
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None
        self._socket.close(linger=LAST_WORDS_MS if last_words and self.up else 0)


def _wants_ipv6(where: Address) -> bool:
    """Return whether to dial by IPv6: a literal, or a name that has no other address."""
    if where.is_ipv6:
        return True
    try:
        return all(found[0] == socket.AF_INET6 for found in socket.getaddrinfo(where.host, where.port))
    except OSError:
        return False
