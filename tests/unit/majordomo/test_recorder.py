from __future__ import annotations

import time
from pathlib import Path

from computefarm.journal.history import FILE, History
from computefarm.majordomo.recorder import Recorder, row_of
from computefarm.majordomo.reporting import TaskRecord
from computefarm.messages import Attempt, Outcome, Piece

HI = Piece(stream=1, created_at=0.0, text="hi\n")


def test_a_run_is_kept_with_its_records_and_its_output(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "state", tmp_path, "dodo.py", clock=lambda: 100.0)
    recorder.run_started("r1", 3, [], "lab")
    recorder.task_placed("live", "w1", "h1", 1)
    recorder.task_printed("live", [HI])
    recorder.task_ended(TaskRecord("live", Outcome.SUCCEEDED, log=(HI,)))
    recorder.task_ended(TaskRecord("cached", Outcome.SUCCEEDED, cached=True, log=(HI,)))
    recorder.task_ended(TaskRecord("quiet", Outcome.UP_TO_DATE))
    recorder.run_ended(0)

    history = History(tmp_path / "state" / FILE)
    run = history.last(tmp_path)
    assert run is not None
    assert (run.run, run.farm, run.dodo, run.started, run.ended, run.exit) == (
        "r1",
        "lab",
        "dodo.py",
        100.0,
        100.0,
        0,
    )
    kept = {row.task: Path(row.log_path).read_text() if row.log_path else None for row in history.tasks("r1")}
    assert kept == {"live": "hi\n", "cached": "hi\n", "quiet": None}
    assert recorder.trouble == ""


def test_a_log_is_known_while_its_task_runs(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, tmp_path, "dodo.py")
    assert recorder.log_path("t") is None
    assert recorder.logs_folder() == ""
    recorder.run_started("r1", 1, [], "local")
    recorder.task_printed("t", [HI])
    recorder.task_placed("t", "w2", "h2", 2)

    path = recorder.log_path("t")
    assert path is not None
    assert path.read_text() == "hi\n--- attempt 2 on h2 (w2) ---\n"
    assert recorder.logs_folder() == str(path.parent)
    recorder.run_ended(0)


def test_a_state_folder_that_cannot_be_used_is_told_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    recorder = Recorder(tmp_path / "file" / "state", tmp_path, "dodo.py")
    recorder.run_started("r1", 1, [], "local")
    recorder.task_printed("t", [HI])
    recorder.task_ended(TaskRecord("t", Outcome.SUCCEEDED))
    recorder.run_ended(0)

    assert "are not kept" in recorder.trouble


def test_history_keeps_every_field_but_the_output() -> None:
    record = TaskRecord(
        task="t", outcome=Outcome.FAILED, capability="gcc", host="h", worker="w", attempt=2,
        attempts=(Attempt(1, "w", "h", "lost"),), cached=True, reason="r", exit_code=3, queued_s=1.0, run_s=2.0,
        bytes_in=3, bytes_out=4, started_at=5.0, ended_at=6.0, cpu_s=7.0, peak_memory=8, rerun=("x",), log=(HI,),
    )  # fmt: skip
    row = row_of(record, "/log")

    for field in row.__struct_fields__:
        assert getattr(row, field) == ("/log" if field == "log_path" else getattr(record, field)), field


def test_as_many_runs_are_kept_as_the_setting_says(tmp_path: Path) -> None:
    state = tmp_path / "state"
    for number in range(5):
        recorder = Recorder(state, tmp_path, "dodo.py", keep=3)
        recorder.run_started(f"2026010{number}-000000-aaaa", 1, [], "local")
        recorder.task_ended(TaskRecord("t", Outcome.SUCCEEDED, log=(HI,)))
        recorder.run_ended(0)

    kept = [f"2026010{number}-000000-aaaa" for number in (4, 3, 2)]
    assert [run.run for run in History(state / FILE).recent()] == kept
    assert sorted(path.name for path in (state / "runs").iterdir()) == kept[::-1]


def test_a_run_that_goes_on_is_kept_however_many_come_after(tmp_path: Path) -> None:
    state = tmp_path / "state"
    first = Recorder(state, tmp_path, "dodo.py", keep=1)
    first.run_started("20260101-000000-aaaa", 1, [], "local")
    first.task_printed("t", [HI])
    until = time.monotonic() + 10
    while not History(state / FILE).recent():  # stored by a thread of its own
        assert time.monotonic() < until
        time.sleep(0.01)
    for number in range(2, 5):
        recorder = Recorder(state, tmp_path, "dodo.py", keep=1)
        recorder.run_started(f"2026010{number}-000000-aaaa", 1, [], "local")
        recorder.task_ended(TaskRecord("t", Outcome.SUCCEEDED, log=(HI,)))
        recorder.run_ended(0)

    assert (state / "runs" / "20260101-000000-aaaa").is_dir()
    assert {run.run for run in History(state / FILE).recent()} == {
        "20260101-000000-aaaa",
        "20260104-000000-aaaa",
    }
    first.run_ended(0)
