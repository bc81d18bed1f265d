from __future__ import annotations

from computefarm.core.commands import Gone
from computefarm.core.entries import Cancelled
from computefarm.messages import Answer, Ask, Cancel, Declined, Disconnect, Done, Halt, Outcome
from computefarm.testing.farm import Farm, action, spec
from computefarm.testing.invariants import check


def test_a_run_is_cancelled_from_another_connection_of_its_owner() -> None:
    farm = Farm().client("c1", owner="anna").client("c2", owner="anna").worker().submit(1, 2, 3)
    run = farm.run()

    farm.say("c2", Cancel("s1", reason="enough", number=7))

    assert farm.told("c2", Answer) == [Answer(7, cancelled=3)]
    farm.say("w1", Declined(run.key, run.attempt, "halted"))
    assert [done.result.outcome for done in farm.told("c1", Done)] == [Outcome.CANCELLED] * 3
    farm.say("c2", Cancel("s1", number=8))
    assert farm.told("c2", Answer) == [Answer(8, cancelled=0)]
    assert farm.manager._tables.sessions["s1"].peer == "c1"


def test_tasks_are_cancelled_by_name_or_by_the_name_of_their_group() -> None:
    farm = (
        Farm().client().client("c2").submit(spec(1, "all:a"), spec(2, "all:b"), spec(3, "one"), spec(4, "al"))
    )

    farm.say("c2", Cancel("s1", names=("one", "all", "nobody"), number=1))

    assert farm.told("c2", Answer) == [Answer(1, cancelled=3)]
    assert sorted(done.task for done in farm.told("c1", Done)) == [1, 2, 3]
    farm.say("c2", Cancel("s1", names=("nobody",), number=2))
    assert farm.told("c2", Answer) == [Answer(2, cancelled=0)]


def test_an_unknown_run_has_nothing_to_cancel_and_leaves_no_trace() -> None:
    farm = Farm().client().say("c1", Cancel("typo", number=1))

    assert farm.told("c1", Answer) == [Answer(1, cancelled=0)]
    assert "typo" not in farm.manager._tables.sessions


def test_somebody_elses_run_cannot_be_cancelled_but_by_an_admin() -> None:
    farm = Farm().client("c1", owner="anna").client("c2", owner="bert").submit(1)

    farm.say("c2", Cancel("s1", number=1))
    assert [said.code for said in farm.told("c2", Disconnect)] == ["key"]
    farm.peer("a", "admin", owner="root").say("a", Cancel("s1", number=1))

    assert farm.told("a", Answer) == [Answer(1, cancelled=1)]


def test_without_a_session_all_runs_of_the_owner_are_meant() -> None:
    farm = Farm().client("c1", owner="anna").client("c2", owner="bert").client("c3", owner="anna")
    farm.submit(1).submit(1, session="s2", client="c2").submit(1, session="s3", client="c3")

    farm.say("c3", Cancel("", number=1))

    assert farm.told("c3", Answer) == [Answer(1, cancelled=2)]
    assert farm.told("c2", Done) == []


def test_the_answer_waits_until_the_cancel_is_durable() -> None:
    farm = Farm(journalled=True).client().client("c2").worker().submit(1)
    farm.sync(len(farm.journal)).say("c2", Cancel("s1", number=1))
    assert isinstance(farm.journal[-1], Cancelled)
    assert farm.told("c2", Answer) == []

    assert farm.sync().told("c2", Answer) == [Answer(1, cancelled=1)]


def test_a_shared_run_is_stopped_only_when_its_last_client_cancels() -> None:
    twin = spec(1, action=action("same"), read_cache=True)
    farm = Farm(cache=True).client("c1").client("c2").client("c3").worker()
    for number in (1, 2, 3):
        farm.submit(twin, session=f"s{number}", client=f"c{number}")
    run = farm.run()

    farm.say("c1", Cancel("s1"))
    farm.say("c3", Cancel("s3"))
    assert farm.told("w1", Halt) == []
    assert farm.done("c1").result.outcome is Outcome.CANCELLED
    check(farm.manager)
    farm.say("c2", Cancel("s2"))

    assert len(farm.told("w1", Halt)) == 1
    farm.say("w1", Declined(run.key, run.attempt, "halted"))
    assert farm.done("c2").result.outcome is Outcome.CANCELLED


def test_a_new_session_attaches_to_what_an_absent_one_left() -> None:
    twin = spec(1, action=action("same"), read_cache=True)
    farm = Farm(cache=True).client().worker().submit(twin)
    run = farm.run()
    farm.learn(Gone("c1"))
    for second in range(1, 29):
        farm.at(float(second)).alive("w1")

    farm.client("c2").submit(twin, session="s2", client="c2")
    for second in range(29, 40):
        farm.at(float(second)).alive("w1", "c2")

    assert "s1" not in farm.manager._tables.sessions
    assert farm.told("w1", Halt) == []
    farm.finish(run)
    assert farm.done("c2").result.outcome is Outcome.SUCCEEDED


def test_sessions_are_listed_with_what_they_have_in_hand() -> None:
    farm = Farm().client("c1", owner="anna").worker().submit(1, 2, 3)
    farm.finish(farm.run())
    farm.say("c1", Ask(1, "sessions"))

    (answer,) = farm.told("c1", Answer)
    assert answer.sessions is not None
    (said,) = answer.sessions
    assert (said.session, said.owner, said.hostname) == ("s1", "anna", "c1.lan")
    assert (said.waiting, said.running, said.ended, said.expires_s) == (1, 1, 1, None)

    farm.learn(Gone("c1")).client("c2")
    farm.say("c2", Ask(2, "sessions"))
    (answer,) = farm.told("c2", Answer)
    assert answer.sessions is not None
    assert (answer.sessions[0].hostname, answer.sessions[0].expires_s) == ("", 30.0)
