"""A store, a private directory, a project and a result cache on a disk that is really full."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from computefarm.errors import StoreError, TaskError
from computefarm.messages import FileEntry, Outcome, Piece, Result
from computefarm.store.blobs import BlobStore
from computefarm.store.copying import is_full
from computefarm.store.deliver import Delivery, from_store
from computefarm.store.layout import PrivateDirs, lay_out
from computefarm.store.results import ResultCache

TOO_BIG = os.urandom(1_500_000)
SMALL_BUT_TOO_MUCH = os.urandom(60_000)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"DISK-FULL NOT TESTED: {' '.join(command)}: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*") if path.is_file() and path.name != ".lock"]


def test_a_store_on_a_full_disk_says_so_and_goes_on(tmp_path: Path, small_disk: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(TOO_BIG)
    store = BlobStore(small_disk / "store")
    digest = hashlib.sha256(TOO_BIG).digest()

    def by_writer() -> None:
        writer = store.writer(digest, len(TOO_BIG))
        for offset in range(0, len(TOO_BIG), 500_000):
            writer.write(offset, TOO_BIG[offset : offset + 500_000])

    for attempt in (lambda: store.add_file(source), lambda: store.add_bytes(TOO_BIG), by_writer):
        with pytest.raises(StoreError, match="disk full") as caught:
            attempt()
        assert is_full(caught.value)
        assert str(small_disk) in str(caught.value)
    assert leftovers(small_disk) == []
    assert digest not in store
    fitting = store.add_bytes(b"x" * 100_000)
    assert store.read(fitting, 0, 3) == b"xxx"
    store.close()


def test_inputs_that_do_not_fit_are_a_full_disk(tmp_path: Path, small_disk: Path) -> None:
    store = BlobStore(tmp_path / "store")
    dirs = PrivateDirs(small_disk / "tasks")
    inputs = [FileEntry("big", store.add_bytes(TOO_BIG), len(TOO_BIG))]
    many = [FileEntry(f"n{n}", store.add_bytes(SMALL_BUT_TOO_MUCH), 60_000) for n in range(30)]
    for files in (inputs, many):
        directory = dirs.make("1-1")
        with pytest.raises(StoreError, match="disk full") as caught:
            lay_out(store, files, directory, dirs=dirs)
        assert is_full(caught.value)
        dirs.remove(directory)
    assert all(entry.digest in store for entry in (*inputs, *many))
    dirs.close()
    store.close()


def test_a_project_on_a_full_disk_keeps_its_old_targets(tmp_path: Path, small_disk: Path) -> None:
    store = BlobStore(tmp_path / "store")
    (small_disk / "out").write_text("old")
    entries = [
        FileEntry("out", store.add_bytes(b"new"), 3),
        FileEntry("big", store.add_bytes(TOO_BIG), len(TOO_BIG)),
    ]
    with pytest.raises(TaskError, match="cannot write output big") as caught:
        Delivery(small_disk).install(entries, from_store(store))
    assert "disk full" in str(caught.value)
    assert (small_disk / "out").read_text() == "old"
    assert os.listdir(small_disk) == ["out"]
    store.close()


def test_a_result_cache_on_a_full_disk_keeps_what_it_has(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = ResultCache(small_disk / "results.db")
    cache.put_many([(b"\1" * 32, Result(Outcome.SUCCEEDED))])
    noisy = Result(Outcome.SUCCEEDED, log=(Piece(1, 0.0, "x" * 60_000),))
    with pytest.raises(StoreError, match="result cache"):
        cache.put_many([(bytes([number]) * 32, noisy) for number in range(100)])
    assert cache.get_many([b"\1" * 32])
    assert not caplog.records
    cache.close()
