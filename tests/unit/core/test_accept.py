from __future__ import annotations

from computefarm.core.accept import LOSSES
from computefarm.core.commands import Keep
from computefarm.messages import (
    Absent,
    Begun,
    Cancel,
    Declined,
    Done,
    FileEntry,
    Finished,
    Halt,
    Outcome,
    Result,
    Run,
    Settled,
    Taken,
    Want,
)
from computefarm.testing.farm import Farm, action, failure, spec, success

OUT = FileEntry("o", b"o" * 32, 1)
IN = FileEntry("src/i.c", b"i" * 32, 1)


def test_a_success_is_kept_told_and_settled() -> None:
    farm = Farm().client().worker().submit(1)
    run = farm.run()
    farm.finish(run)

    done = farm.done()
    assert (done.session, done.task, done.worker, done.hostname, done.cached) == (
        "s1",
        1,
        "w1",
        "w1.lan",
        False,
    )
    assert [(past.attempt, past.outcome) for past in done.attempts] == [(1, "succeeded")]
    assert farm.told("w1", Settled) == [Settled(((run.key, 1),))]
    assert [type(command) for command in farm.others] == [Keep]


def test_a_success_counts_when_its_outputs_are_here_and_frees_its_slot_at_once() -> None:
    farm = Farm().client().worker().submit(1, 2)
    first = farm.run()
    farm.finish(first, success(OUT))

    assert farm.told("w1", Want) == [Want((OUT.digest,))]
    assert farm.told("c1", Done) == []
    assert farm.told("w1", Settled) == []
    assert farm.run().name == "t2"

    farm.arrive(OUT.digest)
    assert farm.done().task == 1
    assert farm.told("w1", Settled) == [Settled(((first.key, 1),))]


def test_a_copy_of_a_result_does_nothing() -> None:
    farm = Farm().client().worker().submit(1)
    run = farm.run()
    farm.finish(run, success(OUT)).finish(run, success(OUT))

    assert farm.told("w1", Want) == [Want((OUT.digest,))]
    farm.arrive(OUT.digest).finish(run, success(OUT))
    assert len(farm.told("c1", Done)) == 1


def test_a_success_without_a_declared_output_is_a_failure() -> None:
    farm = Farm().client().worker().submit(1)
    farm.finish(farm.run(), Result(Outcome.SUCCEEDED, exit_code=0, missing=("build/a.o",)))

    done = farm.done()
    assert done.result.outcome is Outcome.FAILED
    assert "build/a.o" in done.result.reason
    assert farm.others == []


def test_a_failure_is_tried_again_as_often_as_asked() -> None:
    farm = Farm().client().worker().submit(spec(1, retries=1))
    farm.finish(farm.run(), failure(3))
    second = farm.run()
    assert second.attempt == 2

    farm.finish(second, failure(4))

    done = farm.done()
    assert done.result.exit_code == 4
    assert [past.outcome for past in done.attempts] == ["failed", "failed"]


def test_a_late_result_of_a_failed_attempt_is_not_taken_for_the_next_one() -> None:
    farm = Farm().client().worker().submit(spec(1, retries=1))
    first = farm.run()
    farm.finish(first, failure(3))
    farm.finish(first, failure(3)).say("w1", Declined(first.key, 1, "no"))

    assert farm.told("c1", Done) == []
    assert farm.run().attempt == 2
    assert farm.manager.status(0.0).running == 1


def test_a_worker_that_cannot_deliver_its_outputs_loses_the_attempt() -> None:
    farm = Farm().client().worker().submit(1)
    farm.finish(farm.run(), success(OUT)).say("w1", Absent((OUT.digest,)))

    assert farm.run().attempt == 2


def test_a_declined_task_costs_nothing_and_rests_from_that_worker() -> None:
    farm = Farm().client().worker("w1").submit(1)
    run = farm.run()
    farm.say("w1", Declined(run.key, 1, "disk full"))
    assert farm.told("w1", Run) == []
    (obstacle,) = farm.manager.explain("s1", "t1").obstacles
    assert "disk full" in obstacle.reason

    farm.at(1.1)
    second = farm.run()
    assert second.attempt == 2
    farm.finish(second)
    assert [past.outcome for past in farm.done().attempts] == ["succeeded"]


def test_an_attempt_that_had_begun_and_is_given_back_is_told_and_not_repeated_for_ever() -> None:
    farm = Farm().client().worker("w1").submit(1)
    for number in range(1, LOSSES + 1):
        run = farm.run()
        assert run.attempt == number
        farm.say("w1", Begun(run.key, number))
        farm.say("w1", Declined(run.key, number, "its spawner was killed"))
        for _ in range(40):
            farm.alive("c1", "w1").at(farm.now + 3.0)

    done = farm.done()
    assert done.result.outcome is Outcome.LOST
    assert "its spawner was killed" in done.result.reason
    assert [past.outcome for past in done.attempts] == ["lost"] * LOSSES


