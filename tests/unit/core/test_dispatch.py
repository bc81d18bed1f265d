from __future__ import annotations

from computefarm.core.ahead import CREDIT, LONG_S
from computefarm.messages import Begun, Declined, Goodbye, Halt, Leaving, Need, Offer, Placed, Run
from computefarm.testing.farm import Farm, action, spec, success
from computefarm.testing.invariants import check

SHORT = success(run_s=0.001)


def names(runs: list[Run]) -> list[str]:
    return [run.name for run in runs]


def short_tasks(farm: Farm, count: int) -> list[Run]:
    """Let the farm learn that a kind is short, with `count` tasks of it waiting; return what w1 has in hand."""
    farm.submit(*[spec(n, kind="short") for n in range(count)])
    for run in farm.told("w1", Run):
        farm.finish(run, SHORT)
    return farm.told("w1", Run)


def test_slots_are_filled_and_no_more() -> None:
    farm = Farm().client().worker("w1", 2).submit(1, 2, 3)

    assert names(farm.told("w1", Run)) == ["t1", "t2"]


def test_the_highest_priority_goes_first_then_first_come() -> None:
    farm = (
        Farm().client().submit(spec(1), spec(2, priority=5.0), spec(3, priority=5.0), spec(4, priority=9.0))
    )
    farm.worker("w1", 3)

    assert names(farm.told("w1", Run)) == ["t4", "t2", "t3"]


def test_sessions_share_the_farm_fairly() -> None:
    farm = Farm().client("c1").client("c2")
    farm.submit(1, 2, 3, 4).submit(spec(5, priority=-1.0), 6, session="s2", client="c2")
    farm.worker("w1", 4)

    assert sorted(names(farm.told("w1", Run))) == ["t1", "t2", "t5", "t6"]


def test_a_wide_task_takes_several_slots() -> None:
    farm = Farm().client().worker("w1", 3).submit(1, 2, need=Need("shell", cpus=2))

    run = farm.run()
    farm.submit(3)
    assert farm.run().name == "t3"
    farm.finish(run)
    assert farm.run().name == "t2"


def test_an_exclusive_task_runs_alone() -> None:
    farm = Farm().client().worker("w1", 2).submit(1, need=Need("shell", exclusive=True)).submit(2)
    run = farm.run()
    assert run.name == "t1"

    farm.finish(run)
    assert farm.run().name == "t2"


def test_only_those_who_offer_it_get_it() -> None:
    farm = Farm().client().worker("w1").worker("w2", 1, Offer("gcc", "12"))
    farm.submit(spec(1, action=action(capability="gcc")), need=Need("gcc"))

    assert farm.told("w1", Run) == []
    assert farm.run("w2").name == "t1"


def test_the_loaded_host_comes_last_and_a_lone_one_is_never_throttled() -> None:
    farm = (
        Farm().client().worker("w1", 1, host="h1").worker("w2", 1, host="h2").load("h1", 3.0).load("h2", 0.1)
    )
    farm.submit(1)
    assert farm.run("w2").name == "t1"

    farm.submit(2)
    assert farm.run("w1").name == "t2"


def test_a_held_worker_gets_work_when_the_load_drops() -> None:
    farm = Farm().client().worker("w1", 1, host="h1", max_load=0.5).load("h1", 0.9).submit(1)
    assert farm.told("w1", Run) == []
    assert farm.manager.status(0.0).workers[0].state == "held"

    farm.load("h1", 0.1)
    assert farm.run().name == "t1"


def test_placements_are_told() -> None:
    farm = Farm().client().worker().submit(1)

    assert farm.told("c1", Placed) == [Placed("s1", 1, 1, "w1", "w1.lan")]


def test_nothing_unknown_or_long_is_sent_ahead() -> None:
    farm = Farm().client().worker("w1", 1).submit(*[spec(n, kind="k") for n in range(9)])
    run = farm.run()
    farm.finish(run, success(run_s=LONG_S))

    assert len(farm.told("w1", Run)) == 1


def test_short_tasks_are_sent_ahead_within_the_credit() -> None:
    farm = Farm().client().worker("w1", 2)
    in_hand = short_tasks(farm, 60)

    assert len(in_hand) == 2 + int(CREDIT * 2)
    status = farm.manager.status(0.0)
    assert status.workers[0].running == 2
    check(farm.manager)


