from __future__ import annotations

import pytest
from msgspec.structs import replace

from computefarm.core.commands import Gone, LookUp, NotFound, Vanished
from computefarm.messages import (
    Absent,
    Cancel,
    Done,
    FileEntry,
    Need,
    Outcome,
    Run,
    Submit,
    Taken,
    TaskSpec,
    Want,
)
from computefarm.testing.farm import Farm, action, failure, spec, success
from computefarm.testing.invariants import check

A, B = b"a" * 32, b"b" * 32
OUT = FileEntry("o", b"o" * 32, 1)


def files(*digests: bytes) -> tuple[FileEntry, ...]:
    return tuple(FileEntry(f"src/{digest[:1].decode()}.c", digest, 1) for digest in digests)


def shared(number: int, **fields: object) -> object:
    return spec(number, action=action("same", outputs=("o",)), read_cache=True, **fields)


def test_a_task_waits_for_its_inputs_and_then_runs() -> None:
    farm = Farm().client().worker().submit(spec(1, action=action(inputs=files(A, B))))
    assert farm.told("c1", Want) == [Want((A, B))]

    farm.arrive(A)
    assert farm.told("w1", Run) == []
    farm.arrive(B)
    assert farm.run().name == "t1"


def test_a_blob_is_asked_for_once_however_many_wait_for_it() -> None:
    farm = Farm().client().worker("w1", 9)
    farm.submit(*[spec(n, action=action(f"{n}", inputs=files(A))) for n in range(5)])
    assert farm.told("c1", Want) == [Want((A,))]

    farm.arrive(A)
    assert len(farm.told("w1", Run)) == 5


def test_inputs_are_pinned_until_the_end_and_outputs_until_taken() -> None:
    farm = Farm().client().worker()
    farm.blobs |= {A, OUT.digest}
    farm.submit(spec(1, action=action(inputs=files(A))))
    assert farm.pins == {A: 1}

    farm.finish(farm.run(), success(OUT))
    assert farm.pins == {OUT.digest: 1}

    farm.say("c1", Taken("s1", (1,)))
    assert farm.pins == {}


def test_an_input_that_the_client_has_not_got_fails_the_task_by_path() -> None:
    farm = Farm().client().worker().submit(spec(1, action=action(inputs=files(A, B))))
    farm.say("c1", Absent((B,)))

    done = farm.done()
    assert done.result.outcome is Outcome.FAILED
    assert "src/b.c" in done.result.reason
    assert farm.pins == {}


def test_another_client_with_the_same_task_is_asked_instead() -> None:
    same = {"action": action("same", inputs=files(A)), "read_cache": True}
    farm = Farm(cache=True).client("c1").client("c2").worker()
    farm.submit(spec(1, **same)).submit(spec(7, **same), session="s2", client="c2")
    farm.say("c1", Absent((A,)))

    assert farm.done("c1").result.outcome is Outcome.FAILED
    assert farm.told("c2", Want) == [Want((A,))]
    farm.arrive(A).finish(farm.run())
    assert farm.done("c2").result.outcome is Outcome.SUCCEEDED


def test_the_cache_answers_when_all_it_names_is_still_there() -> None:
    farm = Farm(cache=True).client().worker()
    farm.blobs.add(OUT.digest)
    farm.submit(shared(1)).finish(farm.run(), success(OUT))
    assert not farm.done().cached

    farm.submit(shared(2))

    assert farm.done().cached
    assert farm.told("w1", Run) == []


def test_a_cached_result_whose_outputs_were_evicted_is_made_again() -> None:
    farm = Farm(cache=True).client().worker()
    farm.blobs.add(OUT.digest)
    farm.submit(shared(1)).finish(farm.run(), success(OUT))
    farm.blobs.clear()

    farm.submit(shared(2))

    assert farm.run().name == "t2"


def test_no_cache_means_neither_asked_nor_kept() -> None:
    farm = Farm().client().worker()
    farm.submit(spec(1, read_cache=False, write_cache=False)).finish(farm.run())

    assert farm.others == []


@pytest.mark.parametrize("result", [failure(), success(OUT)])
def test_failures_are_never_kept(result: object) -> None:
    farm = Farm(cache=True).client().worker()
    farm.blobs.add(OUT.digest)
    farm.submit(shared(1)).finish(farm.run(), replace(result, missing=("p",)))

    assert farm.cache == {}
    assert farm.done().result.outcome is Outcome.FAILED


