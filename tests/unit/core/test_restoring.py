"""A manager that was killed and started again on what its journal holds."""

from __future__ import annotations

from computefarm.core.beats import ADOPT_BEATS, RETURN_BEATS
from computefarm.core.commands import JournalFailed, JournalWorks, LookUp, NotFound
from computefarm.core.entries import Cancelled, Ended, Forgotten, Started, Submitted
from computefarm.messages import (
    Accepted,
    Cancel,
    Declined,
    Done,
    FileEntry,
    Goodbye,
    Halt,
    Need,
    Outcome,
    Run,
    Running,
    Settled,
    Submit,
    Taken,
    Waiting,
)
from computefarm.testing.farm import SHELL, Farm, action, failure, spec, success
from computefarm.testing.invariants import check

OUT = bytes([9]) * 32


def journalled() -> Farm:
    return Farm(journalled=True).client().worker()


def back(farm: Farm, *running: Running, boot: str = "w1", slots: int = 1) -> Farm:
    """Let the worker connect again, with what it has in hand."""
    return farm.worker(slots=slots, boot=boot, running=running)


def wait_for_the_absent(farm: Farm, *present: str) -> Farm:
    """Let pass what a restarted manager grants to workers that do not come back."""
    until = farm.now + ADOPT_BEATS * 2.0
    while farm.now < until:
        farm.alive(*present).at(min(until, farm.now + 1.0))
    return farm


# --- what is written down ---------------------------------------------------------------------------------


def test_without_a_journal_nothing_is_written_and_nothing_held() -> None:
    farm = Farm().client().worker().submit(1)
    farm.finish(farm.run()).say("c1", Taken("s1", (1,)))

    assert farm.journal == []
    assert farm.told("c1", Accepted) == []


def test_a_task_is_written_down_when_it_comes_starts_ends_and_is_taken() -> None:
    farm = journalled().submit(1)
    farm.finish(farm.run()).say("c1", Taken("s1", (1,)))

    assert [type(entry) for entry in farm.journal] == [Submitted, Started, Ended, Forgotten]


def test_a_submission_is_acknowledged_once_it_is_synced() -> None:
    farm = journalled()
    farm.sync(0).submit(1, 2)
    assert farm.told("c1", Accepted) == []

    farm.sync()

    assert farm.told("c1", Accepted) == [Accepted("s1", (1, 2))]


def test_a_worker_keeps_its_result_until_the_journal_has_it() -> None:
    farm = journalled().submit(1)
    run = farm.run()
    farm.sync(0).finish(run).finish(run)
    assert len(farm.told("c1", Done)) == 1
    assert farm.told("w1", Settled) == []

    farm.sync()

    assert farm.told("w1", Settled) == [Settled(((1, 1),))] * 2


# --- the tail that was lost -------------------------------------------------------------------------------


def test_nothing_is_placed_before_the_workers_are_back_that_may_run_it_already() -> None:
    farm = journalled().submit(1)
    farm.finish(farm.run())
    farm.submit(2, 3)
    run = farm.run()
    written = [entry for entry in farm.journal if not (type(entry) is Started and entry.key == run.key)]

    farm.restart(written).worker("w2")
    assert farm.told("w2", Run) == [], "w1 may have it"
    back(farm, Running(run.key, run.attempt, run.epoch)).at(farm.now + RETURN_BEATS * 2.0)

    assert farm.told("w1", Halt) == []
    assert [each.name for each in farm.told("w2", Run)] == ["t3"]
    farm.client().submit(2, 3).finish(run)
    done = farm.done()
    assert (done.task, done.attempts[-1].attempt) == (2, run.attempt)


def test_a_worker_that_does_not_come_back_is_not_waited_for_long() -> None:
    farm = journalled().submit(1)
    farm.finish(farm.run())
    farm.submit(2)
    run = farm.run()
    written = [entry for entry in farm.journal if not (type(entry) is Started and entry.key == run.key)]

    farm.restart(written).worker("w2")
    wait_for_the_absent(farm, "w2")

    assert farm.run("w2").name == "t2"


def test_an_attempt_of_a_lost_tail_is_halted_where_another_came_back_first() -> None:
    farm = journalled().submit(1)
    run = farm.run()
    written = [entry for entry in farm.journal if type(entry) is not Started]

    back(farm.restart(written), Running(run.key, 2, run.epoch))
    farm.worker("w2", running=(Running(run.key, 1, run.epoch),))

    assert [(halt.key, halt.attempt) for halt in farm.told("w2", Halt)] == [(run.key, 1)]
    assert farm.told("w1", Halt) == []


