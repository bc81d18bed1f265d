from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from computefarm.errors import Damaged, StoreError, TaskError
from computefarm.messages import FileEntry
from computefarm.store.blobs import BlobStore
from computefarm.store.layout import lay_out, output_root, safe_relative
from computefarm.store.private import PrivateDirs


def entry(store: BlobStore, path: str, data: bytes = b"x", executable: bool = False) -> FileEntry:
    return FileEntry(path, store.add_bytes(data), len(data), executable)


def tree(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize("kept", [True, False])
def test_exactly_the_inputs_and_the_folders_of_outputs_are_there(
    tmp_path: Path, store: BlobStore, kept: bool
) -> None:
    dirs = PrivateDirs(tmp_path / "tasks") if kept else None
    inputs = [entry(store, "a/b/c.h", b"1"), entry(store, "a/d.h", b"2"), entry(store, "tool", b"3", True)]
    outputs = ["build/x/y.o", "a/out.o", "lib/*/z.a", "docs/", "plain"]
    for _ in range(3):
        directory = dirs.make("1-1") if dirs else tmp_path / "made" / "here"
        lay_out(store, inputs, directory, outputs, dirs=dirs)
        assert tree(directory) == {
            "a": None, "a/b": None, "a/b/c.h": b"1", "a/d.h": b"2",
            "build": None, "build/x": None, "lib": None, "tool": b"3",
        }  # fmt: skip
        assert os.access(directory / "tool", os.X_OK)
        assert (directory / "a/d.h").stat().st_mode & 0o777 == 0o644
        if dirs is None:
            break
        dirs.remove(directory)
    if dirs:
        dirs.close()


def test_a_task_that_scribbles_over_its_inputs_harms_only_itself(tmp_path: Path, store: BlobStore) -> None:
    data = {"small": b"s" * 100, "large": b"l" * 200_000}
    inputs = [entry(store, name, content) for name, content in data.items()]
    first, second = tmp_path / "first", tmp_path / "second"
    lay_out(store, inputs, first)
    for name in data:
        assert (first / name).stat().st_nlink == 1
        os.truncate(first / name, 1)
        with open(first / name, "r+b") as file:
            file.write(b"scribble" * 100)
        os.chmod(first / name, 0)
    lay_out(store, inputs, second)
    assert tree(second) == data


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/etc/passwd", "absolute"), ("../up", r"\.\."), ("a/../../b", r"\.\."), ("a/..", r"\.\."), ("..", r"\.\."),
        ("", "names no file"), (".", "names no file"), ("./.", "names no file"), ("a//b", "empty"), ("a/", "empty"),
        ("a\0b", "NUL"), ("caf\udce9", "UTF-8"), ("/", "absolute"),
    ],
)  # fmt: skip
def test_paths_that_leave_or_mean_nothing_are_refused(
    tmp_path: Path, store: BlobStore, path: str, why: str
) -> None:
    with pytest.raises(TaskError, match=why):
        safe_relative(path)
    with pytest.raises(TaskError, match=why):
        lay_out(store, [FileEntry(path, store.add_bytes(b"x"), 1)], tmp_path / "dir")
    assert not (tmp_path / "dir").exists()


@pytest.mark.parametrize(
    ("path", "same"), [("./a", "a"), ("a/./b", "a/b"), ("a", "a"), ("a b/ü.c", "a b/ü.c"), ("...", "...")]
)
def test_harmless_paths_are_made_plain(path: str, same: str) -> None:
    assert safe_relative(path) == same


@given(st.text(alphabet="ab./\\\0~*", max_size=12))
def test_no_accepted_path_leaves(path: str) -> None:
    try:
        safe = safe_relative(path)
    except TaskError:
        return
    base = "/base/dir"
    joined = os.path.normpath(f"{base}/{safe}")
    assert joined == f"{base}/{safe}"
    assert joined.startswith(f"{base}/")
    assert safe_relative(safe) == safe


@pytest.mark.parametrize(
    ("paths", "outputs", "named"),
    [
        (["a", "a/b"], [], "a is an input file"),
        (["x/y/z", "x/y"], [], "x/y is an input file"),
        (["a"], ["a/out"], "a is an input file"),
        (["a", "b", "a"], [], "a is given twice"),
        (["./a", "a"], [], "a is given twice"),
        ([], ["../out"], r"\.\./out"),
        ([], ["/tmp/out"], "/tmp/out"),
    ],
)
def test_paths_that_clash_are_refused_by_name(
    tmp_path: Path, store: BlobStore, paths: list[str], outputs: list[str], named: str
) -> None:
    with pytest.raises(TaskError, match=named):
        lay_out(store, [entry(store, path) for path in paths], tmp_path / "dir", outputs)
    assert not (tmp_path / "dir").exists()


def test_an_input_may_also_be_an_output(tmp_path: Path, store: BlobStore) -> None:
    lay_out(store, [entry(store, "a/x")], tmp_path / "dir", ["a/x"])
    assert tree(tmp_path / "dir") == {"a": None, "a/x": b"x"}


def test_blobs_that_cannot_be_had_are_no_longer_in_the_store(tmp_path: Path, store: BlobStore) -> None:
    good, bad, gone = (entry(store, name, name.encode()) for name in ("good", "bad", "gone"))
    os.chmod(store.path(bad.digest), 0o600)
    Path(store.path(bad.digest)).write_bytes(b"BAD")
    os.unlink(store.path(gone.digest))
    with pytest.raises(Damaged):
        lay_out(store, [bad, good], tmp_path / "one")
    with pytest.raises(StoreError):
        lay_out(store, [gone, good], tmp_path / "two")
    assert [item.digest in store for item in (good, bad, gone)] == [True, False, False]
    assert not (tmp_path / "one" / "bad").exists()


def test_a_directory_that_is_not_empty_is_refused(tmp_path: Path, store: BlobStore) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "a").touch()
    with pytest.raises(StoreError, match="a exists already"):
        lay_out(store, [entry(store, "a/b")], tmp_path / "dir")


@pytest.mark.parametrize(
    ("output", "root"),
    [("a/b.o", "a/b.o"), ("a/*.o", "a/*.o"), ("a/**/b/c", "a/**"), ("dir/", "dir"), ("x[12]/y", "x[12]")],
)
def test_an_output_pattern_ends_the_known_path(output: str, root: str) -> None:
    assert output_root(output) == root


def test_names_that_are_too_long_are_a_store_error(tmp_path: Path, store: BlobStore) -> None:
    with pytest.raises(StoreError, match="name too long"):
        lay_out(store, [entry(store, "x" * 300)], tmp_path / "dir")
    with pytest.raises(StoreError, match="name too long"):
        lay_out(store, [entry(store, "y" * 300 + "/a")], tmp_path / "dir2")
