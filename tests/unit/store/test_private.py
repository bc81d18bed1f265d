from __future__ import annotations

import contextlib
import os
import shutil
import stat
import time
from pathlib import Path

import pytest

from computefarm.errors import StoreError
from computefarm.messages import FileEntry
from computefarm.store.blobs import BlobStore
from computefarm.store.claims import Claim, sweep
from computefarm.store.layout import lay_out
from computefarm.store.private import PrivateDirs
from computefarm.store.removing import remove_tree
from computefarm.store.shelf import SMALL

ROOT = os.geteuid() == 0


def mess(top: Path, outside: Path) -> None:
    """Leave what a careless task leaves."""
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "b" / "file").write_text("x")
    (top / "empty").mkdir()
    (top / "link").symlink_to(outside)
    (top / "a" / "link").symlink_to(outside / "kept")
    os.mkfifo(top / "pipe")
    (top / "locked" / "inner").mkdir(parents=True)
    (top / "locked" / "inner" / "file").touch()
    (top / "locked" / "inner").chmod(0)
    (top / "locked").chmod(0)
    (top / "readonly").mkdir()
    (top / "readonly" / "file").touch()
    (top / "readonly").chmod(0o500)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").write_text("precious")
    return tmp_path / "outside"


@pytest.mark.parametrize("reuse", [True, False])
def test_a_directory_is_removed_whatever_is_in_it(tmp_path: Path, outside: Path, reuse: bool) -> None:
    dirs = PrivateDirs(tmp_path / "tasks")
    top = dirs.make("1-1")
    mess(top, outside)
    dirs.remove(top, reuse=reuse)
    dirs.remove(top, reuse=False)
    assert not top.exists()
    assert (outside / "kept").read_text() == "precious"
    dirs.close()
    assert list((tmp_path / "tasks").iterdir()) == []


def test_a_kept_directory_comes_back_empty_and_as_new(tmp_path: Path, outside: Path) -> None:
    dirs = PrivateDirs(tmp_path / "tasks")
    fresh = dirs.make("fresh")
    dirs.make_inner(f"{fresh}/inner")
    modes = stat.S_IMODE(fresh.stat().st_mode), stat.S_IMODE((fresh / "inner").stat().st_mode)
    for number in range(20):
        top = dirs.make(f"{number}-1")
        assert list(top.iterdir()) == []
        for name in ("a", "b", "c"):
            dirs.make_inner(f"{top}/{name}")
            dirs.make_inner(f"{top}/{name}/d")
            assert os.listdir(f"{top}/{name}/d") == []
        assert stat.S_IMODE(top.stat().st_mode) == modes[0] == 0o700
        assert stat.S_IMODE((top / "a").stat().st_mode) == modes[1]
        mess(top / "b", outside)
        dirs.remove(top)
    assert list(fresh.iterdir()) == [fresh / "inner"]
    dirs.close()


def test_a_changed_directory_is_not_kept(tmp_path: Path) -> None:
    dirs = PrivateDirs(tmp_path / "tasks")
    top = dirs.make("1-1")
    inode = top.stat().st_ino
    top.chmod(0o777)
    dirs.remove(top)
    assert not top.exists()
    assert stat.S_IMODE(dirs.make("2-1").stat().st_mode) == 0o700
    assert inode > 0
    dirs.close()


def test_without_reuse_the_directory_is_gone_for_good(tmp_path: Path) -> None:
    """A process that outlives its task and stays in its directory never meets another task."""
    dirs = PrivateDirs(tmp_path / "tasks")
    top = dirs.make("1-1")
    held = os.open(top, os.O_RDONLY)
    dirs.remove(top, reuse=False)
    dirs.make("2-1")
    assert os.fstat(held).st_nlink == 0
    os.close(held)
    dirs.close()


def test_a_directory_that_exists_with_content_is_refused(tmp_path: Path) -> None:
    dirs = PrivateDirs(tmp_path / "tasks")
    (dirs.make("1-1") / "file").touch()
    for _ in range(2):
        with pytest.raises(StoreError, match="1-1"):
            dirs.make("1-1")
        dirs.remove(dirs.make("2-1"))
    dirs.close()


def test_directories_in_use_are_never_given_away(tmp_path: Path) -> None:
    dirs = PrivateDirs(tmp_path / "tasks")
    for name in ("1-1", "2-1", "3-1"):
        dirs.make(name)
    for name in ("1-1", "2-1", "3-1"):
        dirs.remove(Path(dirs._base) / name)
    for name in ("1-1", "4-1", "2-1", "5-1", "3-1", "6-1"):
        (dirs.make(name) / name).touch()
    for name in ("1-1", "2-1", "3-1", "4-1", "5-1", "6-1"):
        assert os.listdir(Path(dirs._base) / name) == [name]
    dirs.close()


