"""The farm's log: who may read what, and what is written."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from computefarm.core.source import Source
from computefarm.errors import UsageError
from computefarm.logs import farm_log
from computefarm.logs.farm_log import FarmLog
from computefarm.logs.jsonl import START, LineLog
from computefarm.logs.reading import Wish, read_farm_log
from computefarm.logs.runs import Runs, label_of
from computefarm.logs.taskfiles import TaskFiles
from computefarm.messages import LogRecord, Piece

ANN, BOB = "ann's key", "bob's key"


@pytest.fixture
def log(tmp_path: Path) -> Iterator[FarmLog]:
    made = FarmLog(tmp_path, limit=1 << 20, parser_of=lambda source: source.capability)
    yield made
    made.close()


def source(run: str = "r1", owner: str = ANN, task: str = "t", host: str = "nn02") -> Source:
    return Source(host, "gcc", ((run, owner, task),))


def settle(log: FarmLog) -> None:
    until = time.monotonic() + 10
    while not log.idle:
        assert time.monotonic() < until
        time.sleep(0.005)


def read(log: FarmLog, owner: str | None = None, **wish: str) -> list[dict[str, Any]]:
    settle(log)
    found = read_farm_log(log.path, log.runs, log.end, Wish(**wish), owner=owner)
    assert found.page.at_end
    return [json.loads(line) for line in found.page.lines]


def texts(log: FarmLog, owner: str | None = None, **wish: str) -> list[str]:
    return [record["msg"] for record in read(log, owner, **wish)]


def test_lines_are_written_with_everything_that_is_known_of_them(log: FarmLog) -> None:
    log.output(source(), 2, (Piece(2, 5.0, "a.c:3:5: warning: unused\nplain\n", 0, 7),))
    assert read(log) == [
        {"created": 5.0, "level": "warning", "name": "farm.r1.nn02.gcc", "msg": "unused", "task": "t", "attempt": 2,
         "host": "nn02", "stream": "stderr", "seq": 7, "dir": "", "file": "a.c", "line": 3, "column": 5},
        {"created": 5.0, "level": "info", "name": "farm.r1.nn02.gcc", "msg": "plain", "task": "t", "attempt": 2,
         "host": "nn02", "stream": "stderr", "seq": 8},
    ]  # fmt: skip
    assert (log.path.parent / "runs" / "r1" / "t.log").read_text() == "a.c:3:5: warning: unused\nplain\n"


def test_a_reader_is_shown_what_is_asked_for(log: FarmLog) -> None:
    log.output(source(task="a"), 1, (Piece(1, 0.0, "a1\n"), Piece(2, 0.0, "x.c:1: error: e\n")))
    log.output(source(task="b", host="nn03"), 1, (Piece(1, 0.0, "b1\n"),))
    log.reported("nn02", "worker", (LogRecord(0.0, "warning", "full"), LogRecord(0.0, "strange", "x")))
    assert texts(log) == ["a1", "e", "b1", "full", "x"]
    assert texts(log, task="a") == ["a1", "e"]
    assert texts(log, host="nn03") == ["b1"]
    assert texts(log, level="warning") == ["e", "full"]
    assert texts(log, level="warning", run="r1") == ["e"]
    assert texts(log, task='a","level":"error') == []
    assert [r["name"] for r in read(log)][-2:] == ["farm.-.nn02.worker"] * 2


def test_a_client_sees_its_own_runs_and_nothing_else(log: FarmLog) -> None:
    log.output(source("r1", ANN), 1, (Piece(1, 0.0, "ann\n"),))
    log.output(source("r2", BOB), 1, (Piece(1, 0.0, "bob\n"),))
    log.reported("nn02", "worker", (LogRecord(0.0, "info", "daemon"),))
    assert texts(log, ANN) == ["ann"]
    assert texts(log, BOB, run="last") == ["bob"]
    assert texts(log, "nobody's key") == []
    with pytest.raises(UsageError, match="no run called 'r2'"):
        texts(log, ANN, run="r2")
    with pytest.raises(UsageError, match="no run that this key may see"):
        texts(log, "nobody's key", run="r1")


@pytest.mark.parametrize("taken", ["r1", "-", "", "r.1", "../../etc"])
def test_nobody_reads_anothers_lines_by_taking_the_name_of_its_run(log: FarmLog, taken: str) -> None:
    log.output(source(taken, ANN), 1, (Piece(1, 0.0, "ann\n"),))
    log.reported("nn02", "worker", (LogRecord(0.0, "info", "daemon"),))
    log.output(source(taken, BOB), 1, (Piece(1, 0.0, "bob\n"),))
    log.output(source(taken.replace(".", "_"), BOB), 1, (Piece(1, 0.0, "bob too\n"),))
    log.output(source(taken, ANN), 1, (Piece(1, 0.0, "ann again\n"),))
    assert texts(log, ANN) == ["ann", "ann again"]
    assert texts(log, BOB) == ["bob", "bob too"]
    written = [path for path in log.path.parent.rglob("*") if path.is_file()]
    assert all(log.path.parent in path.resolve().parents for path in written)


def test_tasks_that_share_a_run_each_have_its_lines(log: FarmLog) -> None:
    both = Source("nn02", "gcc", (("r1", ANN, "a"), ("r2", BOB, "b")))
    log.output(both, 1, (Piece(1, 0.0, "shared\n"),))
    assert (texts(log, ANN), texts(log, BOB)) == (["shared"], ["shared"])


def test_a_run_is_known_by_its_beginning_and_after_a_restart(log: FarmLog, tmp_path: Path) -> None:
    for run in ("2026-a", "2026-b"):
        log.output(source(run), 1, (Piece(1, 0.0, f"{run}\n"),))
        settle(log)
    assert texts(log, run="2026-a") == ["2026-a"]
    with pytest.raises(UsageError, match="more than one run"):
        texts(log, run="2026")
    log.close()
    again = FarmLog(tmp_path, limit=1 << 20)
    try:
        assert texts(again, ANN, run="last") == ["2026-b"]
        again.output(source("2026-b"), 1, (Piece(1, 0.0, "more\n", 3, 9),))
        assert [(r["msg"], r["seq"]) for r in read(again, run="2026-b")] == [("2026-b", 0), ("more", 9)]
    finally:
        again.close()


def test_only_the_newest_runs_are_remembered_and_the_files_of_the_others_go(tmp_path: Path) -> None:
    gone: list[str] = []
    runs = Runs(tmp_path, 2, gone.append)
    for n in range(4):
        runs.label(f"r{n}", ANN, START)
    assert gone == ["r0", "r1"]
    assert [facts.run for facts in runs.of(ANN)] == ["r2", "r3"]


def test_what_comes_too_fast_is_counted_in_the_log_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(farm_log, "QUEUED", 1000)
    log = FarmLog(tmp_path, limit=1 << 20)
    try:
        for _ in range(50):
            log.output(source(), 1, (Piece(1, 0.0, "x" * 99 + "\n"),))
        said = texts(log)
        assert log.left_out
        assert said.count("x" * 99) == 50 - log.left_out
        told = [int(text.split()[0]) for text in said if "lines are missing here" in text]
        assert sum(told) == log.left_out
    finally:
        log.close()


def test_a_disk_that_is_full_stops_nobody_and_is_said_once(
    log: FarmLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: LineLog, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(LineLog, "_write", full)
        for n in range(5):
            log.output(source(), 1, (Piece(1, 0.0, f"{n}\n"),))
            settle(log)
    assert len([r for r in caplog.records if "No space left" in r.message]) == 1
    log.output(source(), 1, (Piece(1, 0.0, "again\n"),))
    found = texts(log)
    assert found[0] == "again"
    assert "bytes of this log could not be written" in found[1]


def test_labels_are_parts_of_a_name_and_of_a_path() -> None:
    for run in ("r1", "a.b", "../x", "", "-", "a/b", "x" * 300, "ü"):
        label = label_of(run)
        assert label not in ("", "-", ".", "..")
        assert not set(label) & set("./\0")
        assert len(label) < 200


def test_a_tasks_file_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    files = TaskFiles(tmp_path, head=100, tail=200)
    for n in range(1000):
        files.write("r1", "t", 1, (Piece(1, 0.0, f"{n:09d}\n"),))
    path = tmp_path / "r1" / "t.log"
    lines = path.read_text().splitlines()
    assert path.stat().st_size <= 100 + 3 * 200
    assert lines[0] == "000000000"
    assert lines[-1] == "000000999"
    assert lines.count("[... output left out here ...]") == 1
    files.write("r1", "t", 2, (Piece(1, 0.0, "again\n"),))
    assert path.read_text().endswith("--- attempt 2 ---\nagain\n")


def test_a_folder_that_cannot_be_written_is_a_fault_and_no_crash(tmp_path: Path) -> None:
    (tmp_path / "r1").write_text("")
    files = TaskFiles(tmp_path)
    files.write("r1", "t", 1, (Piece(1, 0.0, "x\n"),))
    assert files.fault