def test_a_key_that_is_used_again_is_not_mistaken_for_what_the_lost_tail_named() -> None:
    farm = journalled()
    farm.submit(1)
    run = farm.run()

    farm.restart([]).client().submit(9)
    back(farm, Running(run.key, run.attempt, run.epoch))

    assert [halt.key for halt in farm.told("w1", Halt)] == [run.key]


def test_an_attempt_of_another_task_that_had_the_same_key_is_not_taken_for_this_ones() -> None:
    farm = journalled().submit(1)
    run = farm.run()
    farm.restart([]).client().submit(9)

    farm.restart()
    back(farm, Running(run.key, run.attempt, run.epoch))

    assert [halt.key for halt in farm.told("w1", Halt)] == [run.key]
    wait_for_the_absent(farm, "w1")
    assert farm.run().name == "t9"


def test_time_alone_places_nothing_before_the_workers_are_back() -> None:
    farm = journalled().submit(1)
    run = farm.run()
    written = [entry for entry in farm.journal if type(entry) is not Started]

    farm.restart(written).worker("w2").at(farm.now + RETURN_BEATS * 2.0 - 0.1)
    assert farm.told("w2", Run) == []
    back(farm, Running(run.key, run.attempt, run.epoch)).alive("w2").at(farm.now + RETURN_BEATS * 2.0)

    assert farm.told("w2", Run) == []
    assert farm.told("w1", Halt) == []


def test_why_a_restarted_manager_places_nothing_is_told() -> None:
    farm = journalled().submit(1)
    written = [entry for entry in farm.journal if type(entry) is not Started]

    farm.restart(written).worker("w2")

    (obstacle,) = farm.manager.explain("s1", "t1").obstacles
    assert "was started again" in obstacle.reason


def test_an_attempt_of_a_lost_tail_is_taken_back_while_the_task_is_looked_up() -> None:
    farm = Farm(journalled=True).client().worker().submit(spec(1, read_cache=True))
    farm.learn(NotFound(1))
    run = farm.run()
    written = [entry for entry in farm.journal if type(entry) is not Started]

    back(farm.restart(written), Running(run.key, run.attempt, run.epoch)).learn(NotFound(1))

    assert farm.told("w1", Halt) == []
    assert farm.manager.explain("s1", "t1").state == "running"
    check(farm.manager)


def test_an_attempt_of_a_lost_tail_is_taken_back_while_inputs_are_missing() -> None:
    lacks = spec(1, action=action("one", inputs=(FileEntry("i", OUT, 1),)))
    farm = journalled().submit(lacks).arrive(OUT)
    run = farm.run()
    written = [entry for entry in farm.journal if type(entry) is not Started]
    farm.blobs.clear()

    back(farm.restart(written), Running(run.key, run.attempt, run.epoch)).arrive(OUT)

    assert farm.told("w1", Halt) == []
    assert farm.manager.explain("s1", "t1").state == "running"
    check(farm.manager)


def test_a_later_attempt_of_a_lost_tail_takes_the_place_of_one_that_did_not_come_back() -> None:
    farm = journalled().submit(1)
    farm.run()
    farm.say("w1", Goodbye()).worker("w2")
    run = farm.run("w2")
    written = [entry for entry in farm.journal if not (type(entry) is Started and entry.attempt == 2)]

    farm.restart(written).worker("w2", running=(Running(run.key, run.attempt, run.epoch),))
    assert farm.told("w2", Halt) == []
    back(farm, Running(run.key, 1, run.epoch))

    assert [halt.attempt for halt in farm.told("w1", Halt)] == [1]
    farm.client().submit(1).finish(run, worker="w2")
    assert farm.done().attempts[-1].worker == "w2"
    check(farm.manager)


# --- exchanges of which a half was lost -------------------------------------------------------------------


def exchanged() -> Farm:
    """Return a farm in which the first of two clients has left a run that both shared to the second."""
    twins = [spec(number, action=action("same"), read_cache=True) for number in (1, 2)]
    farm = Farm(journalled=True, cache=True).client().client("c2").worker()
    farm.submit(twins[0]).submit(twins[1], session="s2", client="c2")
    farm.run()
    return farm.say("c1", Cancel("s1"))


