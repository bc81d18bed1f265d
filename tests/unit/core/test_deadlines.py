from __future__ import annotations

from computefarm.core.deadlines import Deadlines
from computefarm.messages import Declined, Done, Halt, Outcome, Run
from computefarm.testing.farm import Farm, action, spec
from computefarm.testing.invariants import check


def test_each_is_due_once_and_the_first_comes_first() -> None:
    made = Deadlines()
    made.set(1, 5.0)
    made.set(2, 3.0)
    made.set(3, 4.0)
    made.drop(3)

    assert made.next() == 3.0
    assert made.due(2.9) == []
    assert made.due(9.0) == [2, 1]
    assert (made.due(9.0), made.next(), made.at) == ([], None, {})


def test_two_can_change_places() -> None:
    made = Deadlines()
    made.set(1, 5.0)
    made.swap(1, 2)

    assert (made.get(1), made.get(2)) == (None, 5.0)
    assert made.due(5.0) == [2]


def test_those_that_ended_leave_nothing_behind() -> None:
    made = Deadlines()
    for key in range(1000):
        made.set(key, 1000.0 + key)
        made.drop(key)

    assert len(made._heap) <= 66


def test_a_waiting_task_fails_at_its_deadline() -> None:
    farm = Farm().client().submit(spec(1, deadline_s=3.0))
    farm.alive("c1").at(2.9)
    assert farm.told("c1", Done) == []

    farm.at(3.0)

    done = farm.done()
    assert (done.result.outcome, done.result.kind) == (Outcome.FAILED, "deadline")
    assert "deadline passed" in done.result.reason


def test_a_running_task_is_stopped_at_its_deadline_and_fails() -> None:
    farm = Farm().client().worker().submit(spec(1, deadline_s=3.0))
    run = farm.run()

    farm.alive("c1", "w1").at(3.0)
    assert len(farm.told("w1", Halt)) == 1
    farm.say("w1", Declined(run.key, run.attempt, "halted"))

    assert farm.done().result.kind == "deadline"
    assert not farm.manager._tables.overdue


def test_a_task_that_ended_in_time_has_no_deadline_left() -> None:
    farm = Farm().client().worker().submit(spec(1, deadline_s=3.0))
    farm.finish(farm.run())

    assert farm.manager._tables.deadlines.next() is None


def test_the_deadline_of_one_does_not_end_the_run_that_another_shares() -> None:
    twin = action("same")
    farm = Farm(cache=True).client().client("c2").worker()
    farm.submit(spec(1, action=twin, read_cache=True, deadline_s=3.0))
    run = farm.run()
    farm.submit(spec(1, action=twin, read_cache=True), session="s2", client="c2")

    farm.alive("c1", "c2", "w1").at(3.0)

    assert farm.done("c1").result.kind == "deadline"
    assert farm.told("w1", Halt) == []
    farm.finish(run)
    assert farm.done("c2").result.outcome is Outcome.SUCCEEDED
    check(farm.manager)


def test_a_deadline_holds_over_a_restart() -> None:
    farm = Farm(journalled=True).client().submit(spec(1, deadline_s=5.0)).at(2.0).restart()

    farm.client().submit(spec(1, deadline_s=5.0)).alive("c1").at(4.9)
    assert farm.told("c1", Done) == []
    farm.at(5.0)

    assert farm.done().result.kind == "deadline"
    farm.worker()
    assert farm.told("w1", Run) == []
