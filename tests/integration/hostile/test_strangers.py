"""Peers without a key, or with a wrong one: the build beside them does not notice."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from computefarm.codec import HEADER, encode
from computefarm.messages import Heartbeat
from computefarm.transport.keys import KeyPair, spell

BEAT = encode([Heartbeat()])
GREETING = b"\xff" + b"\0" * 8 + b"\x7f" + b"\x03\x01" + b"CURVE".ljust(20, b"\0") + b"\0" + b"\0" * 31


def curve(keys: KeyPair, server: str) -> dict[str, object]:
    return {
        "curve_serverkey": server.encode(),
        "curve_publickey": keys.public.encode(),
        "curve_secretkey": keys.secret.encode(),
    }


class Dealers:
    """Bare ZeroMQ sockets, kept until the end of the test."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._made: list[zmq.Socket[bytes]] = []

    def __call__(self, address: str = "", **options: object) -> zmq.Socket[bytes]:
        made = self._context.socket(zmq.DEALER)
        made.linger = 0
        for name, value in options.items():
            setattr(made, name, value)
        made.connect(address or self._address)
        self._made.append(made)
        return made

    def close(self) -> None:
        """Hang up; harmless when repeated."""
        for one in self._made:
            one.close()
        self._context.term()


@pytest.fixture
def dealers(place: Any) -> Iterator[Dealers]:
    made = Dealers(place.address)
    yield made
    made.close()


def test_no_key(place: Any, dealers: Dealers) -> None:
    place.build()
    before = len(place.log())
    dealers().send_multipart([HEADER, BEAT])
    place.logged(r"refused a connection( at 127\.0\.0\.1)?: no ComputeFarm connection", before)


def test_unknown_key(place: Any) -> None:
    place.build()
    keys = KeyPair.make()
    evil = place.evil(keys=keys)
    with contextlib.suppress(zmq.Again):
        evil.socket.send_multipart([HEADER, BEAT], zmq.NOBLOCK)
    place.logged(rf"refused \(key {spell(keys.public)}\) at 127\.0\.0\.1: unknown key")
    evil.listen(0.2)
    assert evil.heard == []


def test_key_for_another_manager(place: Any, dealers: Dealers) -> None:
    place.build()
    before = len(place.log())
    made = dealers(**curve(place.keys["client"], KeyPair.make().public))
    made.send_multipart([HEADER, BEAT])
    place.logged(
        r"refused a connection( at 127\.0\.0\.1)?: no ComputeFarm connection, or meant for another", before
    )


class Tap:
    """Carries a connection to the manager, and keeps what was sent there."""

    def __init__(self, port: int) -> None:
        self.recorded = bytearray()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._far = port
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        near, _ = self._server.accept()
        far = socket.create_connection(("127.0.0.1", self._far))
        with near, far:
            back = threading.Thread(target=self._carry, args=(far, near, None), daemon=True)
            back.start()
            self._carry(near, far, self.recorded)
            with contextlib.suppress(OSError):
                far.shutdown(socket.SHUT_RDWR)
            back.join()

    @staticmethod
    def _carry(source: socket.socket, target: socket.socket, keep: bytearray | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if keep is not None:
                    keep += data
                target.sendall(data)

    def close(self) -> None:
        self._server.close()
        self._thread.join(10)


def test_a_recorded_session_played_again(place: Any, dealers: Dealers) -> None:
    place.build()
    tap = Tap(place.port)
    known = curve(place.keys["worker"], place.access.server_key)
    made = dealers(f"tcp://127.0.0.1:{tap.port}", **known)
    secret = encode([Heartbeat()]) + b"a secret that is worth recording"
    made.send_multipart([HEADER, secret])
    assert made.poll(10_000), "the manager says that it does not understand this"
    before = len(place.log())

    with socket.create_connection(("127.0.0.1", place.port)) as link:
        link.sendall(bytes(tap.recorded))
        link.settimeout(10)
        answer = b""
        with contextlib.suppress(OSError):
            while data := link.recv(65536):
                answer += data

    # The manager's own handshake is a new one each time, so the recorded answer to it is worth nothing.
    place.logged(r"refused a connection( at 127\.0\.0\.1)?: no ComputeFarm connection", before)
    assert b"worth recording" not in tap.recorded
    dealers.close()
    tap.close()


@pytest.mark.parametrize(
    "junk",
    [os.urandom(100_000), b"\0" * 5000, b"GET / HTTP/1.1\r\n\r\n", GREETING, b""],
    ids=["random", "zeros", "http", "greeting", "nothing"],
)
def test_random_bytes(place: Any, junk: bytes) -> None:
    place.small_build()
    before = len(place.log())
    with socket.create_connection(("127.0.0.1", place.port)) as link, contextlib.suppress(OSError):
        link.sendall(junk)
        link.shutdown(socket.SHUT_WR)
        link.settimeout(10)
        while link.recv(65536):
            pass
    place.logged(r"refused a connection", before)


def test_a_header_that_claims_a_gigabyte(place: Any) -> None:
    place.build()
    memory, before = place.memory(), len(place.log())
    links = []
    for _ in range(50):
        link = socket.create_connection(("127.0.0.1", place.port))
        link.sendall(GREETING + b"\x06" + struct.pack(">Q", 1 << 30) + b"x" * 10_000)
        links.append(link)
    place.logged(r"refused a connection", before)
    assert place.memory() - memory < 200 << 20
    for link in links:
        link.close()


def test_ten_thousand_junk_connections(place: Any) -> None:
    place.build(200)
    before = len(place.log())
    hard = struct.pack("ii", 1, 0)

    def storm() -> None:
        for number in range(2500):
            with contextlib.suppress(OSError):
                link = socket.create_connection(("127.0.0.1", place.port), timeout=10)
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, hard)
                link.sendall(struct.pack("<Q", number) * 4)
                link.close()

    threads = [threading.Thread(target=storm) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    place.logged(r"refused a connection( at 127\.0\.0\.1)?: .*\(\d+ times\)", before)
    assert place.log()[before:].count("\n") < 1000, "a flood fills no disk"


def test_silent_connections_are_closed_and_keep_nobody_out(place: Any) -> None:
    place.build()
    with contextlib.ExitStack() as stack:
        connect = functools.partial(socket.create_connection, ("127.0.0.1", place.port), timeout=30)
        links = [stack.enter_context(connect()) for _ in range(1500)]
        status = place.call("majordomo", "status")
        assert status.returncode == 0, status.stderr
        for link in links:
            with contextlib.suppress(ConnectionError):
                while link.recv(1000):
                    pass


def test_a_known_key_that_never_says_anything(place: Any) -> None:
    place.small_build()
    evil = place.evil("worker")
    watch = evil.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED)
    events = []
    while len(events) < 2:
        assert watch.poll(30_000), f"only {events}"
        events.append(struct.unpack("<H", watch.recv_multipart()[0][:2])[0])
    assert events == [zmq.EVENT_HANDSHAKE_SUCCEEDED, zmq.EVENT_DISCONNECTED]
    evil.socket.disable_monitor()
    watch.close()
