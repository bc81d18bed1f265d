from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from computefarm.logs.tasklog import TaskLogs, last_lines, prune, run_folder, safe_name
from computefarm.messages import Piece


def out(text: str, stream: int = 1) -> Piece:
    return Piece(stream=stream, created_at=0.0, text=text)


@pytest.mark.parametrize(
    ("task", "name"),
    [("compile:lvm", "compile:lvm.log"), ("a_b-c.o", "a_b-c.o.log"), ("build+all=1", "build+all=1.log")],
)
def test_a_plain_name_stays_readable(task: str, name: str) -> None:
    assert safe_name(task) == name


@given(st.text(max_size=400), st.text(max_size=400))
def test_any_name_gives_a_safe_file_name_of_its_own(one: str, other: str) -> None:
    name = safe_name(one)
    assert "/" not in name
    assert not name.startswith((".", "-"))
    assert len(name.encode()) <= 200
    assert (name == safe_name(other)) == (one == other)


def test_a_task_that_prints_nothing_makes_no_file(tmp_path: Path) -> None:
    logs = TaskLogs(tmp_path / "logs")

    assert logs.end("quiet") is None
    assert not (tmp_path / "logs").exists()


def test_output_is_in_the_file_as_it_came_while_the_task_runs(tmp_path: Path) -> None:
    logs = TaskLogs(tmp_path / "logs")
    logs.write("t/1", [out("one\n"), out("zwei ü\n", 2)])
    logs.write("t/1", [out("three\n")])

    path = logs.path("t/1")
    assert path is not None
    assert path.read_text() == "one\nzwei ü\nthree\n"
    assert logs.end("t/1") == path
    assert [file.name for file in (tmp_path / "logs").iterdir()] == [path.name]


def test_a_second_attempt_has_a_heading_of_its_own(tmp_path: Path) -> None:
    logs = TaskLogs(tmp_path)
    logs.heading("t", "attempt 1 on a")
    logs.write("t", [out("half")])
    logs.heading("t", "attempt 2 on b")
    logs.write("t", [out("whole\n")])

    assert (tmp_path / "t.log").read_text() == "half--- attempt 2 on b ---\nwhole\n"


def test_names_that_differ_in_case_only_have_different_files_everywhere(tmp_path: Path) -> None:
    logs = TaskLogs(tmp_path)
    logs.write("make", [out("a")])
    logs.write("Make", [out("b")])

    names = [path.name for task in ("make", "Make") if (path := logs.path(task))]
    assert len({name.casefold() for name in names}) == 2


def test_the_beginning_and_the_end_of_each_stream_are_kept(tmp_path: Path) -> None:
    logs = TaskLogs(tmp_path, head=20, tail=30)
    for number in range(100):
        logs.write("t", [out(f"line {number:03}\n")])
    logs.write("t", [out("oops\n", 2)])
    path = logs.end("t")

    assert path is not None
    text = path.read_text()
    assert text.startswith("line 000\nline 001\n[... 852 bytes of stdout left out ...]\n")
    assert text.endswith("96\nline 097\nline 098\nline 099\noops\n")


def test_a_long_output_within_the_limits_is_kept_whole(tmp_path: Path) -> None:
    logs = TaskLogs(tmp_path, head=20, tail=1000)
    whole = "".join(f"line {number}\n" for number in range(90))
    for line in whole.splitlines(keepends=True):
        logs.write("t", [out(line)])
    logs.close()

    assert (tmp_path / "t.log").read_text() == whole


def test_trouble_with_the_disk_is_told_and_harms_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    logs = TaskLogs(tmp_path / "file" / "logs")
    logs.write("t", [out("x")])
    logs.end("t")

    assert "cannot be written" in logs.trouble


def test_the_last_lines_of_a_log(tmp_path: Path) -> None:
    (tmp_path / "t.log").write_text("\n".join(str(n) for n in range(10_000)))

    assert last_lines(tmp_path / "t.log", 3) == ["9997", "9998", "9999"]
    assert last_lines(tmp_path / "none.log", 3) == []


def test_pruning_removes_the_oldest_runs_but_never_the_one_to_keep(tmp_path: Path) -> None:
    for age, run in enumerate(("new", "mid", "old", "mine")):
        folder = run_folder(tmp_path, run)
        folder.mkdir(parents=True)
        (folder / "t.log").write_bytes(b"x" * 100)
        os.utime(tmp_path / "runs" / run, (1000 - age, 1000 - age))

    assert prune(tmp_path, keep="mine", total=250) == ["old", "mid"]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["mine", "new"]
    assert prune(tmp_path / "nowhere") == []
