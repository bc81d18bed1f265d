from __future__ import annotations

import pytest

from computefarm.majordomo.reporting import TaskRecord
from computefarm.majordomo.summary import Tally, failure_text, held_text, seconds, size, some, summary
from computefarm.messages import Attempt, Need, Obstacle, Outcome

LOST = Attempt(1, "w1", "a", "lost", "silent for 9 s")
WON = Attempt(2, "w2", "b", "succeeded")


def tally_of(*records: TaskRecord) -> Tally:
    tally = Tally()
    for record in records:
        tally.add(record)
    return tally


def test_a_mixed_run_is_told_in_one_line_and_its_details_after_it() -> None:
    tally = tally_of(
        TaskRecord("a", Outcome.SUCCEEDED, host="h1", run_s=2.0, cpu_s=1.9),
        TaskRecord("b", Outcome.SUCCEEDED, host="h1", run_s=1.0, cpu_s=0.9, attempts=(LOST, WON)),
        TaskRecord("c", Outcome.SUCCEEDED, cached=True, run_s=50.0, cpu_s=50.0),
        TaskRecord("d", Outcome.UP_TO_DATE),
        TaskRecord("e", Outcome.TIMEOUT, run_s=1.0),
        TaskRecord("f", Outcome.BLOCKED),
        TaskRecord("g", Outcome.CANCELLED),
    )

    assert summary(tally, 2.0, 1, "/logs") == [
        "7 tasks: 2 run, 1 from cache, 1 up to date, 1 failed, 1 blocked, 1 cancelled"
        " · wall 2.0 s · cpu 2.8 s · 2.0x · 1 attempt made again",
        "slowest: a 2.0 s, e 1.0 s, b 1.0 s",
        "failed: e",
        "blocked: f",
        "logs: /logs",
    ]


def test_a_run_with_nothing_to_do_is_one_short_line() -> None:
    tally = tally_of(TaskRecord("a", Outcome.UP_TO_DATE))

    assert summary(tally, 0.05, 0) == ["1 task: 0 run, 0 from cache, 1 up to date, 0 failed · wall 0.05 s"]


@pytest.mark.parametrize(("code", "word"), [(130, "interrupted"), (143, "terminated")])
def test_a_run_that_was_stopped_says_so(code: int, word: str) -> None:
    assert summary(Tally(), 1.0, code)[0].endswith(f" · {word}")


def test_only_the_five_slowest_are_kept() -> None:
    tally = tally_of(*(TaskRecord(f"t{n}", Outcome.SUCCEEDED, run_s=float(n)) for n in range(100)))

    assert [task for _, task, _ in tally.slowest()] == ["t99", "t98", "t97", "t96", "t95"]


def test_a_failure_names_task_place_reason_and_log() -> None:
    record = TaskRecord("t", Outcome.FAILED, host="nn02", worker="w1", exit_code=3)

    assert failure_text(record, ["boom"], "/l/t.log") == [
        "!! FAILED t on nn02 (w1): exit code 3",
        "   | boom",
        "   full log: /l/t.log",
    ]
    assert failure_text(TaskRecord("t", Outcome.TIMEOUT, reason="timeout: ran longer than 1 s"), []) == [
        "!! TIMEOUT t: timeout: ran longer than 1 s"
    ]


def test_waiting_is_explained_place_by_place() -> None:
    need = Need("gcc", version=">=99", cpus=2, memory=2**30, gpus=1, tags=(("target", "arm"),))
    obstacles = [Obstacle("worker", "w1", "gcc 12.2.0 does not meet >=99")]

    assert held_text(["a", "b", "c", "d"], need, obstacles, offered=False) == (
        "waiting: 4 tasks (a, b, c and 1 more) and nothing offers"
        " gcc>=99 (target=arm, 2 cpus, 1.0 GiB of memory, 1 GPU) (w1: gcc 12.2.0 does not meet >=99)"
    )
    assert held_text(["a"], Need("gcc"), [], offered=True) == "waiting: 1 task (a) can run now"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.00 s"),
        (0.994, "0.99 s"),
        (2.345, "2.3 s"),
        (59.96, "1 min 0 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations_are_for_people(value: float, text: str) -> None:
    assert seconds(value) == text


def test_sizes_and_lists_are_for_people() -> None:
    assert [size(n) for n in (0, 1023, 1536, 200 * 2**20, 2**50)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "200 MiB",
        "1024.0 TiB",
    ]
    assert some(["a", "b"], 1) == "a and 1 more"
