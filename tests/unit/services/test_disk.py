from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from computefarm.services.disk import LOOK_S, RESERVE, Disk

MIB = 1024 * 1024


class Space:
    """A disk of which the test says how full it is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, total: int = 100 * 1024 * MIB) -> None:
        self.free = total
        self.total = total
        self.now = 100.0
        self.held: list[str] = []
        monkeypatch.setattr(
            shutil, "disk_usage", lambda path: SimpleNamespace(free=self.free, total=self.total)
        )
        self.disk = Disk("nn02", (folder,), self.held.append, lambda: self.now)


@pytest.fixture
def space(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Space:
    return Space(monkeypatch, tmp_path)


def test_a_failure_is_the_disks_fault_when_hardly_anything_is_left(space: Space) -> None:
    assert not space.disk.guilty(False)
    space.free = RESERVE - 1
    assert space.disk.guilty(False)
    space.free = 500 * MIB
    assert not space.disk.guilty(False)
    # A compiler removes what it could not finish: by now there is room again.
    assert space.disk.guilty(True)
    space.free = 50 * 1024 * MIB
    assert not space.disk.guilty(True)


def test_a_tiny_disk_has_a_tiny_reserve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    space = Space(monkeypatch, tmp_path, total=MIB)

    assert not space.disk.guilty(False)


def test_a_full_disk_holds_the_worker_until_there_is_room(space: Space, tmp_path: Path) -> None:
    space.free = 3 * MIB
    text = space.disk.full()

    assert text == f"disk full on nn02: 3 MiB free in {tmp_path}"
    assert space.held == [text]
    space.disk.full()
    assert space.held == [text]
    assert space.disk.next_deadline() == space.now + LOOK_S
    space.now += LOOK_S
    space.disk.tick(space.now)
    assert space.held == [text]
    # A little more than the reserve is not enough to begin with.
    space.free = RESERVE + 1
    space.now += LOOK_S
    space.disk.tick(space.now)
    assert space.held == [text]
    space.free = 2 * RESERVE
    space.disk.tick(space.now)
    assert space.held == [text]
    space.now += LOOK_S
    space.disk.tick(space.now)
    assert space.held == [text, ""]
    assert space.disk.next_deadline() is None
