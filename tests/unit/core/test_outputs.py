from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from computefarm.core.outputs import stray_output
from computefarm.messages import FileEntry
from computefarm.testing.farm import Farm, action, spec, success

DIGEST = b"d" * 32


def stray(path: str, *declared: str) -> str | None:
    return stray_output([FileEntry(path, DIGEST, 1)], declared)


@pytest.mark.parametrize(
    ("path", "declared"),
    [
        ("a.o", "a.o"), ("out/x/y", "out"), ("out/x", "out/"), ("include/a.h", "include/**/*.h"), ("a", "./a"), ("x", "."),
        ("include/b/a.h", "include/**/*.h"), ("b/a.o", "b/*.o"), ("lib1/x", "lib?"), ("a/.hidden", "a"), ("b/x/y.o", "b/**"),
    ],
)  # fmt: skip
def test_what_was_declared_comes_back(path: str, declared: str) -> None:
    assert stray(path, declared) is None


@pytest.mark.parametrize(
    ("path", "declared", "fault"),
    [
        ("dodo.py", "a.o", "not declared"), ("outx", "out", "not declared"), ("b/a.c", "b/*.o", "not declared"),
        ("../a", "*", "leads out"), ("a/../../b", "a", "leads out"), ("/etc/passwd", "*", "absolute"), ("a\0b", "*", "NUL"),
        ("x" * 5000, "*", "5,000 characters"), ("x" * 300, "*", "more than 255"), ("a//b", "a", "empty"), ("", "*", "empty"),
        ("a/.", "a", "empty or `.`"), (".git/hooks/post-commit", "a", "not declared"), ("A.O", "a.o", "not declared"),
    ],
)  # fmt: skip
def test_what_was_not_declared_does_not(path: str, declared: str, fault: str) -> None:
    text = stray(path, declared)
    assert text is not None
    assert fault in text
    assert text.isprintable()
    assert len(text) < 400


def test_the_same_file_twice() -> None:
    entry = FileEntry("a", DIGEST, 1)
    assert stray_output([entry, entry], ["a"]) == "output a came twice"


@given(st.text(max_size=40), st.lists(st.text(max_size=20), max_size=3))
def test_any_path_stays_below_or_is_refused(path: str, declared: list[str]) -> None:
    if stray(path, *declared) is None:
        assert path
        assert not path.startswith("/")
        assert not {"..", ".", ""} & set(path.split("/"))
        assert declared


def test_a_stray_output_fails_the_task_and_is_told_of_the_worker() -> None:
    farm = Farm().client().worker("w1")
    farm.submit(spec(1, action=action("x", outputs=("a.o",))))

    farm.finish(farm.run(), success(FileEntry("dodo.py", DIGEST, 1)))

    done = farm.done()
    assert done.result.outcome == "failed"
    assert done.result.reason == "the worker sent what it must not: output dodo.py was not declared"
    assert done.result.outputs == ()
    assert farm.manager.oddities() == [("w1", done.result.reason)]
    assert farm.manager.oddities() == []


def test_an_empty_folder_that_was_declared_comes_back_and_nothing_else_ends_with_a_slash() -> None:
    folder = FileEntry("out/", DIGEST, 0)

    assert stray_output([folder], ["out"]) is None
    assert stray_output([folder], ["out/"]) is None
    assert stray_output([folder], ["other"]) is not None
    assert stray_output([FileEntry("out/", DIGEST, 1)], ["out"]) is not None
    assert stray_output([FileEntry("../out/", DIGEST, 0)], ["*"]) is not None
    assert stray_output([FileEntry("out//", DIGEST, 0)], ["out"]) is not None
