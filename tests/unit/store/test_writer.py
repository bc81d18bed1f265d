from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from computefarm.errors import Damaged, StoreError
from computefarm.store.blobs import BlobStore

DATA = random.Random(1).randbytes(300_000)
DIGEST = hashlib.sha256(DATA).digest()
STEP = 7_001
CHUNKS = [(at, DATA[at : at + STEP]) for at in range(0, len(DATA), STEP)]


def leftovers(store: BlobStore) -> list[str]:
    return [path.name for path in store.root.glob(".part-*/*") if path.name != ".lock"]


def test_in_order(store: BlobStore) -> None:
    writer = store.writer(DIGEST, len(DATA))
    for offset, data in CHUNKS:
        writer.write(offset, memoryview(data))
    assert DIGEST not in store
    assert writer.finish() == DIGEST
    assert store.read(DIGEST) == DATA
    assert leftovers(store) == []


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(order=st.permutations(CHUNKS[:20]), repeats=st.lists(st.integers(0, 19), max_size=5))
def test_in_any_order_and_more_than_once(
    store: BlobStore, order: list[tuple[int, bytes]], repeats: list[int]
) -> None:
    data = DATA[: 20 * STEP]
    digest = hashlib.sha256(data).digest()
    writer = store.writer(digest, len(data))
    for offset, chunk in [*order, *(CHUNKS[i] for i in repeats)]:
        writer.write(offset, chunk)
    writer.finish()
    assert store.read(digest) == data


def test_a_repeat_with_other_bytes_is_damage(store: BlobStore) -> None:
    writer = store.writer(DIGEST, len(DATA))
    for offset, data in CHUNKS:
        writer.write(offset, data)
    writer.write(0, b"?")
    with pytest.raises(Damaged):
        writer.finish()
    assert DIGEST not in store
    assert leftovers(store) == []


@pytest.mark.parametrize("missing", [0, 5, len(CHUNKS) - 1])
def test_a_missing_chunk_is_damage(store: BlobStore, missing: int) -> None:
    writer = store.writer(DIGEST, len(DATA))
    for number, (offset, data) in enumerate(CHUNKS):
        if number != missing:
            writer.write(offset, data)
    with pytest.raises(Damaged, match="arrived damaged"):
        writer.finish()
    assert DIGEST not in store
    assert leftovers(store) == []


@pytest.mark.parametrize("offset", [-1, len(DATA), len(DATA) - 1])
def test_bytes_outside_the_blob_are_refused(store: BlobStore, offset: int) -> None:
    writer = store.writer(DIGEST, len(DATA))
    with pytest.raises(StoreError, match="more bytes"):
        writer.write(offset, b"ab")
    assert leftovers(store) == []


def test_giving_up_leaves_nothing(store: BlobStore) -> None:
    writer = store.writer(DIGEST, len(DATA))
    writer.write(*CHUNKS[0])
    writer.abort()
    writer.abort()
    assert leftovers(store) == []
    for ended in (lambda: writer.write(*CHUNKS[1]), writer.finish):
        with pytest.raises(StoreError):
            ended()


def test_two_writers_of_one_blob(store: BlobStore) -> None:
    first, second = store.writer(DIGEST, len(DATA)), store.writer(DIGEST, len(DATA))
    first.write(0, DATA)
    second.write(0, DATA)
    first.finish()
    second.finish()
    assert store.read(DIGEST) == DATA
    assert len(store) == 1
    assert leftovers(store) == []


def test_an_empty_blob(store: BlobStore) -> None:
    digest = hashlib.sha256().digest()
    store.writer(digest, 0).finish()
    assert store.read(digest) == b""
