from __future__ import annotations

import errno
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from computefarm.errors import Damaged, StoreError
from computefarm.messages import Digest
from computefarm.store import copying
from computefarm.store.blobs import BlobStore
from computefarm.store.copying import is_full
from computefarm.store.shelf import SMALL

LITTLE = b"a small blob"
LARGE = bytes(range(256)) * (3 * 4096 + 1)
SIZES = pytest.mark.parametrize("data", [b"", LITTLE, b"x" * SMALL, b"y" * (SMALL + 1), LARGE])


def sha(data: bytes) -> Digest:
    return hashlib.sha256(data).digest()


def flip(store: BlobStore, digest: Digest, at: int = 5) -> None:
    """Change one byte of a stored file and nothing else that can be helped."""
    path = store.path(digest)
    before = os.stat(path)
    os.chmod(path, 0o600)
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@SIZES
def test_bytes_come_back(store: BlobStore, data: bytes) -> None:
    digest = store.add_bytes(data)
    assert digest == sha(data)
    assert digest in store
    assert store.size(digest) == len(data)
    assert store.read(digest) == data
    assert store.read(digest, 3, 4) == data[3:7]
    assert store.read(digest, len(data) - 1 if data else 0, 100) == data[-1:]
    assert store.read(digest, len(data) + 5, 100) == b""


@SIZES
def test_files_are_stored_and_found_again_by_the_next_store(tmp_path: Path, store: BlobStore, data: bytes) -> None:
    source = tmp_path / "source"
    source.write_bytes(data)
    digest = store.add_file(source)
    assert digest == sha(data)
    again = BlobStore(store.root)
    assert digest in again
    assert len(again) == 1
    assert again.total_bytes == len(data)
    assert again.read(digest) == data
    again.close()


def test_a_stored_file_is_independent_of_its_source(tmp_path: Path, store: BlobStore) -> None:
    source = tmp_path / "source"
    source.write_bytes(LARGE)
    digest = store.add_file(source)
    source.write_bytes(b"changed")
    assert store.read(digest) == LARGE


def test_adding_twice_keeps_the_first_file(store: BlobStore) -> None:
    for data in (LITTLE, LARGE):
        digest = store.add_bytes(data)
        inode = os.stat(store.path(digest)).st_ino
        assert store.add_bytes(data) == digest
        assert os.stat(store.path(digest)).st_ino == inode
    assert len(store) == 2
    assert store.total_bytes == len(LITTLE) + len(LARGE)


@pytest.mark.parametrize("name", ["folder", "pipe", "nothing"])
def test_only_regular_files_can_be_added(tmp_path: Path, store: BlobStore, name: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreError, match=name):
        store.add_file(tmp_path / name)
    assert len(store) == 0


@pytest.mark.parametrize("data", [LITTLE, LARGE])
@pytest.mark.parametrize("use", ["read", "copy_to"])
@pytest.mark.parametrize("verified_before", [True, False])
def test_a_flipped_bit_is_found_told_and_removed(
    tmp_path: Path, store: BlobStore, data: bytes, use: str, verified_before: bool
) -> None:
    lost: list[tuple[Digest, ...]] = []
    store.on_lost = lost.append
    digest = store.add_bytes(data)
    if verified_before:
        store.read(digest)
    flip(store, digest)
    uses: dict[str, Callable[[], object]] = {
        "read": lambda: store.read(digest, 0, 3),
        "copy_to": lambda: store.copy_to(digest, tmp_path / "copy"),
    }
    with pytest.raises(Damaged, match=digest.hex()):
        uses[use]()
    assert lost == [(digest,)]
    assert digest not in store
    assert not os.path.exists(store.path(digest))
    assert not (tmp_path / "copy").exists()
    assert store.total_bytes == 0
    assert store.add_bytes(data) == digest
    assert store.read(digest) == data


def test_adding_repairs_a_damaged_small_blob(store: BlobStore) -> None:
    digest = store.add_bytes(LITTLE)
    flip(store, digest)
    store.add_bytes(LITTLE)
    assert store.read(digest) == LITTLE


def test_adding_repairs_a_damaged_large_blob(store: BlobStore) -> None:
    digest = store.add_bytes(LARGE)
    flip(store, digest)
    store.add_bytes(LARGE)
    assert store.read(digest) == LARGE


@pytest.mark.parametrize("data", [LITTLE, LARGE])
def test_a_shortened_blob_is_damaged(store: BlobStore, data: bytes) -> None:
    digest = store.add_bytes(data)
    os.truncate(store.path(digest), len(data) - 1)
    with pytest.raises(Damaged):
        store.read(digest)


def test_a_vanished_blob_is_told(store: BlobStore) -> None:
    lost: list[tuple[Digest, ...]] = []
    store.on_lost = lost.append
    digest = store.add_bytes(LITTLE)
    os.unlink(store.path(digest))
    with pytest.raises(StoreError, match="vanished"):
        store.read(digest)
    assert lost == [(digest,)]
    assert digest not in store