def test_of_an_exchange_whose_second_half_was_lost_nothing_is_lost() -> None:
    farm = exchanged()
    places = [n for n, entry in enumerate(farm.journal) if type(entry) is Submitted]
    assert len(places) == 4

    for length in range(places[1] + 1, len(farm.journal) + 1):
        farm.restart(farm.journal[:length] if length < len(farm.journal) else None)
        owed = {(task.session.name, task.number) for task in farm.manager._tables.tasks.values()}
        assert owed == {("s1", 1), ("s2", 2)}, length
        check(farm.manager)
        farm = exchanged()


def test_what_was_exchanged_after_its_outputs_were_lost_is_not_lost() -> None:
    twins = [spec(number, action=action("same"), read_cache=True) for number in (1, 2)]
    farm = Farm(journalled=True).client().client("c2").worker()
    farm.submit(twins[0]).submit(twins[1], session="s2", client="c2")
    farm.learn(NotFound(1)).arrive(OUT)
    farm.finish(farm.run(), success(FileEntry("o", OUT, 1)))
    farm.blobs.clear()

    farm.restart().client().say("c1", Taken("s1", (1,)))
    farm.restart()

    assert ("s2", 2) in {(task.session.name, task.number) for task in farm.manager._tables.tasks.values()}


# --- what is rebuilt --------------------------------------------------------------------------------------


def test_a_waiting_task_is_run_by_the_next_manager() -> None:
    farm = Farm(journalled=True).client().submit(1).restart().client().worker()
    assert farm.told("w1", Run) == [], "another worker may be on its way back with it"

    run = farm.at(farm.now + RETURN_BEATS * 2.0).run()
    farm.submit(1).finish(run)

    assert (run.name, run.key, run.epoch) == ("t1", 1, "epoch2")
    assert farm.done().result.outcome is Outcome.SUCCEEDED


def test_a_running_attempt_is_adopted_from_its_worker() -> None:
    farm = journalled().submit(1)
    run = farm.run()

    back(farm.restart(), Running(run.key, run.attempt, run.epoch))
    farm.client().submit(1)

    assert farm.told("w1", Run) == []
    assert farm.told("w1", Halt) == []
    farm.finish(run)
    assert farm.told("w1", Settled) == [Settled(((1, 1),), "epoch")]
    assert farm.done().attempts[-1].attempt == 1


def test_a_result_held_by_its_worker_is_taken_and_nothing_runs_again() -> None:
    farm = journalled().submit(1)
    run = farm.run()
    back(farm.restart(), Running(run.key, run.attempt, run.epoch)).finish(run)

    farm.client().submit(1)

    assert farm.told("w1", Run) == []
    assert farm.done().result.outcome is Outcome.SUCCEEDED


def test_an_attempt_whose_worker_no_longer_has_it_is_started_anew_once_others_have_had_time_to_return() -> (
    None
):
    farm = journalled().submit(1)

    back(farm.restart())
    assert farm.told("w1", Run) == []
    farm.at(farm.now + RETURN_BEATS * 2.0)

    assert farm.run().attempt == 2


def test_an_attempt_whose_worker_stays_away_is_given_to_others() -> None:
    farm = journalled().submit(1).restart().worker("w2")
    for second in range(1, 10):
        farm.at(float(second)).alive("w2")
    assert farm.told("w2", Run) == []

    farm.at(10.5)

    assert farm.run("w2").attempt == 2


def test_a_late_worker_may_still_bring_what_nobody_else_has_begun() -> None:
    farm = journalled().submit(1)
    run = farm.run()
    farm.restart().at(11.0)

    back(farm, Running(run.key, run.attempt, run.epoch))

    assert farm.told("w1", Run) == []
    assert farm.told("w1", Halt) == []


def test_a_restarted_worker_has_lost_what_it_ran() -> None:
    farm = journalled().submit(1)
    farm.restart()

    farm.worker(boot="another").at(farm.now + RETURN_BEATS * 2.0)

    assert farm.run().attempt == 2


def test_a_result_of_a_number_that_was_used_again_is_refused() -> None:
    farm = journalled().submit(1)
    old = farm.run()
    farm.restart([]).client().submit(spec(7)).worker(running=(Running(old.key, old.attempt, old.epoch),))
    new = farm.run()
    assert (old.key, old.attempt) == (new.key, new.attempt)
    assert farm.told("w1", Halt) == [
        Halt(1, 1, "the manager has given this task to others or forgotten it", epoch="epoch")
    ]

    farm.finish(old, success(FileEntry("o", OUT, 1)))
    assert farm.told("c1", Done) == []
    assert farm.told("w1", Settled) == [Settled(((1, 1),), "epoch")]
    farm.say("w1", Declined(1, 1, "not here", epoch="epoch"))
    check(farm.manager)

    farm.finish(new)
    assert farm.done().task == 7


