"""Kinds of failure, and what becomes of the task and of the worker."""

from __future__ import annotations

import msgspec
import pytest

from computefarm.core.failures import TAIL, honest, tail_of
from computefarm.messages import (
    Declined,
    Done,
    Need,
    Offer,
    Outcome,
    Piece,
    Result,
    Run,
    Running,
    Waiting,
)
from computefarm.testing.farm import Farm, spec, success
from computefarm.testing.invariants import check

GIB = 1 << 30


def failed(kind: str, **fields: object) -> Result:
    result = Result(Outcome.FAILED, reason=f"no good: {kind}", kind=kind)
    return msgspec.structs.replace(result, **fields)


# --- what it is -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (Result(Outcome.FAILED, exit_code=3), "exit"),
        (Result(Outcome.FAILED, signal=9), "signal"),
        (Result(Outcome.TIMEOUT), "timeout"),
        (Result(Outcome.CANCELLED), "cancelled"),
        (Result(Outcome.FAILED, missing=("o",)), "output"),
        (Result(Outcome.SUCCEEDED, missing=("o",)), "output"),
        (Result(Outcome.FAILED, signal=9, kind="out-of-memory"), "out-of-memory"),
        (Result(Outcome.FAILED), ""),
        (Result(Outcome.SUCCEEDED), ""),
    ],
)
def test_a_kind_is_named_where_the_worker_did_not(result: Result, kind: str) -> None:
    assert honest(result).kind == kind


def test_only_the_last_whole_lines_of_a_failure_are_kept() -> None:
    lines = [f"line {n}\n" for n in range(1000)]
    log = tuple(Piece(1, 0.0, "".join(lines[n : n + 100])) for n in range(0, 1000, 100))

    tail = tail_of(Result(Outcome.FAILED, log=log))

    assert tail.startswith("line ")
    assert tail.endswith("line 999\n")
    assert TAIL - 20 < len(tail) <= TAIL
    assert tail_of(Result(Outcome.SUCCEEDED, log=log)) == ""
    assert tail_of(Result(Outcome.FAILED, log=log[:0])) == ""
    assert tail_of(Result(Outcome.FAILED, log=(Piece(1, 0.0, "short"),))) == "short"
    assert len(tail_of(Result(Outcome.FAILED, log=(Piece(1, 0.0, "x" * 9999),)))) == TAIL


def test_every_attempt_says_how_where_and_with_what_last_words_it_failed() -> None:
    farm = Farm().client().worker().submit(spec(1, retries=1))
    farm.finish(farm.run(), Result(Outcome.FAILED, exit_code=3, log=(Piece(2, 0.0, "oh no\n"),)))
    farm.finish(farm.run())

    first, second = farm.done().attempts
    assert (first.attempt, first.hostname, first.kind, first.tail) == (1, "w1.lan", "exit", "oh no\n")
    assert (second.kind, second.tail) == ("", "")


# --- out of memory ----------------------------------------------------------------------------------------


def memory_farm(*sizes: int, declared: int = GIB) -> Farm:
    farm = Farm().client()
    for number, size in enumerate(sizes, 1):
        farm.worker(f"w{number}", memory=size * GIB)
    return farm.submit(1, need=Need("shell", memory=declared))


def test_a_task_that_ran_out_of_its_declared_memory_gets_a_bigger_worker_once() -> None:
    farm = memory_farm(2)
    run = farm.run()
    farm.worker("w2", memory=2 * GIB).worker("w3", memory=8 * GIB)

    farm.finish(run, failed("out-of-memory", peak_memory=2 * GIB))
    again = farm.run("w3")
    check(farm.manager)
    farm.finish(again, failed("out-of-memory", peak_memory=8 * GIB), worker="w3")

    done = farm.done()
    assert done.result.kind == "out-of-memory"
    assert "peak 8.0 GiB" in done.result.reason
    assert [past.worker for past in done.attempts] == ["w1", "w3"]


def test_without_a_bigger_worker_it_fails_and_names_the_peak() -> None:
    farm = memory_farm(2, 2)
    farm.finish(farm.run(), failed("out-of-memory", peak_memory=2 * GIB))

    done = farm.done()
    assert "peak 2.0 GiB" in done.result.reason
    assert "no worker that offers shell has more memory than w1" in done.result.reason


def test_undeclared_memory_is_not_tried_again() -> None:
    farm = memory_farm(2, declared=0)
    run = farm.run()
    farm.worker("w2", memory=8 * GIB).finish(run, failed("out-of-memory"))

    assert "declare its memory" in farm.done().result.reason