def test_identical_actions_in_flight_run_once() -> None:
    farm = Farm(cache=True).client("c1").client("c2").worker("w1", 2)
    farm.submit(shared(1), shared(2)).submit(shared(7), session="s2", client="c2")
    run = farm.run()

    farm.finish(run)

    assert [(done.task, done.cached) for done in farm.told("c1", Done)] == [(1, False), (2, True)]
    assert [(done.task, done.cached) for done in farm.told("c2", Done)] == [(7, True)]


def test_tasks_that_must_not_be_cached_are_not_merged() -> None:
    farm = Farm(cache=True).client().worker("w1", 3)
    farm.submit(shared(1), shared(2, write_cache=False))
    farm.submit(spec(3, action=action("same", outputs=("o",)), read_cache=False))

    assert len(farm.told("w1", Run)) == 3


def test_submitting_again_changes_nothing_until_the_task_has_ended() -> None:
    farm = Farm().client().worker().submit(1).submit(1)
    farm.finish(farm.run())
    first = farm.done()

    farm.submit(1)

    assert farm.done() == first
    assert farm.told("w1", Run) == []


@pytest.mark.parametrize(
    ("need", "encoded", "text"),
    [
        (Need("shell"), b"junk", "the action cannot be read"),
        (Need("shell", version="~9"), action(), "'~9' is not a version constraint"),
        (Need("shell", cpus=0), action(), "impossible need: cpus 0"),
        (Need("gcc"), action(), "the action is for shell, the need for gcc"),
        (Need("shell"), action(fingerprint="f1"), "planned for another shell"),
    ],
)
def test_an_impossible_task_fails_with_the_reason(need: Need, encoded: bytes, text: str) -> None:
    farm = Farm().client().worker().submit(spec(1, action=encoded), need=need)

    assert text in farm.done().result.reason
    assert farm.pins == {}


def test_a_damaged_input_is_asked_for_again() -> None:
    farm = Farm().client()
    farm.blobs.add(A)
    farm.submit(spec(1, action=action(inputs=files(A))))
    farm.blobs.clear()
    farm.learn(Vanished((A,)))
    assert farm.told("c1", Want) == [Want((A,))]

    farm.worker()
    assert farm.told("w1", Run) == []
    farm.arrive(A)
    assert farm.run().name == "t1"


def test_a_late_answer_of_the_cache_is_nothing() -> None:
    farm = Farm().client().worker().submit(shared(1))
    (look_up,) = farm.others
    assert isinstance(look_up, LookUp)
    farm.say("c1", Cancel("s1", (1,)))
    assert farm.done().result.outcome is Outcome.CANCELLED

    farm.learn(NotFound(look_up.key)).learn(NotFound(99))

    assert farm.told("w1", Run) == []


def test_needs_of_one_submission_are_told_apart() -> None:
    farm = Farm().client().worker("w1", 2)
    farm.say(
        "c1",
        Submit(
            "s1",
            (Need("nothing"), Need("shell")),
            (spec(1, need=1), replace(spec(2, action=action("x", "nothing")), need=0)),
        ),
    )

    assert farm.run().name == "t1"


# --- clients that come and go -------------------------------------------------------------------------------


def common(number: int) -> TaskSpec:
    files = (FileEntry("i", bytes([5]) * 32, 1),)
    return spec(number, action=action("same", inputs=files), read_cache=True)


def test_who_shares_the_run_of_an_absent_client_is_asked_for_the_inputs() -> None:
    farm = Farm(cache=True).client().submit(common(1)).learn(Gone("c1"))

    farm.client("c2").submit(common(1), session="s2", client="c2")

    assert farm.told("c2", Want) == [Want((bytes([5]) * 32,))]
    farm.worker().arrive(bytes([5]) * 32).finish(farm.run())
    assert farm.done("c2").result.outcome is Outcome.SUCCEEDED


def test_inputs_that_nobody_who_is_there_has_fail_the_tasks_of_those_who_are() -> None:
    farm = Farm(cache=True).client().submit(common(1)).learn(Gone("c1"))
    farm.client("c2").submit(common(1), session="s2", client="c2")

    farm.say("c2", Absent((bytes([5]) * 32,)))

    assert farm.done("c2").result.outcome is Outcome.FAILED
    assert farm.manager.explain("s1", "t1").state == "waiting"
    check(farm.manager)


def test_all_tasks_of_a_client_that_left_end_even_when_they_share_a_run() -> None:
    farm = Farm(cache=True).client().submit(common(1), common(2)).learn(Gone("c1"))
    farm.client("c2").submit(common(1), session="s2", client="c2")
    for second in range(1, 40):
        farm.alive("c2").at(float(second))

    assert set(farm.manager._tables.sessions) == {"s2"}
    check(farm.manager)