def test_a_declined_task_goes_to_another_worker_at_once() -> None:
    farm = Farm().client().worker("w1").submit(1)
    run = farm.run()
    farm.worker("w2").say("w1", Declined(run.key, 1, "disk full"))

    assert farm.run("w2").attempt == 2


def test_others_do_not_wait_behind_a_task_that_rests() -> None:
    farm = Farm().client().worker("w1").submit(spec(1, priority=5.0), 2)
    run = farm.run()
    farm.say("w1", Declined(run.key, 1, "not me"))

    assert farm.run().name == "t2"


def test_absent_inputs_are_fetched_before_the_task_is_queued_again() -> None:
    farm = Farm().client().worker()
    farm.blobs.add(IN.digest)
    farm.submit(spec(1, action=action(inputs=(IN,))))
    run = farm.run()
    farm.blobs.clear()
    farm.say("w1", Declined(run.key, 1, "inputs absent", (IN.digest,)))
    assert farm.told("c1", Want) == [Want((IN.digest,))]
    assert farm.told("w1", Run) == []

    farm.arrive(IN.digest)
    assert farm.run().attempt == 2


def test_a_waiting_task_is_cancelled_at_once() -> None:
    farm = Farm().client().submit(1).say("c1", Cancel("s1", (1,), "no longer needed"))

    done = farm.done()
    assert (done.result.outcome, done.result.reason) == (Outcome.CANCELLED, "no longer needed")


def test_a_running_task_is_cancelled_when_its_worker_says_so() -> None:
    farm = Farm().client().worker().submit(1)
    run = farm.run()
    farm.say("c1", Cancel("s1"))
    assert farm.told("w1", Halt) == [Halt(run.key, 1, "cancelled")]
    assert farm.told("c1", Done) == []

    farm.finish(run, Result(Outcome.CANCELLED, signal=15))
    assert farm.done().result.outcome is Outcome.CANCELLED


def test_a_shared_run_goes_on_until_the_last_who_wants_it_cancels() -> None:
    same = {"action": action("same"), "read_cache": True}
    farm = Farm(cache=True).client("c1").client("c2").worker()
    farm.submit(spec(1, **same)).submit(spec(7, **same), session="s2", client="c2")
    run = farm.run()

    farm.say("c1", Cancel("s1"))
    assert farm.done("c1").result.outcome is Outcome.CANCELLED
    assert farm.told("w1", Halt) == []
    assert farm.manager.watchers(run.key, 1) == [("c2", "s2", 7)]

    farm.say("c2", Cancel("s2"))
    assert len(farm.told("w1", Halt)) == 1
    farm.say("w1", Declined(run.key, 1, "halted"))
    assert farm.done("c2").result.outcome is Outcome.CANCELLED


def test_a_follower_that_cancels_leaves_the_others_alone() -> None:
    same = {"action": action("same"), "read_cache": True}
    farm = Farm(cache=True).client().worker().submit(spec(1, **same), spec(2, **same))
    farm.say("c1", Cancel("s1", (2,)))
    assert farm.done().task == 2

    farm.finish(farm.run())
    assert farm.done().task == 1


def test_an_heir_inherits_the_place_in_the_queue() -> None:
    same = {"action": action("same"), "read_cache": True}
    farm = Farm(cache=True).client("c1").client("c2")
    farm.submit(spec(1, **same)).submit(spec(7, **same), session="s2", client="c2")
    farm.say("c1", Cancel("s1")).worker()

    farm.finish(farm.run())

    assert farm.done("c2").task == 7


def test_taken_tasks_are_forgotten_except_for_why() -> None:
    farm = Farm().client().worker().submit(1)
    farm.finish(farm.run()).say("c1", Taken("s1", (1, 2)))

    said = farm.manager.explain("s1", "t1")
    assert (said.state, [past.worker for past in said.attempts]) == ("ended", ["w1"])
    assert farm.manager.explain("", "1").state == "ended"
    assert farm.manager._tables.tasks == {}


def test_a_result_of_an_attempt_given_up_but_not_replaced_is_taken() -> None:
    farm = Farm().client().worker("w1", boot="same").submit(1)
    run = farm.run()
    farm.alive("c1").at(5.0).alive("c1").at(7.0)
    assert farm.manager.explain("s1", "t1").state == "waiting"

    farm.worker("w1", peer="w1-again", boot="same", draining=True)
    farm.say("w1-again", Finished(run.key, run.attempt, success(), run.epoch))

    done = farm.done()
    assert (done.result.outcome, [past.outcome for past in done.attempts]) == (
        Outcome.SUCCEEDED,
        ["succeeded"],
    )


def test_an_attempt_that_nobody_cancelled_but_was_stopped_all_the_same_is_made_again() -> None:
    farm = Farm().client().worker().submit(1)
    run = farm.run()

    farm.finish(run, Result(Outcome.CANCELLED, reason="given to others"))

    assert farm.told("c1", Done) == []
    farm.finish(farm.run())
    done = farm.done()
    assert [past.outcome for past in done.attempts] == ["lost", "succeeded"]