# --- missing tools ----------------------------------------------------------------------------------------


def test_a_missing_tool_takes_the_capability_from_the_worker_and_costs_the_task_nothing() -> None:
    farm = Farm().client().worker().submit(1)
    run = farm.run()
    farm.worker("w2").finish(run, failed("missing-tool"))

    farm.finish(farm.run("w2"), worker="w2")
    assert farm.done().result.outcome is Outcome.SUCCEEDED
    farm.submit(2).submit(3)
    assert farm.told("w1", Run) == []
    told = farm.manager.explain("s1", "t3").obstacles
    assert any("no longer offers shell" in obstacle.reason for obstacle in told)

    farm.worker("w1", boot="repaired")
    assert farm.run().name == "t3"


def test_a_tool_that_only_this_task_wants_is_its_own_failure() -> None:
    farm = Farm().client().worker().submit(1)
    run = farm.run()
    for name in ("w2", "w3", "w4"):
        farm.worker(name)

    farm.finish(run, failed("missing-tool"))
    for name in ("w2", "w3"):
        farm.finish(farm.run(name), failed("missing-tool"), worker=name)

    done = farm.done()
    assert done.result.kind == "missing-tool"
    assert "w1.lan, w2.lan, w3.lan" in done.result.reason
    farm.submit(2, 3, 4, 5)
    assert sorted(to for to, message in farm.sent if isinstance(message, Run)) == ["w1", "w2", "w3", "w4"]


def test_a_tool_that_the_only_worker_lacks_fails_the_task_at_once() -> None:
    farm = Farm().client().worker().submit(1)

    farm.finish(farm.run(), failed("missing-tool"))

    assert farm.done().result.kind == "missing-tool"
    assert farm.submit(2).run().name == "t2"


# --- full disks -------------------------------------------------------------------------------------------


def test_a_full_disk_rests_the_worker_and_costs_the_task_nothing() -> None:
    farm = Farm().client().worker().submit(1)
    run = farm.run()
    farm.worker("w2").finish(run, failed("disk-full"))

    assert farm.run("w2").name == "t1"
    (first, _) = farm.manager.status(farm.now).workers
    assert first.state == "quarantined"
    assert "its disk is full" in first.reason
    assert farm.told("c1", Done) == []


def test_a_task_that_fills_every_disk_fails() -> None:
    farm = Farm().client().worker().worker("w2").worker("w3").submit(1)
    for _ in range(3):
        ((worker, run),) = [(to, message) for to, message in farm.sent if isinstance(message, Run)]
        farm.told(worker, Run)
        farm.finish(run, failed("disk-full"), worker=worker)

    assert farm.done().result.kind == "disk-full"


def test_a_worker_that_cannot_make_a_task_ready_is_asked_again_but_not_for_ever() -> None:
    farm = Farm().client().worker().submit(1)
    for _ in range(12):
        run = farm.run()
        farm.say("w1", Declined(run.key, run.attempt, "name too long", kind="preparation"))
        for _ in range(70):
            farm.alive("c1", "w1").at(farm.now + 1)

    done = farm.done()
    assert (done.result.outcome, done.result.kind) == (Outcome.FAILED, "preparation")
    assert "name too long" in done.result.reason


# --- quarantine -------------------------------------------------------------------------------------------


def five_fail(farm: Farm, worker: str = "w1", kind: str = "exit") -> None:
    for _ in range(5):
        farm.finish(farm.run(worker), failed(kind), worker=worker)


def test_a_broken_tree_puts_nobody_into_quarantine() -> None:
    farm = Farm().client().worker().submit(*range(1, 12))

    five_fail(farm)
    five_fail(farm)

    assert farm.run().name == "t11"


def test_a_worker_that_fails_what_others_do_is_left_alone_with_back_off() -> None:
    farm = Farm().client().worker("w2").submit(spec(0, kind="k"))
    slow = farm.run("w2")
    farm.worker().submit(*[spec(n, kind="k") for n in range(1, 9)])
    for _ in range(4):
        farm.finish(farm.run(), failed("exit"))
    farm.finish(slow, worker="w2")
    other = farm.run("w2")
    farm.finish(farm.run(), failed("exit"))

    assert farm.told("w1", Run) == []
    status = {worker.worker: worker for worker in farm.manager.status(farm.now).workers}
    assert status["w1"].state == "quarantined"
    assert "5 tasks in a row failed there" in status["w1"].reason
    told = farm.manager.explain("s1", "t8").obstacles
    assert any("in quarantine for 10 s more" in obstacle.reason for obstacle in told)

    for second in range(1, 11):
        farm.alive("c1", "w1", "w2").at(float(second))
    assert len(farm.told("w1", Run)) == 1
    farm.finish(other, worker="w2")


