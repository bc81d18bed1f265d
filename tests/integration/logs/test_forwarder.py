"""The forwarder against a window that reads, sleeps, closes, comes back."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from computefarm.logs.window.forwarder import LONGEST, Forwarder


def until(condition: Callable[[], bool], patience_s: float = 60.0) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


class Server:
    """Takes one connection after the other and keeps their frames; reads only while `reading` is set."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(0.1)
        self.port = self.listener.getsockname()[1]
        self.frames: list[bytes] = []
        self.connections = 0
        self.reading = threading.Event()
        self.reading.set()
        self.hang_up = threading.Event()
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self) -> None:
        while not self.ending.is_set():
            try:
                connection, _ = self.listener.accept()
            except TimeoutError:
                continue
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            self.connections += 1
            with connection:
                self.serve(connection)

    def serve(self, connection: socket.socket) -> None:
        buffer = b""
        connection.settimeout(0.05)
        while not self.ending.is_set() and not self.hang_up.is_set():
            if not self.reading.wait(0.05):
                continue
            try:
                data = connection.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                return
            if not data:
                return
            buffer += data
            while len(buffer) >= 4 and len(buffer) >= 4 + (size := struct.unpack(">L", buffer[:4])[0]):
                self.frames.append(buffer[4 : 4 + size])
                buffer = buffer[4 + size :]
        self.hang_up.clear()

    def records(self) -> list[dict[str, object]]:
        return [json.loads(frame) for frame in list(self.frames) if not frame.startswith(b"!!")]

    def messages(self) -> list[object]:
        return [record["msg"] for record in self.records()]

    def close(self) -> None:
        self.ending.set()
        self.reading.set()
        self.thread.join(5)
        self.listener.close()


@pytest.fixture
def server() -> Iterator[Server]:
    there = Server()
    yield there
    there.close()


def record(number: int, text: str = "") -> dict[str, object]:
    return {"created": 1.5, "name": "farm.r.h.gcc", "level": "info", "msg": text or f"line {number}", "seq": number}


def test_json_is_asked_for_before_anything_else_and_records_keep_their_order(server: Server) -> None:
    forwarder = Forwarder("127.0.0.1", server.port)
    for number in range(1000):
        forwarder.put(record(number))
    until(lambda: len(server.frames) == 1001)
    assert server.frames[0] == b"!!cutelog!!format=json"
    assert server.messages() == [f"line {number}" for number in range(1000)]
    assert forwarder.dropped == 0
    forwarder.close()


def test_closing_sends_what_waits(server: Server) -> None:
    forwarder = Forwarder("127.0.0.1", server.port)
    for number in range(100):
        forwarder.put(record(number))
    forwarder.close()
    until(lambda: len(server.records()) == 100)


def test_a_frozen_window_stalls_nobody_and_is_told_what_it_missed(server: Server) -> None:
    forwarder = Forwarder("127.0.0.1", server.port, capacity=50)
    forwarder.put(record(0))
    until(lambda: len(server.records()) == 1)
    server.reading.clear()
    slowest = 0.0
    for number in range(1, 20_001):
        before = time.perf_counter()
        forwarder.put(record(number, f"line {number} " + "x" * 500))
        slowest = max(slowest, time.perf_counter() - before)
    until(lambda: forwarder.dropped > 0)
    server.reading.set()
    until(lambda: any(r.get("seq") == 20_000 for r in server.records()))
    told = [r for r in server.records() if r["name"] == "farm"]
    shown = sum(int(str(r["msg"]).split()[0]) for r in told)
    assert shown == forwarder.dropped
    assert len(server.records()) - len(told) + forwarder.dropped == 20_001
    print(f"slowest put {slowest * 1e3:.1f} ms, dropped {forwarder.dropped}")
    forwarder.close()


def test_a_window_that_never_reads_does_not_hold_up_the_end(server: Server) -> None:
    server.reading.clear()
    forwarder = Forwarder("127.0.0.1", server.port, capacity=5000)
    for number in range(5000):
        forwarder.put(record(number, "x" * 2000))
    before = time.monotonic()
    forwarder.close(patience_s=0.5)
    assert forwarder.ended.is_set()
    assert time.monotonic() - before < 5
    assert not forwarder._thread.is_alive()


def test_a_window_that_closes_and_comes_back_is_found_again(server: Server) -> None:
    forwarder = Forwarder("127.0.0.1", server.port)
    forwarder.put(record(0))
    until(lambda: len(server.records()) == 1)
    server.hang_up.set()
    number = 1
    deadline = time.monotonic() + 15
    while server.connections < 2:
        assert time.monotonic() < deadline
        forwarder.put(record(number))
        number += 1
        time.sleep(0.01)
    forwarder.put(record(number, "after"))
    until(lambda: "after" in server.messages())
    assert server.frames.count(b"!!cutelog!!format=json") == 2
    forwarder.close()


def test_a_window_that_is_gone_for_good_ends_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    forwarder = Forwarder("127.0.0.1", port, alive=lambda: False)
    assert forwarder.ended.wait(10)
    forwarder.put(record(1))
    forwarder.close()


def test_a_window_that_closes_is_noticed_although_nothing_is_to_be_said(server: Server) -> None:
    there = True
    forwarder = Forwarder("127.0.0.1", server.port, alive=lambda: there)
    forwarder.put(record(0))
    until(lambda: len(server.records()) == 1)
    assert not forwarder.ended.wait(0.3)
    there = False
    server.hang_up.set()
    assert forwarder.ended.wait(5)
    forwarder.put(record(1))
    assert forwarder.dropped == 0
    forwarder.close()


def test_a_message_without_end_is_cut_and_says_so(server: Server) -> None:
    forwarder = Forwarder("127.0.0.1", server.port)
    forwarder.put(record(0, "x" * (LONGEST + 7)))
    until(lambda: len(server.records()) == 1)
    assert str(server.messages()[0]).endswith("… (7 more characters in the file)")
    forwarder.close()


def test_closing_waits_as_long_as_the_window_reads_and_no_longer(server: Server) -> None:
    forwarder = Forwarder("127.0.0.1", server.port)
    until(forwarder.connected.is_set)
    for number in range(50):
        forwarder.put({"msg": f"{number} {'x' * 2000}"})
    forwarder.close()
    until(lambda: len(server.frames) == 51)
    assert forwarder.dropped == 0

    server.reading.clear()
    frozen = Forwarder("127.0.0.1", server.port)
    until(frozen.connected.is_set)
    for number in range(5000):
        frozen.put({"msg": f"{number} {'x' * 2000}"})
    began = time.monotonic()
    frozen.close()
    assert time.monotonic() - began < 3.0


def test_what_is_read_from_a_file_waits_for_the_window(server: Server) -> None:
    forwarder = Forwarder("127.0.0.1", server.port, capacity=10)
    for number in range(500):
        assert forwarder.put_when_room({"msg": str(number)})
    forwarder.close()
    until(lambda: server.messages() == [str(number) for number in range(500)])
    assert forwarder.dropped == 0
    assert not forwarder.put_when_room({"msg": "late"})
