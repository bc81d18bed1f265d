from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from computefarm.errors import FarmError
from computefarm.journal.history import FILE, History, HistoryWriter, Limits, RunRow, TaskRow, prune
from computefarm.messages import Attempt, Outcome

LOST = Attempt(attempt=1, worker="w1", hostname="a", outcome="lost", reason="silent for 9 s")
WON = Attempt(attempt=2, worker="w2", hostname="b", outcome="succeeded", run_s=0.5)
COMPILED = TaskRow(
    task="compile:lvm",
    outcome=Outcome.SUCCEEDED,
    capability="gcc",
    host="b",
    worker="w2",
    attempt=2,
    attempts=(LOST, WON),
    exit_code=0,
    run_s=0.5,
)
SKIPPED = TaskRow(task="link", outcome=Outcome.UP_TO_DATE)


def run_row(run: str = "r1", folder: str = "/p", started: float = 100.0) -> RunRow:
    return RunRow(run=run, folder=folder, dodo="dodo.py", farm="local", pid=1, started=started)


def recorded(path: Path, *rows: TaskRow, run: RunRow | None = None, limits: Limits | None = None) -> None:
    run = run if run is not None else run_row(started=time.time())
    writer = HistoryWriter(path, run, limits)
    for row in rows:
        writer.add(row)
    writer.close(ended=run.started + 1, exit_code=0)
    assert writer.trouble == ""


def test_what_was_written_is_read_back_whole_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "state" / "history.db"
    recorded(path, COMPILED, SKIPPED, run=run_row(started=(now := time.time())))

    history = History(path)
    assert history.tasks("r1") == [COMPILED, SKIPPED]
    assert history.last(Path("/p")) == RunRow("r1", "/p", "dodo.py", "local", 1, now, now + 1, 0, 2)


def test_nothing_is_found_where_nothing_was_written(tmp_path: Path) -> None:
    history = History(tmp_path / "history.db")

    assert history.last(Path("/p")) is None
    assert history.find("r1") is None
    assert history.tasks("r1") == []
    assert history.recent() == []
    assert history.latest_of(Path("/p"), "t") == []


def test_the_last_run_is_the_folder_s_own(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    now = time.time()
    for run, folder in (("r1", "/p"), ("r2", "/p"), ("r3", "/q")):
        recorded(path, run=run_row(run, folder, now))

    last = History(path).last(Path("/p"))
    assert last is not None
    assert last.run == "r2"
    assert [row.run for row in History(path).recent()] == ["r3", "r2", "r1"]
    assert [row.run for row in History(path).recent(Path("/p"), 1)] == ["r2"]


def test_a_run_is_found_by_a_beginning_of_its_name_only_when_that_is_clear(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    for run in ("ab_1", "abc1", "abd1"):
        recorded(path, run=run_row(run, started=time.time()))

    history = History(path)
    assert [
        found.run if (found := history.find(name)) else None for name in ("ab_", "abc", "ab", "", "x")
    ] == [
        "ab_1",
        "abc1",
        None,
        None,
        None,
    ]


def test_a_task_is_followed_over_the_runs_of_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    now = time.time()
    recorded(path, COMPILED, run=run_row("r1", started=now))
    recorded(path, SKIPPED, run=run_row("r2", started=now))
    recorded(path, COMPILED, run=run_row("r3", "/other", now))

    found = History(path).latest_of(Path("/p"), "compile:lvm")
    assert [(run.run, row) for run, row in found] == [("r1", COMPILED)]


def test_pruning_keeps_the_newest_runs_within_every_limit(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    for number in range(5):
        recorded(
            path,
            COMPILED,
            SKIPPED,
            run=run_row(f"r{number}", started=1000.0 + number),
            limits=Limits(days=1e9),
        )

    with sqlite3.connect(path) as db:
        assert prune(db, Limits(runs=4, days=1e9), now=2000.0) == 1
        assert prune(db, Limits(days=1e9, tasks=5), now=2000.0) == 2
        assert prune(db, Limits(days=1.0), now=1003.5 + 86_400) == 1
        assert prune(db, Limits(runs=0, days=0.0, tasks=0), now=9e9) == 0
    assert [run.run for run in History(path).recent()] == ["r4"]
    assert History(path).tasks("r0") == []
    db.close()


def test_trouble_with_the_disk_is_told_and_harms_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    writer = HistoryWriter(tmp_path / "file" / "history.db", run_row())
    writer.add(COMPILED)
    writer.close(1.0, 0)

    assert "cannot be written" in writer.trouble


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    writer = HistoryWriter(path, run_row())
    writer.close(1.0, 0)

    assert "newer ComputeFarm" in writer.trouble


def test_a_killed_run_keeps_what_had_ended(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    script = (
        "import os, signal, sys, time\n"
        "from pathlib import Path\n"
        "from computefarm.journal.history import History, HistoryWriter, RunRow, TaskRow\n"
        "path = Path(sys.argv[1])\n"
        "writer = HistoryWriter(path, RunRow('r1', '/p', 'dodo.py', 'local', 1, time.time()))\n"
        "writer.add(TaskRow('a', 'succeeded')); writer.add(TaskRow('b', 'failed'))\n"
        "while len(History(path).tasks('r1')) < 2: time.sleep(0.005)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(path)], timeout=60, check=False)

    assert killed.returncode == -9
    run = History(path).find("r1")
    assert run is not None
    assert (run.ended, run.exit, run.tasks) == (None, None, 2)
    assert [row.task for row in History(path).tasks("r1")] == ["a", "b"]


def test_tasks_with_nothing_to_do_are_stored_together_and_read_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    writer = HistoryWriter(path, run_row(started=time.time()))
    writer.add(COMPILED)
    writer.add_up_to_date([("link", ""), ("archive", "gcc")])
    writer.add_up_to_date([])
    writer.close(ended=time.time(), exit_code=0)

    history = History(path)
    archived = TaskRow(task="archive", outcome=Outcome.UP_TO_DATE, capability="gcc")
    assert history.tasks("r1") == [COMPILED, SKIPPED, archived]
    [(run, row)] = history.latest_of(Path("/p"), "archive")
    assert (run.tasks, row) == (3, archived)


def test_a_history_that_cannot_be_read_is_said_with_what_to_type(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"this is no database " * 100)
    with pytest.raises(FarmError) as caught:
        History(tmp_path / FILE).recent()
    assert "cannot be read" in str(caught.value)
    assert "mv " in caught.value.hint


def test_only_runs_without_an_end_are_unended(tmp_path: Path) -> None:
    history = History(tmp_path / FILE)
    assert history.unended() == set()
    HistoryWriter(tmp_path / FILE, RunRow("one", "/p", "dodo.py", "local", 1, 100.0)).close(101.0, 0)
    writer = HistoryWriter(tmp_path / FILE, RunRow("two", "/p", "dodo.py", "local", 1, 100.0))
    until = time.monotonic() + 10
    while history.unended() != {"two"}:
        assert time.monotonic() < until
        time.sleep(0.01)
    writer.close(102.0, 0)
    assert history.unended() == set()
