"""Blobs between two stores: every size, lost answers, damaged and absent blobs."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from computefarm.errors import StoreError
from computefarm.messages import Absent, Chunk, Digest, Fetch
from computefarm.services.bulk import CHUNK, FIRST, WINDOW, Provider, Puller, StoreShelf
from computefarm.services.loop import Loop
from computefarm.services.offload import Offload
from computefarm.store.blobs import BlobStore

PEER = "other"


class Pair:
    """A puller and a provider in one loop; `lose` decides which answers never arrive."""

    def __init__(self, folder: Path) -> None:
        self.loop = Loop()
        self.offload = Offload("test")
        self.offload.attach(self.loop)
        self.source = BlobStore(folder / "source")
        self.target = BlobStore(folder / "target")
        self.arrived: list[Digest] = []
        self.failed: list[tuple[Digest, str]] = []
        self.requests: list[Fetch] = []
        self.largest = 0
        self.lose: Callable[[Chunk | Absent], bool] = lambda _answer: False
        self.now = 0.0
        self.puller = Puller(
            self.target,
            self.offload,
            ask=self._ask,
            arrived=self.arrived.extend,
            failed=lambda _peer, digests, text: self.failed.extend((digest, text) for digest in digests),
            clock=lambda: self.now,
        )
        self.provider = Provider(StoreShelf(self.source), self.offload, send=self._send)

    def _ask(self, peer: str, request: Fetch) -> None:
        self.requests.append(request)
        self.provider.fetch(peer, request)

    def _send(self, peer: str, message: Chunk | Absent, data: bytes | None) -> None:
        if self.lose(message):
            return
        if isinstance(message, Chunk):
            assert data is not None
            self.largest = max(self.largest, len(data))
            self.puller.take(peer, message, data)
        else:
            self.puller.absent(peer, message.digests)

    def until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not done():
            assert time.monotonic() < deadline
            self.loop.turn()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path)
    yield pair
    pair.offload.close(pair.loop)
    pair.source.close()
    pair.target.close()


def content(size: int) -> bytes:
    return (b"%d:" % size + bytes(range(251))) * (size // 250 + 1) if size else b""


SIZES = (0, 1, 1000, FIRST - 1, FIRST, FIRST + 1, CHUNK, 3 * CHUNK + 17, WINDOW + 5)


@pytest.mark.parametrize("known", [True, False], ids=["size known", "size unknown"])
def test_blobs_of_every_size_arrive_whole(pair: Pair, known: bool) -> None:
    blobs = {pair.source.add_bytes(content(size)[:size]): size for size in SIZES}

    pair.puller.want(PEER, [(digest, size if known else None) for digest, size in blobs.items()])
    pair.until(lambda: len(pair.arrived) == len(blobs))

    assert {digest: pair.target.size(digest) for digest in pair.arrived} == blobs
    for digest in blobs:
        assert hashlib.sha256(pair.target.read(digest)).digest() == digest
    assert pair.largest <= CHUNK
    assert pair.failed == []


def test_small_blobs_travel_together(pair: Pair) -> None:
    digests = [pair.source.add_bytes(b"file %d" % number) for number in range(200)]

    pair.puller.want(PEER, [(digest, 8) for digest in digests])
    pair.until(lambda: len(pair.arrived) == 200)

    assert len(pair.requests) == 1


def test_a_blob_on_its_way_is_not_asked_for_twice(pair: Pair) -> None:
    digest = pair.source.add_bytes(b"once")

    pair.puller.want(PEER, [(digest, 4)])
    pair.puller.want(PEER, [(digest, 4)])
    pair.until(lambda: pair.arrived != [])

    assert len(pair.requests) == 1


def test_a_blob_that_is_here_already_arrives_at_once(pair: Pair) -> None:
    digest = pair.target.add_bytes(b"here")

    pair.puller.want(PEER, [(digest, 4)])

    assert pair.arrived == [digest]
    assert pair.requests == []


def test_an_absent_blob_is_reported_and_the_others_still_come(pair: Pair) -> None:
    there = pair.source.add_bytes(b"there")
    nowhere = hashlib.sha256(b"nowhere").digest()

    pair.puller.want(PEER, [(nowhere, 7), (there, 5)])
    pair.until(lambda: bool(pair.arrived and pair.failed))

    assert pair.arrived == [there]
    assert [digest for digest, _ in pair.failed] == [nowhere]


def test_lost_answers_are_asked_for_again(pair: Pair) -> None:
    digest = pair.source.add_bytes(content(3 * CHUNK)[: 3 * CHUNK])
    lost: list[Chunk | Absent] = []

    def lose_the_second(answer: Chunk | Absent) -> bool:
        if isinstance(answer, Chunk) and answer.slices[0].offset == CHUNK and not lost:
            lost.append(answer)
            return True
        return False

    pair.lose = lose_the_second
    pair.puller.want(PEER, [(digest, 3 * CHUNK)])
    pair.until(lambda: lost != [])
    assert pair.arrived == []

    pair.now = 60.0
    pair.puller.tick(pair.now)
    pair.until(lambda: pair.arrived != [])

    assert hashlib.sha256(pair.target.read(digest)).digest() == digest


def test_a_source_that_changed_is_a_failure_not_a_wrong_blob(pair: Pair, tmp_path: Path) -> None:
    class Liar:
        def read_slice(self, digest: Digest, offset: int, length: int) -> tuple[int, bytes]:
            return 5, b"other"[offset : offset + length]

    pair.provider = Provider(Liar(), pair.offload, send=pair._send)
    digest = hashlib.sha256(b"right").digest()

    pair.puller.want(PEER, [(digest, 5)])
    pair.until(lambda: pair.failed != [])

    assert digest not in pair.target
    with pytest.raises(StoreError):
        pair.target.read(digest)


def test_a_peer_that_leaves_delivers_nothing_more(pair: Pair) -> None:
    digest = pair.source.add_bytes(content(CHUNK)[:CHUNK])
    pair.lose = lambda _answer: True
    pair.puller.want(PEER, [(digest, CHUNK)])

    assert pair.puller.forget(PEER) == [digest]
    assert pair.puller.next_deadline() is None