def test_an_unsynced_start_is_not_taken_for_the_same_number_of_the_next_epoch() -> None:
    farm = journalled().submit(1)
    lost = farm.run()
    farm.restart([entry for entry in farm.journal if isinstance(entry, Submitted)]).worker("w2")
    again = farm.at(farm.now + RETURN_BEATS * 2.0).run("w2")
    assert (lost.key, lost.attempt) == (again.key, again.attempt)

    back(farm, Running(lost.key, lost.attempt, lost.epoch)).finish(lost)

    assert farm.told("w1", Settled) == [Settled(((1, 1),), "epoch")]
    assert farm.manager.explain("s1", "1").state == "running"


def test_what_ended_is_kept_for_its_client() -> None:
    farm = journalled().submit(1)
    farm.arrive(OUT).finish(farm.run(), success(FileEntry("o", OUT, 1)))

    farm.restart()
    assert farm.pins == {OUT: 1}
    farm.client().submit(1)
    assert farm.done().result.outputs == (FileEntry("o", OUT, 1),)
    farm.say("c1", Taken("s1", (1,)))

    assert farm.pins == {}
    assert farm.restart().manager._tables.tasks == {}


def test_what_ended_but_whose_outputs_are_gone_is_run_again() -> None:
    farm = journalled().submit(1)
    farm.arrive(OUT).finish(farm.run(), success(FileEntry("o", OUT, 1)))
    farm.blobs.clear()

    farm.restart().worker("w2")
    wait_for_the_absent(farm, "w2")

    assert farm.run("w2").attempt == 2
    farm.restart()  # the journal now holds an end and a later start
    assert farm.manager.explain("s1", "1").state == "running"


def test_a_failure_is_owed_like_any_other_end() -> None:
    farm = journalled().submit(1)
    farm.finish(farm.run(), failure())

    farm.restart().client().submit(1)

    assert farm.done().result.outcome is Outcome.FAILED


def test_the_retries_left_are_known() -> None:
    farm = journalled().submit(spec(1, retries=1))
    farm.finish(farm.run(), failure())
    second = farm.run()

    back(farm.restart(), Running(second.key, second.attempt, second.epoch)).finish(second, failure())

    farm.client().submit(spec(1, retries=1))
    assert farm.done().result.outcome is Outcome.FAILED


def test_a_cancel_is_not_forgotten() -> None:
    farm = journalled().submit(1)
    run = farm.run()
    farm.say("c1", Cancel("s1", (1,), "no more"))
    assert isinstance(farm.journal[-1], Cancelled)

    back(farm.restart(), Running(run.key, run.attempt, run.epoch))

    assert len(farm.told("w1", Halt)) == 1
    farm.say("w1", Declined(run.key, run.attempt, "halted", epoch=run.epoch))
    farm.client().submit(1)
    assert farm.done().result.outcome is Outcome.CANCELLED


def test_identical_actions_share_the_run_that_goes_on() -> None:
    twin = spec(1, action=action("same"), read_cache=True)
    farm = Farm(journalled=True, cache=True).client().client("c2").worker().submit(twin)
    run = farm.run()
    farm.submit(twin, session="s2", client="c2")

    back(farm.restart(), Running(run.key, run.attempt, run.epoch))
    farm.client().submit(twin).client("c2").submit(twin, session="s2", client="c2").finish(run)

    assert farm.told("w1", Run) == []
    assert [farm.done().cached, farm.done("c2").cached] == [False, True]


def test_a_run_left_to_another_client_is_that_clients_after_a_restart() -> None:
    twin = spec(1, action=action("same"), read_cache=True)
    farm = Farm(journalled=True, cache=True).client().client("c2").worker().submit(twin)
    run = farm.run()
    farm.submit(twin, session="s2", client="c2").say("c1", Cancel("s1"))
    assert farm.done("c1").result.outcome is Outcome.CANCELLED

    back(farm.restart(), Running(run.key, run.attempt, run.epoch))
    assert farm.manager.explain("s2", "t1").state == "running"
    farm.finish(run)

    farm.client("c2").submit(twin, session="s2", client="c2")
    assert farm.done("c2").result.outcome is Outcome.SUCCEEDED


