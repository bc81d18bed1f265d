from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from computefarm.errors import StoreError
from computefarm.messages import Digest
from computefarm.store.blobs import BlobStore
from computefarm.store.room import EVICT_TO, SPARE_S
from computefarm.store.shelf import SMALL

LIMIT = 1_000


class Eviction(RuleBasedStateMachine):
    """A store against a model: contents, pins and the order of use."""

    @initialize()
    def open(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.store = BlobStore(self.folder / "store", limit_bytes=LIMIT, spare_s=0.0)
        self.lost: list[Digest] = []
        self.store.on_lost = self.lost.extend
        self.held: dict[Digest, bytes] = {}
        """In the order of last use."""
        self.pins: dict[Digest, int] = {}
        self.seen: list[Digest] = []

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            shutil.rmtree(self.folder)

    @rule(fill=st.integers(0, 11), size=st.integers(0, 400))
    def add(self, fill: int, size: int) -> None:
        data = bytes([fill]) * size
        digest = self.store.add_bytes(data)
        self.held.pop(digest, None)
        self.held[digest] = data
        if digest not in self.seen:
            self.seen.append(digest)

    @rule(number=st.integers(0, 50))
    def use(self, number: int) -> None:
        if self.seen:
            digest = self.seen[number % len(self.seen)]
            if digest in self.held:
                data = self.held.pop(digest)
                self.held[digest] = data
                assert self.store.read(digest) == data
            else:
                with pytest.raises(StoreError):
                    self.store.read(digest)

    @rule(number=st.integers(0, 50), more=st.booleans())
    def pin_or_unpin(self, number: int, more: bool) -> None:
        if self.seen:
            digest = self.seen[number % len(self.seen)]
            if more:
                self.store.pin([digest])
                self.pins[digest] = self.pins.get(digest, 0) + 1
            else:
                self.store.unpin([digest])
                self.pins[digest] = max(0, self.pins.get(digest, 0) - 1)

    @rule()
    def evict(self) -> None:
        expected = []
        total = sum(map(len, self.held.values()))
        if total > LIMIT:
            for digest, data in self.held.items():
                if total <= LIMIT * EVICT_TO:
                    break
                if not self.pins.get(digest):
                    expected.append(digest)
                    total -= len(data)
        self.lost.clear()
        assert list(self.store.evict()) == expected
        assert self.lost == expected
        for digest in expected:
            del self.held[digest]

    @rule()
    def reopen(self) -> None:
        """Only the pins are forgotten; the order of use is on disk no finer than ten minutes."""
        self.store.close()
        self.store = BlobStore(self.folder / "store", limit_bytes=LIMIT, spare_s=0.0)
        self.store.on_lost = self.lost.extend
        for digest in self.held:
            self.store.read(digest)
        self.pins.clear()

    @invariant()
    def agrees(self) -> None:
        if hasattr(self, "store"):
            assert len(self.store) == len(self.held)
            assert self.store.total_bytes == sum(map(len, self.held.values()))
            on_disk = {name for _, _, names in os.walk(self.folder) for name in names if len(name) == 64}
            assert on_disk == {digest.hex() for digest in self.held}


Eviction.TestCase.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)
TestEviction = Eviction.TestCase


def test_without_a_limit_nothing_is_evicted(store: BlobStore) -> None:
    store.add_bytes(b"x" * 10_000)
    assert store.evict() == ()


def test_the_order_of_use_survives_a_restart(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "store")
    digests = [store.add_bytes(bytes([number]) * 100) for number in range(4)]
    for age, digest in zip((100, 400, 300, 200), digests, strict=True):
        when = 1_700_000_000 - age * 86_400
        os.utime(store.path(digest), (when, when))
    store.close()
    again = BlobStore(tmp_path / "store", limit_bytes=250)
    assert again.evict() == (digests[1], digests[2])
    again.close()


def test_a_pin_may_come_before_the_blob(store: BlobStore) -> None:
    store.limit_bytes = 10
    digest = store.add_bytes(b"x" * 100)
    other = store.add_bytes(b"y" * 100)
    os.unlink(store.path(digest))
    store.refresh(digest)
    store.pin([digest])
    store.add_bytes(b"x" * 100)
    assert store.evict() == (other,)
    store.unpin([digest])
    assert store.evict() == (digest,)


def test_what_another_process_used_lately_is_spared(store: BlobStore) -> None:
    mine, shared = store.add_bytes(b"m" * 100), store.add_bytes(b"s" * 100)
    store._index.get(shared).used_at -= 5_000  # type: ignore[union-attr]
    store._index.get(mine).used_at -= 1_000  # type: ignore[union-attr]
    store.limit_bytes = 150
    os.utime(store.path(mine), (1, 1))
    assert store.evict() == (mine,)
    assert shared in store


def test_what_was_used_lately_is_spared_up_to_twice_the_limit(store: BlobStore) -> None:
    store.limit_bytes = 150
    digests = [store.add_bytes(bytes([number]) * 100) for number in range(3)]
    assert store.evict() == ()
    store.add_bytes(b"more" * 25)
    assert store.evict() == tuple(digests[:2])  # down to nine tenths of twice the limit


def test_ten_minutes_later_it_goes(store: BlobStore) -> None:
    store.limit_bytes = 150
    digests = [store.add_bytes(bytes([number]) * 100) for number in range(2)]
    for digest in digests:
        long_ago(store, digest, SPARE_S + 1)
    assert store.evict() == (digests[0],)


def test_a_pin_is_seen_by_the_other_processes_of_the_folder(tmp_path: Path) -> None:
    here, there = BlobStore(tmp_path / "store"), BlobStore(tmp_path / "store", limit_bytes=90)
    pinned, free = here.add_bytes(b"p" * 100), here.add_bytes(b"f" * 60)
    for store in (here, there):
        store.refresh(pinned)
        store.refresh(free)
        long_ago(store, pinned, 5_000)
        long_ago(store, free, 4_000)
    here.pin([pinned])
    assert there.evict() == (free,)
    assert here.read(pinned) == b"p" * 100
    here.close()
    there.close()


def test_a_long_pin_is_recorded_again_now_and_then(store: BlobStore) -> None:
    digest = store.add_bytes(b"p" * 100)
    store.pin([digest])
    long_ago(store, digest, 5_000)
    store.evict()
    assert time.time() - os.stat(store.path(digest)).st_mtime < 60


def test_a_pin_soon_after_the_last_use_does_not_go_to_the_disk(store: BlobStore) -> None:
    digest = store.add_bytes(b"p" * 100)
    before = os.stat(store.path(digest)).st_ctime_ns
    store.pin([digest])
    assert os.stat(store.path(digest)).st_ctime_ns == before


def test_a_touched_large_blob_stays_trusted(store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = store.add_bytes(b"p" * (SMALL + 1))
    long_ago(store, digest, 5_000)
    store.read(digest)
    blob = store._index.get(digest)
    assert blob is not None
    blob.touched_at -= 5_000
    store.pin([digest])
    monkeypatch.setattr("computefarm.store.shelf.hash_open", None)
    assert store.read(digest, 0, 1) == b"p"


def long_ago(store: BlobStore, digest: Digest, seconds: float) -> None:
    """Make a blob look as if nobody had used it for so long."""
    when = time.time() - seconds
    os.utime(store.path(digest), (when, when))
    blob = store._index.get(digest)
    assert blob is not None
    blob.used_at = blob.touched_at = when
