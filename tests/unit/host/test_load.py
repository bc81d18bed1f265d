from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from computefarm.host.load import LoadSampler, foreign_load, own_cpu_s, significant
from computefarm.host.pids import OwnProcesses
from computefarm.host.processes import Process
from computefarm.messages import LoadReport

# --- foreign_load: seconds over one second of wall time on two cores -----------------------------------


@pytest.mark.parametrize(
    ("busy", "own", "queue", "own_queue", "expected"),
    [
        pytest.param(0.0, 0.0, 0, 0, 0.0, id="idle"),
        pytest.param(1.0, 0.0, 1, 0, 0.5, id="one stranger on two cores"),
        pytest.param(1.0, 1.0, 1, 1, 0.0, id="one task of ours"),
        pytest.param(2.0, 2.0, 2, 2, 0.0, id="full of ours"),
        pytest.param(2.0, 2.0, 9, 1, 0.0, id="over-full of ours, most of it in threads we cannot see"),
        pytest.param(2.0, 0.0, 6, 0, 3.0, id="strangers queue three deep"),
        pytest.param(2.0, 1.0, 4, 2, 1.0, id="two strangers beside two of ours want both cores"),
        pytest.param(2.0, 0.2, 4, 2, 1.0, id="polite tasks of ours do not inflate the strangers"),
        pytest.param(1.0, 0.5, 30, 0, 0.25, id="a moment's queue says nothing while cores are free"),
        pytest.param(2.0, 0.2, 0, 0, 0.9, id="never less than what they got"),
        pytest.param(0.5, 0.7, 1, 1, 0.0, id="rounding does not make it negative"),
    ],
)  # fmt: skip
def test_what_others_want(busy: float, own: float, queue: float, own_queue: int, expected: float) -> None:
    load = foreign_load(busy, own, 2.0, queue, 2, own_queue)

    assert load == pytest.approx(expected)


def test_no_time_no_load() -> None:
    assert foreign_load(0.0, 0.0, 0.0, 3, 2, 0) == 0.0


# --- own_cpu_s: who used what between two looks ---------------------------------------------------------


def process(pid: int, parent: int, cpu_s: float, started: str = "1") -> Process:
    return Process(pid=pid, parent=parent, started=started, runnable=False, cpu_s=cpu_s)


def family(*processes: Process) -> dict[int, Process]:
    return {one.pid: one for one in processes}


def test_processes_that_stay_count_by_their_difference() -> None:
    before = family(process(10, 1, 5.0), process(11, 10, 1.0))
    after = family(process(10, 1, 5.2), process(11, 10, 1.3))

    assert own_cpu_s(before, after, 1.0) == pytest.approx(0.5)


def test_an_ended_child_is_not_counted_twice_when_its_parent_inherits_its_time() -> None:
    before = family(process(10, 1, 5.0), process(11, 10, 1.0))
    after = family(process(10, 1, 6.4))  # 1.4 of it was the child's, 1.0 of that before

    assert own_cpu_s(before, after, 1.0) == pytest.approx(0.4)


def test_time_also_climbs_over_an_ended_parent() -> None:
    before = family(process(10, 1, 5.0), process(11, 10, 1.0), process(12, 11, 2.0))
    after = family(process(10, 1, 8.5))

    assert own_cpu_s(before, after, 1.0) == pytest.approx(0.5)


def test_a_new_child_counts_in_full() -> None:
    before = family(process(10, 1, 5.0))
    after = family(process(10, 1, 5.0), process(11, 10, 3.0))

    assert own_cpu_s(before, after, 1.0) == pytest.approx(3.0)


def test_a_newly_registered_process_does_not_bring_its_past() -> None:
    assert own_cpu_s({}, family(process(10, 1, 500.0)), 1.0) == pytest.approx(1.0)


def test_a_family_that_vanished_counts_as_nothing_rather_than_less() -> None:
    before = family(process(10, 1, 500.0), process(11, 10, 100.0), process(20, 1, 1.0))
    after = family(process(20, 1, 1.5))

    assert own_cpu_s(before, after, 1.0) == pytest.approx(0.5)


def test_a_number_used_again_is_another_process() -> None:
    before = family(process(10, 1, 5.0), process(11, 10, 4.0, started="1"))
    after = family(process(10, 1, 9.1), process(11, 10, 0.2, started="2"))

    assert own_cpu_s(before, after, 1.0) == pytest.approx(0.3)


# --- significant ----------------------------------------------------------------------------------------

REPORT = LoadReport(
    host="h", hostname="h", load=0.5, cpus=2, memory_total=1000, memory_available=500, max_load=0.7
)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, False),
        ({"load": 0.59}, False),
        ({"load": 0.61}, True),
        ({"load": 0.39}, True),
        ({"memory_available": 401}, False),
        ({"memory_available": 399}, True),
        ({"users": 1}, True),
        ({"on_battery": True}, True),
        ({"policy": "night only"}, True),
        ({"gpus": 1}, True),
        ({"max_load": 0.4}, True),
        ({"disk_free": 10**9}, False),
        ({"task_load": 1.0}, False),
    ],
)
def test_what_is_told_at_once(change: dict[str, object], expected: bool) -> None:
    assert significant(REPORT, msgspec.structs.replace(REPORT, **change)) is expected


def test_crossing_the_owners_limit_is_told_however_small_the_step() -> None:
    below = msgspec.structs.replace(REPORT, load=0.69)
    above = msgspec.structs.replace(REPORT, load=0.71)

    assert significant(below, above)
    assert significant(above, below)


# --- the sampler on this very machine -------------------------------------------------------------------


def test_a_sample_states_what_this_machine_is(tmp_path: Path) -> None:
    sampler = LoadSampler(OwnProcesses(tmp_path), cache=tmp_path / "not/there/yet")

    report = sampler.sample(0.0)

    assert report.cpus >= 1
    assert 0 < report.memory_available <= report.memory_total
    assert report.disk_free > 0
    assert report.load >= 0.0
    assert sampler.sample(0.0001).load == report.load, "too soon to know better"