def test_depth_costs_neither_recursion_nor_descriptors(tmp_path: Path) -> None:
    top = tmp_path / "deep"
    top.mkdir()
    at = os.open(top, os.O_RDONLY)
    for _ in range(1500):  # far beyond the length of any path name
        os.mkdir("down", dir_fd=at)
        below = os.open("down", os.O_RDONLY, dir_fd=at)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=below))
        os.close(at)
        at = below
    os.close(at)
    remove_tree(top)
    assert not top.exists()


def test_remove_tree_does_not_follow_the_top_link(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "link").symlink_to(outside)
    remove_tree(tmp_path / "link")
    assert not (tmp_path / "link").is_symlink()
    assert (outside / "kept").exists()
    with pytest.raises(FileNotFoundError):
        remove_tree(tmp_path / "link")


def test_leftovers_go_and_the_directories_of_the_living_stay(tmp_path: Path, outside: Path) -> None:
    living = PrivateDirs(tmp_path / "tasks")
    mine = living.make("1-1")
    (mine / "file").touch()
    dead = Claim(tmp_path / "tasks", "tasks-")
    mess(dead.path, outside)
    os.close(dead._lock)  # as the kernel does when the process ends
    other = PrivateDirs(tmp_path / "tasks")
    assert not dead.path.exists()
    assert (mine / "file").exists()
    assert other.stuck == ()
    other.close()
    living.close()


def test_a_claim_being_made_is_not_swept_but_an_old_wreck_is(tmp_path: Path) -> None:
    for name, age in (("young", 5), ("old", 120)):
        (tmp_path / f"x-{name}").mkdir()
        os.utime(tmp_path / f"x-{name}", (time.time() - age,) * 2)
    assert sweep(tmp_path, "x-") == ()
    assert [path.name for path in tmp_path.iterdir()] == ["x-young"]


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    dirs = PrivateDirs(tmp_path / "tasks")
    dirs.close()
    dirs.close()


@pytest.mark.skipif(ROOT, reason="root may write everywhere")
def test_a_root_that_cannot_be_written_is_a_store_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="private directories"):
        PrivateDirs(tmp_path / "tasks")


def test_kept_files_are_used_again_with_nothing_of_the_task_before(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "store")
    dirs = PrivateDirs(tmp_path / "tasks")
    wanted = {"a": b"short", "d/b": b"x" * SMALL, "c": b"", "e": b"larger" * SMALL, "f": b"mid" * 999}
    inputs = [FileEntry(name, store.add_bytes(data), len(data), name == "a") for name, data in wanted.items()]
    inodes = []
    for number in range(4):
        top = dirs.make(f"{number}-1")
        lay_out(store, inputs, top, dirs=dirs)
        for entry in inputs:
            found = (top / entry.path).stat()
            assert (top / entry.path).read_bytes() == wanted[entry.path]
            assert found.st_mode & 0o7777 == (0o755 if entry.executable else 0o644)
            assert found.st_nlink == 1
            assert found.st_mtime > time.time() - 60
        inodes.append({(top / name).stat().st_ino for name in ("a", "d/b", "f")})
        # What a task may do to a file besides writing.
        (top / "a").chmod(0o4711)
        os.utime(top / "a", (1, 1))
        (top / "f").chmod(0)
        (top / "d" / "b").write_bytes(b"-" * number)
        (top / "made").write_bytes(b"!" * 3000)
        with contextlib.suppress(OSError):
            os.setxattr(top / "made", "user.note", b"mine")
        dirs.remove(top)
    assert inodes[0] & inodes[1]
    assert all("user.note" not in os.listxattr(path) for path in top.parent.rglob("[0-9]-1/*"))
    dirs.close()
    store.close()


def test_a_file_with_a_second_name_is_not_kept(tmp_path: Path) -> None:
    dirs = PrivateDirs(tmp_path / "tasks")
    top = dirs.make("1-1")
    (top / "file").write_text("result")
    os.link(top / "file", tmp_path / "elsewhere")
    (top / "link").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(top / "pipe")
    dirs.remove(top)
    assert dirs.open_spare(str(dirs.make("2-1") / "x")) is None
    assert (tmp_path / "elsewhere").read_text() == "result"
    dirs.close()


def test_a_deleted_folder_is_made_again(tmp_path: Path) -> None:
    dirs = PrivateDirs(tmp_path / "private")
    used = dirs.take()
    Path(used, "file").write_text("x")
    Path(used, "folder").mkdir()
    dirs.remove(used)
    shutil.rmtree(tmp_path / "private")
    for _ in range(2):
        assert os.listdir(dirs.take()) == []
    inner = f"{dirs.make('named')}/inner"
    dirs.make_inner(inner)
    assert os.path.isdir(inner)
    assert dirs.open_spare(f"{inner}/spare") is None
    assert not sweep(tmp_path / "private", "tasks-")
    assert os.path.isdir(inner)
    dirs.close()
    assert os.listdir(tmp_path / "private") == []
