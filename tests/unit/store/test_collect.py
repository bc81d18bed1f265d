from __future__ import annotations

import hashlib
import os
import shutil
import socket
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from computefarm.errors import TaskError
from computefarm.messages import FileEntry
from computefarm.store.blobs import BlobStore
from computefarm.store.collect import Collected, collect

BIG = b"0123456789abcdef" * 100_000


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


@pytest.fixture(params=[False, True], ids=["copied", "consumed"])
def consume(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def put(folder: Path, *names: str, data: bytes | None = None) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode() if data is None else data)


def names(collected: Collected) -> list[str]:
    return [entry.path for entry in collected.entries]


def test_files_folders_and_patterns_come_back(work: Path, store: BlobStore, consume: bool) -> None:
    put(work, "a.o", "b.o", "c.txt", "out/x", "out/deep/y", "lib/p.a", "lib/q/r.a", ".hidden.o", "rest")
    (work / "a.o").chmod(0o755)
    put(work, "big", data=BIG)
    got = collect(work, ["*.o", "out", "lib/**/*.a", "big", "nothing", "*.none"], store, consume=consume)
    expected = ["a.o", "b.o", "big", "lib/p.a", "lib/q/r.a", "out/deep/y", "out/x"]
    assert names(got) == expected
    assert got.missing == ("nothing", "*.none")
    assert got.entries[0] == FileEntry("a.o", hashlib.sha256(b"a.o").digest(), 3, True)
    assert got.entries[2] == FileEntry("big", hashlib.sha256(BIG).digest(), len(BIG), False)
    for entry in got.entries:
        data = store.read(entry.digest)
        assert data == (BIG if entry.path == "big" else entry.path.encode())
    assert (work / "rest").exists()
    assert (work / "a.o").exists() is not consume


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*", ["a.c", "b1.c", "d/e.c", "d/f/g.c"]),
        ("**", ["a.c", "b1.c", "d/e.c", "d/f/g.c"]),
        ("**/*.c", ["a.c", "b1.c", "d/e.c", "d/f/g.c"]),
        ("b?.c", ["b1.c"]),
        ("[ab]*.c", ["a.c", "b1.c"]),
        ("[!a]*.c", ["b1.c"]),
        ("*/e.c", ["d/e.c"]),
        ("d/**/g.c", ["d/f/g.c"]),
        ("**/f", ["d/f/g.c"]),
        ("d/*", ["d/e.c", "d/f/g.c"]),
        (".*", [".h.c"]),
        ("x/**", []),
        ("a.c/*", []),
    ],
)
def test_patterns_mean_what_a_shell_means(
    work: Path, store: BlobStore, pattern: str, expected: list[str]
) -> None:
    put(work, "a.c", "b1.c", "d/e.c", "d/f/g.c", ".h.c")
    got = collect(work, [pattern], store)
    assert names(got) == expected
    assert got.missing == (() if expected else (pattern,))


def test_a_literal_name_with_pattern_letters_wins(work: Path, store: BlobStore) -> None:
    put(work, "a[1].o", "a1.o")
    assert names(collect(work, ["a[1].o"], store)) == ["a[1].o"]


def test_overlapping_outputs_are_taken_once(work: Path, store: BlobStore, consume: bool) -> None:
    put(work, "out/x", "out/y")
    got = collect(work, ["out", "out/x", "out/*", "./out/y"], store, consume=consume)
    assert names(got) == ["out/x", "out/y"]
    assert got.missing == ()


@pytest.mark.parametrize("declared", ["out", "out/"])
def test_a_declared_folder_comes_back_even_when_it_is_empty(
    work: Path, store: BlobStore, declared: str
) -> None:
    (work / "out").mkdir()
    got = collect(work, [declared], store)

    assert got == ((FileEntry("out/", hashlib.sha256(b"").digest(), 0),), ())
    assert store.read(got.entries[0].digest) == b""


def test_empty_folders_that_nobody_named_are_not_sent(work: Path, store: BlobStore) -> None:
    put(work, "out/x")
    (work / "out/inner").mkdir()
    (work / "other").mkdir()

    assert names(collect(work, ["out"], store)) == ["out/x"]
    assert collect(work, ["oth*"], store) == ((), ())


def test_a_file_declared_as_a_folder_is_refused(work: Path, store: BlobStore) -> None:
    put(work, "out")
    with pytest.raises(TaskError, match="out/ is a file"):
        collect(work, ["out/"], store)


def test_links_inside_are_followed(work: Path, store: BlobStore, consume: bool) -> None:
    put(work, "real/a", "lib.so.1.2", data=BIG)
    (work / "lib.so").symlink_to("lib.so.1.2")
    (work / "abs").symlink_to(work / "real" / "a")
    (work / "folder").symlink_to("real")
    (work / "real" / "up").symlink_to("../lib.so")
    got = collect(work, ["abs", "folder", "lib.so", "lib.so.1.2", "real"], store, consume=consume)
    assert names(got) == ["abs", "folder/a", "folder/up", "lib.so", "lib.so.1.2", "real/a", "real/up"]
    assert {entry.digest for entry in got.entries} == {hashlib.sha256(BIG).digest()}
    assert got.missing == ()


