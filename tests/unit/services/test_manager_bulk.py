"""What one peer asks for costs the manager a few answers at a time, whether it reads them or not."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from computefarm.codec import CHUNK, decode_from_manager
from computefarm.messages import Absent, Chunk, Fetch, Slice
from computefarm.services.bulk import ANSWER, Puller
from computefarm.services.manager_bulk import AHEAD, ASKED, ManagerBulk
from computefarm.services.offload import Offload
from computefarm.store.blobs import BlobStore
from computefarm.transport.manager_end import ManagerEnd


class Later:
    """An `Offload` whose work is done when told to."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[Callable[[], Any], Any]] = deque()

    def submit(self, work: Callable[[], Any], then: Any = None) -> None:
        self.waiting.append((work, then))

    def step(self) -> None:
        work, then = self.waiting.popleft()
        value = work()
        if then is not None:
            then(value, None)

    def work(self) -> None:
        while self.waiting:
            self.step()


class End:
    """A connection that takes `room` messages."""

    def __init__(self) -> None:
        self.room = 0
        self.sent: list[tuple[bytes, bytes | None]] = []
        self.left: set[bytes] = set()

    def send(self, _route: bytes, body: bytes, data: bytes | None = None) -> bool:
        if not self.room:
            return False
        self.room -= 1
        self.sent.append((body, data))
        return True

    def gone(self, route: bytes) -> bool:
        return route in self.left


class Bench:
    """A manager's bulk side with one blob of three chunks."""

    def __init__(self, folder: Path) -> None:
        self.store = BlobStore(folder)
        self.data = bytes(range(256)) * (3 * CHUNK // 256)
        self.blob = self.store.add_bytes(self.data)
        self.disk, self.end = Later(), End()
        self.greedy: list[str] = []
        self.it = ManagerBulk(
            cast(ManagerEnd, self.end),
            self.store,
            cast(Offload, self.disk),
            route=lambda _peer: b"route",
            arrived=lambda _digests: None,
            failed=lambda _peer, _digests, _text: None,
            greedy=self.greedy.append,
            clock=lambda: 0.0,
        )

    def ask(self, many: int = 1) -> None:
        for _ in range(many):
            self.it.fetch("p", Fetch((Slice(self.blob, len(self.data), 0, len(self.data)),)))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.store.close()


def test_who_reads_gets_everything(bench: Bench) -> None:
    bench.end.room = 1000
    bench.ask(20)
    bench.disk.work()
    assert b"".join(data or b"" for _, data in bench.end.sent) == bench.data * 20
    assert not bench.it.stuck


def test_who_does_not_read_costs_a_few_answers(bench: Bench) -> None:
    bench.ask(500)
    assert len(bench.disk.waiting) == AHEAD
    bench.disk.work()
    assert bench.it.stuck
    line = bench.it._lines["p"]
    assert len(line.blocked) == AHEAD * 3, "and not five hundred times three"
    bench.end.room = 4
    bench.it.retry()
    bench.disk.work()
    assert len(line.blocked) == 2
    bench.end.room = 10_000
    while bench.it.stuck:
        bench.it.retry()
        bench.disk.work()
    assert len(bench.end.sent) == 1500
    assert bench.greedy == []


def test_who_asks_on_and_on_without_reading_is_told_of(bench: Bench) -> None:
    few = Fetch(tuple(Slice(bench.blob, 1, 0, 1) for _ in range(1000)))
    for _ in range(ASKED // 1000 + AHEAD):
        bench.it.fetch("p", few)
    assert bench.greedy == []
    bench.it.fetch("p", few)
    assert bench.greedy == ["p"]


def test_one_request_cannot_ask_for_everything(bench: Bench) -> None:
    bench.end.room = 1000
    size = len(bench.data)
    bench.it.fetch("p", Fetch(tuple(Slice(bench.blob, size, 0, size) for _ in range(100))))
    bench.disk.work()
    assert sum(len(data or b"") for _, data in bench.end.sent) <= ANSWER


def test_a_new_connection_is_not_sent_what_the_old_one_asked_for(bench: Bench) -> None:
    bench.ask(5)
    bench.disk.work()
    bench.it.restart("p")
    assert not bench.it.stuck
    bench.end.room = 100
    bench.ask()
    bench.disk.work()
    assert len(bench.end.sent) == 3


def test_what_is_unknown_is_named(bench: Bench) -> None:
    bench.end.room = 1
    unknown = hashlib.sha256(b"?").digest()
    bench.it.fetch("p", Fetch((Slice(unknown, 0, 0, 10),)))
    bench.disk.work()
    assert decode_from_manager(bench.end.sent[0][0]) == [Absent((unknown,))]


def test_a_slow_disk_slows_the_peer_down(tmp_path: Path) -> None:
    store, disk = BlobStore(tmp_path), Later()
    size = 64 * CHUNK
    data = bytes(CHUNK)
    digest = hashlib.sha256(data * 64).digest()
    asked: list[Fetch] = []
    puller = Puller(
        store,
        cast(Offload, disk),
        ask=lambda _peer, request: asked.append(request),
        arrived=lambda _digests: None,
        failed=lambda _peer, _digests, _text: None,
        clock=lambda: 0.0,
    )
    puller.want("p", [(digest, size)])
    sent = 0
    while sent < 32:
        wanted = sum(piece.length for request in asked for piece in request.slices)
        if sent * CHUNK >= wanted:
            break
        puller.take("p", Chunk((Slice(digest, size, sent * CHUNK, CHUNK),)), data)
        sent += 1
    assert sent == 8, "a window, while nothing of it is on the disk"
    disk.work()
    assert sum(piece.length for request in asked for piece in request.slices) > 8 * CHUNK
    store.close()


def test_what_was_not_asked_for_is_not_taken(tmp_path: Path) -> None:
    store, disk = BlobStore(tmp_path), Later()
    digest = hashlib.sha256(bytes(CHUNK)).digest()
    puller = Puller(
        store,
        cast(Offload, disk),
        ask=lambda _peer, _request: None,
        arrived=lambda _digests: None,
        failed=lambda _peer, _digests, _text: None,
        clock=lambda: 0.0,
    )
    puller.want("p", [(digest, None)])  # asks for the first 256 KiB
    puller.take("p", Chunk((Slice(digest, CHUNK, 0, CHUNK),)), bytes(CHUNK))
    puller.take("q", Chunk((Slice(digest, CHUNK, 0, 1),)), b"\0")
    disk.work()
    assert puller.received_bytes == 0
    store.close()