def test_a_new_session_attaches_to_what_an_absent_one_left_running() -> None:
    twin = spec(1, action=action("same"), read_cache=True)
    farm = Farm(journalled=True, cache=True).client().worker().submit(twin)
    run = farm.run()
    back(farm.restart(), Running(run.key, run.attempt, run.epoch))

    farm.client("c2").submit(twin, session="s2", client="c2")
    for second in range(1, 40):
        farm.at(float(second)).alive("w1", "c2")
    assert farm.told("w1", Halt) == []
    farm.finish(run)

    assert farm.done("c2").result.outcome is Outcome.SUCCEEDED


def test_what_a_client_left_and_does_not_fetch_is_cancelled_after_its_lease() -> None:
    farm = journalled().submit(1)
    run = farm.run()
    back(farm.restart(), Running(run.key, run.attempt, run.epoch))
    for second in range(1, 29):
        farm.at(float(second)).alive("w1")
    assert farm.told("w1", Halt) == []

    farm.at(31.0)

    assert len(farm.told("w1", Halt)) == 1


def test_a_session_may_ask_for_a_longer_lease() -> None:
    farm = Farm(journalled=True).client().worker()
    farm.say("c1", Submit("s1", (SHELL,), (spec(1),), lease_s=3600.0))
    run = farm.run()

    back(farm.restart(), Running(run.key, run.attempt, run.epoch))
    for second in range(1, 100):
        farm.at(float(second)).alive("w1")

    assert farm.told("w1", Halt) == []


def test_a_client_that_has_the_result_already_needs_no_other_run() -> None:
    farm = journalled().submit(1)
    farm.finish(farm.run())
    lost_its_tail = [entry for entry in farm.journal if isinstance(entry, Submitted)]

    farm.restart(lost_its_tail).client().say("c1", Taken("s1", (1,))).worker("w2")

    assert farm.told("w2", Run) == []


def test_numbers_are_not_used_again() -> None:
    farm = journalled().submit(1)
    farm.finish(farm.run()).say("c1", Taken("s1", (1,)))

    farm.restart().client().submit(2).worker("w2")

    assert farm.run("w2").key == 2


def test_waiting_tasks_are_looked_up_again_for_they_may_have_ended_unnoticed() -> None:
    farm = Farm(journalled=True).client().submit(spec(1, read_cache=True)).restart()

    assert [type(command) for command in farm.others] == [LookUp]


def test_a_task_alone_on_its_worker_stays_alone_after_a_restart() -> None:
    farm = Farm(journalled=True).client().worker(slots=4)
    farm.submit(1, need=Need("shell", exclusive=True)).submit(2)
    run = farm.run()

    back(farm.restart(), Running(run.key, run.attempt, run.epoch), slots=4)

    assert farm.told("w1", Run) == []
    check(farm.manager)


# --- a journal that cannot be written ---------------------------------------------------------------------


def test_nothing_new_is_accepted_while_the_journal_fails_and_everything_once_it_works() -> None:
    farm = journalled()
    farm.learn(JournalFailed("no space left for /journal on nn01")).submit(1, 2)

    (waiting,) = farm.told("c1", Waiting)
    assert (waiting.tasks, waiting.offered) == ((1, 2), True)
    assert "/journal on nn01" in waiting.obstacles[0].reason
    assert farm.told("w1", Run) == []
    assert farm.told("c1", Accepted) == []
    assert "nn01" in farm.manager.status(farm.now).journal
    assert farm.manager.explain("", "t2").obstacles == waiting.obstacles

    farm.learn(JournalWorks())
    (over,) = farm.told("c1", Waiting)
    assert (over.tasks, over.obstacles) == ((1, 2), ())
    farm.submit(1, 2)
    assert farm.told("c1", Accepted) == [Accepted("s1", (1, 2))]
    assert farm.run().name == "t1"
    assert farm.manager.status(farm.now).journal == ""


def test_what_was_accepted_goes_on_while_the_journal_fails() -> None:
    farm = journalled().submit(1, 2)
    farm.sync(len(farm.journal)).learn(JournalFailed("full"))

    farm.finish(farm.run()).submit(1)

    assert len(farm.told("c1", Done)) == 2  # at its end, and because it was submitted again
    assert farm.told("w1", Settled) == []
    assert farm.run().name == "t2"
    farm.sync().learn(JournalWorks())
    assert len(farm.told("w1", Settled)) == 1