@pytest.mark.parametrize("consume_", [False, True])
@pytest.mark.parametrize(
    ("output", "link", "target"),
    [
        ("leak.out", "leak.out", "/etc/passwd"),
        ("leak.out", "leak.out", "../secret"),
        ("leak", "leak", "../folder"),
        ("via/secret2", "via", "../folder"),
        ("*.out", "x.out", "../secret"),
        ("out", "out/inner", "../../secret"),
        ("out", "out/inner", "../../folder"),
        ("**/secret2", "out", "/nowhere"),
        ("leak/*", "leak", "../folder"),
        ("gone.out", "gone.out", "../does-not-exist"),
        ("sly", "sly", "../work-2/x"),
    ],
)
def test_what_leads_outside_is_refused_by_name(
    work: Path, store: BlobStore, output: str, link: str, target: str, consume_: bool
) -> None:
    put(work.parent, "secret", "folder/secret2", "work-2/x")
    (work / link).parent.mkdir(exist_ok=True)
    (work / link).symlink_to(target)
    if output.startswith("**"):
        assert collect(work, [output], store).missing == (output,)  # ** does not go through links
        return
    with pytest.raises(TaskError, match="leads outside the task's directory") as caught:
        collect(work, [output], store, consume=consume_)
    assert output in str(caught.value)
    assert len(store) == 0
    assert (work.parent / "secret").exists()
    assert (work.parent / "folder/secret2").exists()


def test_the_message_says_where_it_led(work: Path, store: BlobStore) -> None:
    (work / "leak.out").symlink_to("/etc/passwd")
    with pytest.raises(TaskError) as caught:
        collect(work, ["leak.out"], store)
    assert str(caught.value) == "output leak.out leads outside the task's directory (-> /etc/passwd)"


@pytest.mark.parametrize("output", ["/etc/passwd", "../x", "a/../../x", "", "a//b", "../*", "/tmp/*"])
def test_declarations_that_leave_are_refused(work: Path, store: BlobStore, output: str) -> None:
    with pytest.raises(TaskError):
        collect(work, [output], store)


def test_a_dangling_link_inside_is_missing(work: Path, store: BlobStore) -> None:
    (work / "out").symlink_to("nothing")
    assert collect(work, ["out"], store).missing == ("out",)
    (work / "folder").mkdir()
    (work / "folder" / "out").symlink_to("nothing")
    with pytest.raises(TaskError, match="link to nothing"):
        collect(work, ["folder"], store)


@pytest.mark.parametrize("inside", ["", "folder/"])
def test_pipes_sockets_and_devices_are_refused(work: Path, store: BlobStore, inside: str) -> None:
    (work / "folder").mkdir()
    os.mkfifo(work / f"{inside}pipe")
    with pytest.raises(TaskError, match=f"{inside}pipe.* is a pipe"):
        collect(work, ["folder" if inside else "pipe"], store)
    os.unlink(work / f"{inside}pipe")
    before = os.getcwd()
    os.chdir(work)  # socket names are short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"{inside}sock")
            with pytest.raises(TaskError, match="is a socket"):
                collect(work, ["folder" if inside else "sock"], store)
    finally:
        os.chdir(before)


def test_links_in_a_ring_end(work: Path, store: BlobStore) -> None:
    (work / "loop").symlink_to("loop")
    with pytest.raises(TaskError, match="output loop"):
        collect(work, ["loop"], store)
    put(work, "folder/x")
    (work / "folder" / "self").symlink_to(".")
    with pytest.raises(TaskError, match="without end"):
        collect(work, ["folder"], store)
    assert names(collect(work, ["**/x"], store)) == ["folder/x"]


def test_too_many_files_are_refused_with_the_number(work: Path, store: BlobStore) -> None:
    put(work, *(f"out/{number}" for number in range(11)))
    with pytest.raises(TaskError, match="more than 10 files"):
        collect(work, ["out"], store, max_files=10)
    assert len(names(collect(work, ["out"], store, max_files=11))) == 11


def test_a_name_that_cannot_be_sent_is_refused(work: Path, store: BlobStore) -> None:
    with open(os.fsencode(work) + b"/caf\xe9", "wb"):
        pass
    with pytest.raises(TaskError, match="UTF-8"):
        collect(work, ["*"], store)


def test_a_consumed_file_with_a_second_name_stays_its_own(work: Path, store: BlobStore) -> None:
    put(work, "a", data=BIG)
    os.link(work / "a", work / "b")
    got = collect(work, ["a", "b"], store, consume=True)
    assert names(got) == ["a", "b"]
    (work / "b").write_bytes(b"scribble") if (work / "b").exists() else None
    assert store.read(got.entries[0].digest) == BIG


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    links=st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "d/c", "d/e"]),
            st.sampled_from(
                ["a", "../a", "../secret", "/etc/hostname", "..", "../..", "d", ".", "e", "../d"]
            ),
        ),
        max_size=4,
    ),
    output=st.sampled_from(["a", "b", "d", "d/*", "**", "d/c", "a/b", "*/*", "a/secret"]),
    consume=st.booleans(),
)
def test_no_arrangement_of_links_lets_anything_out(
    tmp_path: Path, store: BlobStore, links: list[tuple[str, str]], output: str, consume: bool
) -> None:
    work = tmp_path / "fuzz" / "work"
    shutil.rmtree(work.parent, ignore_errors=True)
    (work / "d").mkdir(parents=True)
    (work.parent / "secret").write_bytes(b"SECRET")
    (work / "inside").write_bytes(b"fine")
    for name, target in links:
        if not (work / name).is_symlink():
            (work / name).symlink_to(target)
    try:
        got = collect(work, [output], store, consume=consume)
    except TaskError:
        got = Collected((), ())
    for entry in got.entries:
        # A folder with nothing in it is one of the folder's own.
        assert store.read(entry.digest) == (b"" if entry.path.endswith("/") else b"fine")
    assert (work.parent / "secret").read_bytes() == b"SECRET"
