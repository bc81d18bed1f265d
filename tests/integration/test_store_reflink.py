"""On a file system that can share blocks, large files are cloned, and still nobody's but their own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from computefarm.messages import FileEntry
from computefarm.store import blobs
from computefarm.store.blobs import BlobStore
from computefarm.store.deliver import Delivery, from_store
from computefarm.store.layout import lay_out

LARGE = os.urandom(5_000_000)


@pytest.fixture(params=["mkfs.btrfs", "mkfs.xfs"])
def sharing_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A fresh file system with reflinks, in a file."""
    if shutil.which(request.param) is None:
        pytest.skip(f"REFLINK NOT TESTED: {request.param} is not installed")
    image, place = tmp_path / "image", tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(512 * 1024 * 1024)
    place.mkdir()
    for command in ([request.param, str(image)], ["mount", "-o", "loop", str(image), str(place)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"REFLINK NOT TESTED: {' '.join(command)}: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_blocks_are_shared_until_written(sharing_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = sharing_disk / "source"
    source.write_bytes(LARGE)
    store = BlobStore(sharing_disk / "store")
    for name in ("copy", "copy_hashed"):
        monkeypatch.setattr(blobs, name, lambda *_: pytest.fail("copied instead of cloned"))
    digest = store.add_file(source)
    entry = FileEntry("in/large", digest, len(LARGE))
    lay_out(store, [entry], sharing_disk / "task")
    (sharing_disk / "project").mkdir()
    Delivery(sharing_disk / "project").install([entry], from_store(store))
    for path in (source, sharing_disk / "task/in/large", sharing_disk / "project/in/large"):
        assert path.read_bytes() == LARGE
        assert path.stat().st_nlink == 1
        with path.open("r+b") as file:
            file.write(b"scribble")
        os.truncate(path, 100)
    assert store.read(digest) == LARGE
    store.close()