def test_what_was_sent_ahead_moves_up_when_a_slot_is_free() -> None:
    farm = Farm().client().worker("w1", 1)
    first, second, *_ = short_tasks(farm, 3)
    farm.told("c1", Placed)
    (second_place,) = farm.manager.explain("s1", second.name).attempts
    assert "waits at the worker" in second_place.reason

    farm.finish(first, SHORT)

    assert [placed.task for placed in farm.told("c1", Placed)] == [2]
    assert farm.manager.explain("s1", second.name).attempts[-1].reason == ""


def test_a_begun_attempt_counts_as_running() -> None:
    farm = Farm().client().worker("w1", 2)
    *_, last = short_tasks(farm, 5)
    farm.say("w1", Begun(last.key, last.attempt))

    assert farm.manager.explain("s1", last.name).attempts[-1].reason == ""


def test_what_waits_ahead_too_long_is_recalled_for_an_idle_worker() -> None:
    farm = Farm().client().worker("w1", 1)
    _, ahead, *_ = short_tasks(farm, 3)
    farm.worker("w2", 1)
    assert farm.told("w1", Halt) == []

    farm.at(LONG_S + 0.001)
    assert farm.told("w1", Halt) == [Halt(ahead.key, ahead.attempt, "recalled", True)]
    farm.at(1.0)
    assert farm.told("w1", Halt) == []

    farm.say("w1", Declined(ahead.key, ahead.attempt, "recalled"))
    assert farm.run("w2").name == ahead.name


def test_what_was_sent_ahead_is_given_back_free_when_the_worker_is_lost() -> None:
    farm = Farm().client().worker("w1", 1)
    running, ahead, *_ = short_tasks(farm, 3)
    farm.say("w1", Goodbye()).worker("w2", 2)

    runs = {run.name: run for run in farm.told("w2", Run)}
    for run in runs.values():
        farm.finish(run, worker="w2")
    assert [past.outcome for past in farm.manager.explain("s1", running.name).attempts] == [
        "lost",
        "succeeded",
    ]
    assert [past.outcome for past in farm.manager.explain("s1", ahead.name).attempts] == ["succeeded"]


def test_a_draining_worker_gets_nothing() -> None:
    farm = Farm().client().worker().say("w1", Leaving()).submit(1)

    assert farm.told("w1", Run) == []
    assert farm.manager.status(0.0).workers[0].state == "draining"


def test_a_free_worker_of_a_higher_tier_waits_for_the_lower_to_be_full() -> None:
    farm = Farm().client().worker("cloud", 4, tier=1).worker("own", 1)
    farm.submit(1)
    assert farm.run("own").name == "t1"

    farm.submit(2)
    assert farm.run("cloud").name == "t2"


def test_memory_that_was_promised_to_others_is_not_given_twice() -> None:
    farm = Farm().client().worker("w1", 4, memory=10 << 20).submit(1, 2, need=Need("shell", memory=6 << 20))

    run = farm.run()
    farm.finish(run)
    assert farm.run().name == "t2"


def test_gpus_are_counted() -> None:
    farm = Farm().client().worker("w1", 4, gpus=1).submit(1, 2, need=Need("shell", gpus=1))

    run = farm.run()
    farm.finish(run)
    assert farm.run().name == "t2"


def test_the_line_parser_travels_with_the_need() -> None:
    farm = Farm().client().worker("w1").submit(1, need=Need("shell", logs="pytest"))
    run = farm.run()
    source = farm.manager.source(run.key)
    assert source is not None
    assert (source.capability, source.logs) == ("shell", "pytest")


def test_memory_that_is_only_expected_is_reserved_and_holds_nobody() -> None:
    farm = Farm().client().worker("w1", 4, memory=1 << 30)
    farm.submit(1, 2, 3, need=Need("shell", memory=1 << 29, expected=True))
    runs = farm.told("w1", Run)
    assert [(run.name, run.memory) for run in runs] == [("t1", 0), ("t2", 0)]

    declared = Farm().client().worker("w1", 4, memory=1 << 30).submit(1, need=Need("shell", memory=1 << 29))
    assert declared.run().memory == 1 << 29