def test_a_success_between_ends_the_row() -> None:
    farm = Farm().client().worker("w2").submit(spec(0, kind="k"))
    slow = farm.run("w2")
    farm.worker().submit(*[spec(n, kind="k") for n in range(1, 12)])
    for number in range(9):
        if number == 4:
            farm.finish(slow, worker="w2")
        farm.finish(farm.run(), success() if number == 4 else failed("exit"))

    assert len(farm.told("w1", Run)) == 1


def test_failures_far_apart_are_no_row() -> None:
    farm = Farm().client().worker().submit(*range(1, 8))
    for _ in range(6):
        run = farm.run()
        farm.say("w1", Declined(run.key, run.attempt, "no rights", kind="preparation"))
        for _ in range(3):
            farm.alive("c1", "w1").at(farm.now + 1)

    assert all(worker.state != "quarantined" for worker in farm.manager.status(farm.now).workers)


def test_a_worker_that_can_make_nothing_ready_is_left_alone_whoever_else_works() -> None:
    farm = Farm().client().worker().submit(*range(1, 8))
    for _ in range(5):
        run = farm.run()
        farm.say("w1", Declined(run.key, run.attempt, "no rights", kind="preparation"))

    assert farm.told("w1", Run) == []
    (status,) = farm.manager.status(farm.now).workers
    assert status.state == "quarantined"
    farm.alive("c1", "w1").at(2.0)
    (waiting,) = farm.told("c1", Waiting)
    assert "in quarantine" in waiting.obstacles[0].reason

    for second in range(3, 11):
        farm.alive("c1", "w1").at(float(second))
    run = farm.run()
    farm.say("w1", Declined(run.key, run.attempt, "no rights", kind="preparation"))
    assert farm.told("w1", Run) == []
    assert "in quarantine for 20 s" in farm.manager.explain("s1", run.name).obstacles[0].reason


def test_what_was_sent_ahead_to_a_worker_in_quarantine_is_asked_back() -> None:
    farm = Farm().client().worker(slots=1).submit(spec(0, kind="k"))
    farm.finish(farm.run(), success(run_s=0.001)).submit(*[spec(n, kind="k") for n in range(1, 12)])
    farm.finish(farm.run(), success(run_s=0.001))
    runs = farm.told("w1", Run)
    assert len(runs) > 5
    for run in runs[:5]:
        farm.say("w1", Declined(run.key, run.attempt, "no rights", kind="preparation"))

    assert all(attempt.recalled for attempt in farm.manager._tables.workers["w1"].backlog.values())
    check(farm.manager)


def test_offers_without_a_tool_come_back_with_a_registration() -> None:
    farm = Farm().client().worker("w1", 1, Offer("shell"), Offer("gcc")).worker("w2").submit(1, 2)
    farm.finish(farm.run(), failed("missing-tool"))

    offers = {worker.worker: worker.offers for worker in farm.manager.status(farm.now).workers}
    assert [offer.capability for offer in offers["w1"]] == ["gcc"]
    (status, _) = farm.manager.status(farm.now).workers
    assert "no longer offers shell" in status.reason


def test_a_loss_that_is_taken_back_acquits_its_worker() -> None:
    farm = Farm().client().worker().submit(1)
    run = farm.run()
    farm.alive("c1").at(5.0).alive("c1").at(8.0)
    task = farm.manager._tables.tasks[run.key]
    assert task.killers == ("w1/w1",)

    farm.worker(running=(Running(run.key, run.attempt),))

    assert task.live is not None
    assert task.killers == ()


def test_an_earlier_loss_of_the_same_worker_still_counts() -> None:
    farm = Farm().client().worker().submit(1)
    task = farm.manager._tables.tasks[farm.run().key]
    for start in (0.0, 10.0):
        farm.alive("c1").at(start + 5.0).alive("c1").at(start + 8.0)
        if start == 0.0:
            farm.worker().at(10.0)
    assert [past.outcome for past in task.past] == ["lost", "lost"]

    farm.worker(running=(Running(task.key, task.attempt),))

    assert len(task.past) == 1
    assert task.killers == ("w1/w1",)
