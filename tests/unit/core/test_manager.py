from __future__ import annotations

import pytest

from computefarm.core.commands import Drop, Send
from computefarm.messages import (
    Answer,
    Ask,
    Begun,
    Disconnect,
    Finished,
    Heartbeat,
    Hello,
    LoadReport,
    Offers,
    Register,
    Settled,
    Submit,
    ToManager,
    Welcome,
)
from computefarm.testing.farm import Farm, action, spec, success


def test_a_client_is_welcomed_and_told_what_there_is() -> None:
    farm = Farm().worker("w1", 2)
    commands = farm.manager.connect("c1", "client", Hello(1, "1.0", "client", "b"), 0.0)

    welcome, offers = (command.message for command in commands if isinstance(command, Send))
    assert welcome == Welcome(1, "1.0", "test", "epoch", 2.0, "c1")
    assert isinstance(offers, Offers)
    assert [(pool.offer.capability, pool.slots, pool.workers) for pool in offers.pools] == [
        ("shell", 2, ("w1",))
    ]


def test_another_protocol_is_refused_by_name() -> None:
    commands = Farm().manager.connect("x", "client", Hello(99, "9.9", "client", "b"), 0.0)

    assert isinstance(commands[0], Send)
    assert isinstance(commands[0].message, Disconnect)
    assert commands[0].message.code == "version"
    assert "version 9.9" in commands[0].message.text
    assert isinstance(commands[1], Drop)


def test_a_stranger_is_asked_to_say_hello() -> None:
    farm = Farm().say("nobody", Heartbeat())

    assert farm.sent == [("nobody", Disconnect("protocol", "say Hello first"))]


@pytest.mark.parametrize(
    ("role", "message"),
    [
        ("worker", Submit("s", (), ())),
        ("client", Register("w", "h", "h", "p", 1, ())),
        ("viewer", Submit("s", (), ())),
        ("monitor", Finished(1, 1, success())),
        ("client", LoadReport("h", "h", 0.1, 1, 0, 0)),
    ],
)
def test_a_role_may_not_say_everything(role: str, message: ToManager) -> None:
    farm = Farm().peer("p", role).say("p", message)

    ((to, said),) = farm.sent
    assert to == "p"
    assert isinstance(said, Disconnect)
    assert said.code == "role"
    assert role in said.text
    assert [type(command) for command in farm.others] == [Drop]


def test_a_worker_that_has_not_registered_is_not_listened_to() -> None:
    farm = (
        Farm()
        .client()
        .peer("w1", "worker")
        .submit(1)
        .say("w1", Begun(1, 1))
        .say("w1", Finished(1, 1, success()))
    )

    assert farm.told("w1", Disconnect) == []
    assert farm.manager.status(0.0).waiting == 1


def test_hello_is_the_shells_to_report() -> None:
    farm = Farm().client().say("c1", Hello(1, "1", "client", "b"))

    assert [said.code for said in farm.told("c1", Disconnect)] == ["protocol"]


def test_a_submission_that_refers_to_no_need_is_refused_whole() -> None:
    farm = Farm().client().worker()
    farm.submit(1)
    farm.say("c1", Submit("s1", (), (spec(2),)))

    assert [said.code for said in farm.told("c1", Disconnect)] == ["protocol"]


def test_every_question_is_answered_with_its_number() -> None:
    farm = Farm().client().worker().submit(1)
    for number, about in enumerate(["status", "offers", "explain"]):
        farm.say("c1", Ask(number, about, "s1", "t1"))

    status, offers, explain = farm.told("c1", Answer)
    assert [answer.number for answer in (status, offers, explain)] == [0, 1, 2]
    assert status.status is not None
    assert status.status.running == 1
    assert offers.pools == farm.manager.pools()
    assert explain.explanation is not None
    assert explain.explanation.state == "running"


def test_output_goes_to_everybody_who_watches_the_attempt() -> None:
    same = {"action": action("same"), "read_cache": True}
    farm = Farm(cache=True).client("c1").client("c2").worker()
    farm.submit(spec(1, **same)).submit(spec(7, **same), session="s2", client="c2")
    run = farm.run()

    assert farm.manager.watchers(run.key, 1) == [("c1", "s1", 1), ("c2", "s2", 7)]
    assert farm.manager.watchers(run.key, 2) == []


def test_results_of_nobodys_attempts_are_settled_so_that_the_sender_stops() -> None:
    farm = Farm().client().worker().submit(1)
    run = farm.run()

    farm.say("w1", Finished(99, 1, success(), "epoch"))
    farm.say("w1", Finished(run.key, 2, success(), "epoch"))
    farm.say("w1", Finished(run.key, 1, success(), "another epoch"))

    assert [said.attempts for said in farm.told("w1", Settled)] == [
        ((99, 1),),
        ((run.key, 2),),
        ((run.key, 1),),
    ]
    assert farm.manager.status(0.0).running == 1


def test_the_manager_wakes_for_nothing_later_than_half_a_heartbeat() -> None:
    farm = Farm()

    assert farm.manager.next_deadline() == 1.0