def test_a_blob_never_stored_is_a_plain_store_error(store: BlobStore) -> None:
    with pytest.raises(StoreError, match="not in the store") as caught:
        store.read(sha(b"?"))
    assert not isinstance(caught.value, Damaged)


def test_a_link_in_place_of_a_blob_is_not_followed(tmp_path: Path, store: BlobStore) -> None:
    digest = store.add_bytes(LITTLE)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(LITTLE)
    os.unlink(store.path(digest))
    os.symlink(elsewhere, store.path(digest))
    with pytest.raises(Damaged):
        store.read(digest)
    assert elsewhere.read_bytes() == LITTLE


def test_a_large_blob_is_hashed_once(store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = store.add_bytes(LARGE)
    again = BlobStore(store.root)
    hashed: list[int] = []
    real = copying.hash_open
    monkeypatch.setattr("computefarm.store.shelf.hash_open", lambda fd: hashed.append(fd) or real(fd))
    for _ in range(3):
        again.read(digest, 7, 9)
    assert len(hashed) == 1
    store.read(digest)  # this one saw the bytes when it wrote them
    assert len(hashed) == 1
    again.close()


def test_being_short_of_descriptors_loses_no_blob(store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = store.add_bytes(LITTLE)

    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("computefarm.store.shelf.os.open", refuse)
        with pytest.raises(StoreError, match="Too many open files"):
            store.read(digest)
    assert store.read(digest) == LITTLE


@pytest.mark.parametrize("data", [LITTLE, LARGE])
@pytest.mark.parametrize(("executable", "mode"), [(False, 0o644), (True, 0o755)])
def test_a_laid_out_blob_is_nobody_elses_file(
    tmp_path: Path, store: BlobStore, data: bytes, executable: bool, mode: int
) -> None:
    digest = store.add_bytes(data)
    target = tmp_path / "input"
    before = os.umask(0o077)
    try:
        store.copy_to(digest, target, executable)
    finally:
        os.umask(before)
    found = target.stat()
    assert found.st_mode & 0o7777 == mode
    assert found.st_nlink == 1
    assert found.st_ino != os.stat(store.path(digest)).st_ino
    # What root in a task can do to it: write, truncate, append, map.
    target.write_bytes(b"scribble" * 1000)
    os.truncate(target, 3)
    assert store.read(digest) == data


def test_copying_replaces_a_link_instead_of_writing_through_it(tmp_path: Path, store: BlobStore) -> None:
    digest = store.add_bytes(LITTLE)
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    (tmp_path / "input").symlink_to(precious)
    store.copy_to(digest, tmp_path / "input")
    assert precious.read_bytes() == b"precious"
    assert (tmp_path / "input").read_bytes() == LITTLE


def test_the_use_is_recorded_without_losing_trust(store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = store.add_bytes(LARGE)
    old = time.time() - 10_000
    os.utime(store.path(digest), (old, old))
    again = BlobStore(store.root)
    again.read(digest)
    assert os.stat(store.path(digest)).st_mtime > old + 9_000
    monkeypatch.setattr("computefarm.store.shelf.hash_open", lambda fd: pytest.fail("hashed again"))
    assert again.read(digest) == LARGE
    again.close()


def test_two_stores_share_one_root(store: BlobStore) -> None:
    other = BlobStore(store.root)
    lost: list[tuple[Digest, ...]] = []
    other.on_lost = lost.append
    digest = store.add_bytes(LITTLE)
    assert digest not in other
    assert other.refresh(digest)
    assert digest in other
    assert other.add_bytes(LITTLE) == digest
    store.limit_bytes = 0
    assert store.evict() == (digest,)
    assert digest in other
    with pytest.raises(StoreError):
        other.read(digest)
    assert lost == [(digest,)]
    assert not other.refresh(digest)
    assert other.read(other.add_bytes(LITTLE)) == LITTLE
    other.close()


def test_reading_finds_what_another_process_added(store: BlobStore) -> None:
    other = BlobStore(store.root)
    digest = store.add_bytes(LARGE)
    assert other.read(digest) == LARGE
    assert other.total_bytes == len(LARGE)
    other.close()


def test_a_second_store_leaves_work_in_hand_alone(store: BlobStore) -> None:
    writer = store.writer(sha(LITTLE), len(LITTLE))
    writer.write(0, LITTLE)
    for part in store.root.glob(".part-*"):
        os.utime(part, (1, 1))
    BlobStore(store.root).close()
    assert writer.finish() == sha(LITTLE)


def test_leftovers_of_a_crash_are_removed_when_old(tmp_path: Path) -> None:
    root = tmp_path / "store"
    for name, age in (("old", 120), ("young", 5)):
        left = root / f".part-{name}"
        left.mkdir(parents=True)
        (left / ".0").write_bytes(b"half a blob")
        (left / ".lock").touch()
        os.utime(left, (time.time() - age, time.time() - age))
    store = BlobStore(root)
    assert not (root / ".part-old").exists()
    assert (root / ".part-young").exists()
    assert len(store) == 0
    store.close()


def test_foreign_files_in_the_folder_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "store" / "ab").mkdir(parents=True)
    (tmp_path / "store" / "ab" / "notes.txt").write_text("?")
    (tmp_path / "store" / "ab" / ("AB" * 32)).write_text("?")
    (tmp_path / "store" / "ab" / ("ab" * 32)).mkdir()
    store = BlobStore(tmp_path / "store")
    assert len(store) == 0
    store.close()


def full_disk(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("data", [LITTLE, LARGE])
def test_a_full_disk_is_said_and_leaves_nothing(
    tmp_path: Path, store: BlobStore, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.write_bytes(data)
    digest = store.add_bytes(b"before")
    writer = store.writer(sha(data), len(data))
    with monkeypatch.context() as patch:
        patch.setattr(copying.os, "pwrite", full_disk)
        for attempt in (
            lambda: store.add_bytes(data),
            lambda: store.add_file(source),
            lambda: writer.write(0, data),
            lambda: store.copy_to(digest, tmp_path / "copy"),
        ):
            with pytest.raises(StoreError, match=r"disk full.*bytes free.*No space left") as caught:
                attempt()
            assert str(tmp_path) in str(caught.value)
            assert is_full(caught.value)
    assert not (tmp_path / "copy").exists()
    assert [p for p in store.root.glob(".part-*/*") if p.name != ".lock"] == []
    assert sha(data) not in store
    assert store.read(store.add_bytes(data)) == data


def test_adopting_moves_the_file_itself(tmp_path: Path, store: BlobStore) -> None:
    for data in (LITTLE, LARGE):
        source = tmp_path / "output"
        source.write_bytes(data)
        inode = source.stat().st_ino
        opened = os.open(source, os.O_RDONLY)
        assert store.adopt_open(opened, str(source)) == (sha(data), len(data))
        os.close(opened)
        assert not source.exists()
        assert os.stat(store.path(sha(data))).st_ino == inode
        assert store.read(sha(data)) == data


def test_a_file_with_another_name_is_copied_not_adopted(tmp_path: Path, store: BlobStore) -> None:
    source = tmp_path / "output"
    source.write_bytes(LARGE)
    os.link(source, tmp_path / "second")
    opened = os.open(source, os.O_RDONLY)
    store.adopt_open(opened, str(source))
    os.close(opened)
    (tmp_path / "second").write_bytes(b"scribble")
    assert store.read(sha(LARGE)) == LARGE


def test_a_file_exchanged_after_the_check_is_not_adopted(tmp_path: Path, store: BlobStore) -> None:
    checked, other = tmp_path / "checked", tmp_path / "other"
    checked.write_bytes(LARGE)
    other.write_bytes(b"another")
    opened = os.open(checked, os.O_RDONLY)
    with pytest.raises(StoreError, match="exchanged"):
        store.adopt_open(opened, str(other))
    os.close(opened)
    assert other.read_bytes() == b"another"
    assert len(store) == 0


def test_many_threads_add_and_read_the_same(store: BlobStore) -> None:
    payloads = [b"%d" % number * (number * 900) for number in range(1, 60)]
    failures: list[BaseException] = []
    start = threading.Barrier(6)

    def work(offset: int) -> None:
        try:
            start.wait()
            for step in range(len(payloads)):
                data = payloads[(step + offset * 7) % len(payloads)]
                assert store.read(store.add_bytes(data)) == data
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(store) == len(payloads)
    assert store.total_bytes == sum(map(len, payloads))


def test_a_rescan_agrees_with_the_disk(store: BlobStore) -> None:
    other = BlobStore(store.root)
    kept, gone = store.add_bytes(LITTLE), store.add_bytes(LARGE)
    other.rescan()
    os.unlink(store.path(gone))
    new = store.add_bytes(b"new")
    other.rescan()
    assert [digest in other for digest in (kept, gone, new)] == [True, False, True]
    assert other.total_bytes == len(LITTLE) + 3
    other.close()


def test_an_unusable_root_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot open the store"):
        BlobStore(tmp_path / "file")


def test_a_deleted_folder_is_made_again(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "store")
    lost: list[bytes] = []
    store.on_lost = lost.extend
    before = store.add_bytes(b"before")
    shutil.rmtree(tmp_path / "store")
    after = store.add_bytes(b"after")
    assert store.read(after) == b"after"
    assert before not in store
    assert lost == [before]
    shutil.rmtree(tmp_path / "store")
    writer = store.writer(after, 5)
    writer.write(0, b"after")
    writer.finish()
    assert store.read(after) == b"after"
    shutil.rmtree(tmp_path / "store")
    store.close()
