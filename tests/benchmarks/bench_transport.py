"""What ManagerEnd and PeerEnd cost on top of raw ZeroMQ sockets with CURVE. Run: pytest -m benchmark -s."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq

from computefarm.home import Home
from computefarm.transport.farms import open_farm, publish
from computefarm.transport.keys import KeyPair
from computefarm.transport.mailbox import Mailbox
from computefarm.transport.manager_end import ManagerEnd
from computefarm.transport.peer_end import PeerEnd

pytestmark = pytest.mark.benchmark

BODY = b"x" * 120
CHUNK = b"y" * (1 << 20)
MESSAGES, TRIPS, CHUNKS, WINDOW = 40_000, 2_000, 300, 64

WAIT_MS = 5000


class Raw:
    """A bare ROUTER or DEALER with CURVE, spoken to with three frames like ours."""

    def __init__(self, context: zmq.Context, server: KeyPair, client: KeyPair | None, address: str) -> None:
        self.socket = context.socket(zmq.ROUTER if client is None else zmq.DEALER)
        self.socket.linger = 0
        if client is None:
            self.socket.curve_server = 1
            self.socket.curve_secretkey = server.secret.encode()
            self.socket.bind(address)
        else:
            self.socket.curve_serverkey = server.public.encode()
            self.socket.curve_publickey = client.public.encode()
            self.socket.curve_secretkey = client.secret.encode()
            self.socket.connect(address)


def serve(stop: threading.Event, sockets: list[zmq.Socket], turn: Callable[[], None]) -> threading.Thread:
    def loop() -> None:
        poller = zmq.Poller()
        for socket in sockets:
            poller.register(socket, zmq.POLLIN)
        while not stop.is_set():
            if poller.poll(100):
                turn()

    thread = threading.Thread(target=loop)
    thread.start()
    return thread


def measure(
    send: Callable[[bytes | None], bool], take: Callable[[], int], wait: Callable[[], object]
) -> dict[str, float]:
    """Return µs per message (one way, answered once at the end), µs per round trip, MB/s of chunks."""

    def push(count: int, data: bytes | None) -> float:
        start = time.perf_counter()
        left = count
        got = 0
        while got < count:
            # A window, as our own flow control has: without one the answers overflow the other end's queue.
            while left and count - left - got < WINDOW and send(data):
                left -= 1
            assert wait(), f"nothing came for {WAIT_MS} ms: {got} of {count} answered"
            got += take()
        return time.perf_counter() - start

    push(200, None)
    found = {"message": push(MESSAGES, None) / MESSAGES * 1e6}
    start = time.perf_counter()
    for _ in range(TRIPS):
        push(1, None)
    found["trip"] = (time.perf_counter() - start) / TRIPS * 1e6
    found["chunks"] = CHUNKS * len(CHUNK) / push(CHUNKS, CHUNK) / 1e6
    return found


def raw_figures() -> dict[str, float]:
    context, other = zmq.Context(), zmq.Context()
    server, client = KeyPair.make(), KeyPair.make()
    end = Raw(context, server, None, "tcp://127.0.0.1:*").socket
    peer = Raw(other, server, client, end.last_endpoint.decode()).socket

    def turn() -> None:
        while True:
            try:
                frames = end.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            # Every message is answered by a small one: credit, as in our own protocol.
            end.send_multipart([frames[0], b"CFARM1", b"ok"])

    def send(data: bytes | None) -> bool:
        try:
            peer.send_multipart([b"CFARM1", BODY] if data is None else [b"CFARM1", BODY, data], zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def take() -> int:
        count = 0
        while True:
            try:
                peer.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return count
            count += 1

    stop = threading.Event()
    thread = serve(stop, [end], turn)
    try:
        return measure(send, take, lambda: peer.poll(WAIT_MS))
    finally:
        stop.set()
        thread.join()
        for socket in (end, peer):
            socket.close()
        context.term()
        other.term()


def our_figures(tmp_path: Path) -> dict[str, float]:
    context, other = zmq.Context(), zmq.Context()
    farm = open_farm(Home.find({"CF_HOME": str(tmp_path)}), "bench")
    end = ManagerEnd(context, farm.keys, farm.table)
    access = publish(farm, end.bind("tcp://127.0.0.1:*"))

    def turn() -> None:
        while got := end.receive():
            for incoming in got:
                end.send(incoming.route, b"ok")

    stop = threading.Event()
    thread = serve(stop, end.sockets(), turn)
    peer = PeerEnd(other, access.address, server_key=access.server_key, keys=access.keys("worker"))
    poller = zmq.Poller()
    for socket in peer.sockets():
        poller.register(socket, zmq.POLLIN)
    while not peer.up:
        poller.poll(WAIT_MS)
        peer.events()
    try:
        return measure(
            lambda data: peer.send(BODY, data), lambda: len(peer.receive()), lambda: poller.poll(WAIT_MS)
        )
    finally:
        stop.set()
        thread.join()
        peer.close()
        end.close()
        context.term()
        other.term()


def test_transport_against_raw_sockets(tmp_path: Path) -> None:
    raw, ours = raw_figures(), our_figures(tmp_path)

    print(f"\n{'':28}{'raw CURVE':>12}{'ours':>12}{'ratio':>8}")
    for name, title in (
        ("message", "µs per message + answer"),
        ("trip", "µs per round trip"),
        ("chunks", "MB/s in 1 MiB chunks"),
    ):
        print(f"{title:28}{raw[name]:12.1f}{ours[name]:12.1f}{ours[name] / raw[name]:8.2f}")
    assert ours.keys() == raw.keys()


def test_mailbox() -> None:
    box: Mailbox[int] = Mailbox()
    count = 200_000
    start = time.perf_counter()
    for number in range(count):
        box.put(number)
    put = (time.perf_counter() - start) / count * 1e9
    start = time.perf_counter()
    assert len(box.drain()) == count
    drain = (time.perf_counter() - start) / count * 1e9
    box.close()

    print(f"\nmailbox: put {put:.0f} ns while awake, drain {drain:.0f} ns an item")
