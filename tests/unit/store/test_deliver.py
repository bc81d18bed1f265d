from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from computefarm.errors import StoreError, TaskError
from computefarm.messages import FileEntry
from computefarm.store import deliver
from computefarm.store.blobs import BlobStore
from computefarm.store.deliver import Delivery, from_store

LARGE = b"0123456789abcdef" * 50_000


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project").mkdir()
    return tmp_path / "project"


def entry(store: BlobStore, path: str, data: bytes = b"new", executable: bool = False) -> FileEntry:
    return FileEntry(path, store.add_bytes(data), len(data), executable)


def parts(folder: Path) -> list[Path]:
    return list(folder.rglob(".*"))


def test_outputs_are_put_in_place(project: Path, store: BlobStore) -> None:
    (project / "old").write_text("old")
    entries = [entry(store, "old"), entry(store, "a/b/c", LARGE), entry(store, "run", b"#!", True)]
    Delivery(project).install(entries, from_store(store))
    assert (project / "old").read_bytes() == b"new"
    assert (project / "a/b/c").read_bytes() == LARGE
    assert (project / "a/b/c").stat().st_nlink == 1
    assert parts(project) == []


@pytest.mark.parametrize(("umask", "plain", "executable"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700), (0, 0o666, 0o777)])
def test_modes_are_the_users(project: Path, store: BlobStore, umask: int, plain: int, executable: int) -> None:
    entries = [entry(store, "plain"), entry(store, "tool", b"#!", True)]
    before = os.umask(umask)
    try:
        Delivery(project).install(entries, from_store(store))
    finally:
        os.umask(before)
    assert (project / "plain").stat().st_mode & 0o777 == plain
    assert (project / "tool").stat().st_mode & 0o777 == executable


def test_nothing_is_replaced_when_one_output_cannot_be_had(project: Path, store: BlobStore) -> None:
    (project / "a").write_text("old")
    missing = FileEntry("b", b"\1" * 32, 5)
    with pytest.raises(StoreError):
        Delivery(project).install([entry(store, "a"), missing], from_store(store))
    assert (project / "a").read_text() == "old"
    assert os.listdir(project) == ["a"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_failed_write_leaves_nothing(project: Path, store: BlobStore, number: int) -> None:
    (project / "a").write_text("old")

    def fill(item: FileEntry, target: int) -> None:
        os.write(target, b"half")
        if item.path == "b":
            raise OSError(number, os.strerror(number))

    with pytest.raises(TaskError, match=os.strerror(number)) as caught:
        Delivery(project).install([entry(store, "a"), entry(store, "b")], fill)
    assert "b" in str(caught.value)
    assert ("disk full" in str(caught.value)) is (number == errno.ENOSPC)
    assert (project / "a").read_text() == "old"
    assert os.listdir(project) == ["a"]


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", "", "a//x", "x\0"])
def test_paths_outside_are_refused(project: Path, store: BlobStore, path: str) -> None:
    for deliver_it in (
        lambda: Delivery(project).install([entry(store, path)], from_store(store)),
        lambda: Delivery(project).sync([path]),
    ):
        with pytest.raises(TaskError):
            deliver_it()
    assert os.listdir(project) == []


def test_a_folder_that_leads_outside_is_refused(tmp_path: Path, project: Path, store: BlobStore) -> None:
    (tmp_path / "project-2").mkdir()
    (project / "away").symlink_to("../project-2")
    for path in ("away/x", "away/deep/x"):
        with pytest.raises(TaskError, match=r"outside the project: away.* leads to .*project-2"):
            Delivery(project).install([entry(store, path)], from_store(store))
    assert os.listdir(tmp_path / "project-2") == []


def test_links_within_the_project_are_followed(project: Path, store: BlobStore) -> None:
    (project / "real").mkdir()
    (project / "link").symlink_to("real")
    Delivery(project).install([entry(store, "link/x")], from_store(store))
    assert (project / "real" / "x").read_bytes() == b"new"


def test_a_project_reached_through_a_link_works(tmp_path: Path, project: Path, store: BlobStore) -> None:
    (tmp_path / "alias").symlink_to(project)
    Delivery(tmp_path / "alias").install([entry(store, "d/x")], from_store(store))
    assert (project / "d" / "x").read_bytes() == b"new"


def test_a_target_that_is_a_link_is_replaced_not_followed(tmp_path: Path, project: Path, store: BlobStore) -> None:
    (tmp_path / "precious").write_text("precious")
    (project / "x").symlink_to("../precious")
    Delivery(project).install([entry(store, "x")], from_store(store))
    assert (tmp_path / "precious").read_text() == "precious"
    assert (project / "x").read_bytes() == b"new"


def test_a_folder_in_the_way_stops_all(project: Path, store: BlobStore) -> None:
    (project / "b").mkdir()
    with pytest.raises(TaskError, match="b is a folder"):
        Delivery(project).install([entry(store, "a"), entry(store, "b")], from_store(store))
    assert os.listdir(project) == ["b"]


def test_a_file_in_the_way_of_a_folder_is_said(project: Path, store: BlobStore) -> None:
    (project / "b").write_text("old")
    with pytest.raises(TaskError, match="b/c"):
        Delivery(project).install([entry(store, "a"), entry(store, "b/c")], from_store(store))
    assert os.listdir(project) == ["b"]


def test_an_empty_folder_is_made(project: Path, store: BlobStore) -> None:
    entry = FileEntry("deep/out/", store.add_bytes(b""), 0)
    delivery = Delivery(project)
    delivery.install([entry], from_store(store))
    delivery.install([entry], from_store(store))
    delivery.sync([entry.path])

    assert (project / "deep/out").is_dir()
    assert list((project / "deep/out").iterdir()) == []


def test_sync_covers_files_and_folders(project: Path, store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    delivery = Delivery(project)
    delivery.install([entry(store, "d/x"), entry(store, "d/y")], from_store(store))
    synced: list[str] = []
    monkeypatch.setattr(deliver.os, "fdatasync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    delivery.sync(["d/x", "d/y", "gone"])
    assert synced == [f"{project}/d/x", f"{project}/d/y", *sorted([f"{project}/d", str(project)], key=synced.index)]


def test_the_leftovers_of_dead_processes_go_with_the_first_output(project: Path, store: BlobStore) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    kept = {f".cf-{os.getpid()}-0a1b2c3d-1", f".cf-{dead.pid}-0a1b2c3d-2", ".cf-notes", "x"}
    for name in (*kept, f".cf-{dead.pid}-0a1b2c3d-1"):
        (project / name).touch()
        if name != f".cf-{dead.pid}-0a1b2c3d-2":
            os.utime(project / name, (1, 1))
    Delivery(project).install([entry(store, "x")], from_store(store))
    assert set(os.listdir(project)) == kept
