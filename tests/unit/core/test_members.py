from __future__ import annotations

from msgspec.structs import replace

from computefarm.core.commands import Drop, Gone, Vanished
from computefarm.messages import (
    Disconnect,
    Done,
    FileEntry,
    Goodbye,
    Halt,
    Heartbeat,
    LoadReport,
    Need,
    Offer,
    Offers,
    Outcome,
    Register,
    Run,
    Running,
    Want,
)
from computefarm.testing.farm import Farm, action, spec
from computefarm.testing.invariants import check

A = bytes([1]) * 32
REGISTER = Register("w1", "h", "h", "linux", 1, (Offer("shell", "1.0"),))


def test_a_silent_worker_loses_its_task_to_another() -> None:
    farm = Farm().client().worker("w1").submit(1)
    farm.at(4.0).worker("w2").alive("c1").at(6.5)

    assert farm.run("w2").attempt == 2
    (lost, _) = farm.manager.explain("s1", "t1").attempts
    assert (lost.worker, lost.outcome) == ("w1", "lost")
    assert "silent" in lost.reason


def test_any_message_is_a_sign_of_life() -> None:
    farm = Farm().client().worker("w1").submit(1)
    for second in range(1, 20):
        farm.at(float(second)).alive("w1", "c1")

    assert farm.manager.status(19.0).running == 1
    assert farm.others == []


def test_the_manager_says_that_it_lives() -> None:
    farm = Farm().worker("w1").at(2.0)

    assert farm.told("w1", Heartbeat) == [Heartbeat()]


def test_a_worker_whose_connection_ended_may_come_back_with_its_attempts() -> None:
    farm = Farm().client().worker("w1", boot="b").submit(1)
    run = farm.run()
    farm.learn(Gone("w1")).at(1.5).peer("w1-again", "worker", boot="b")
    farm.say("w1-again", replace(REGISTER, running=(Running(run.key, 1, "epoch"),)))

    farm.at(3.0).finish(run, worker="w1-again")
    assert [past.outcome for past in farm.done().attempts] == ["succeeded"]


def test_what_a_returning_worker_does_not_have_is_sent_again() -> None:
    farm = Farm().client().worker("w1", boot="b").submit(1)
    farm.run()
    farm.learn(Gone("w1")).peer("w1-again", "worker", boot="b").say("w1-again", REGISTER)

    assert farm.run("w1-again").attempt == 2


def test_a_known_peer_on_a_new_connection_is_given_nothing_before_it_has_registered() -> None:
    farm = Farm().client().worker("w1", 2, boot="b").submit(1)
    farm.run()
    farm.peer("w1", "worker", boot="b").submit(2)
    assert farm.told("w1", Run) == []

    farm.say("w1", replace(REGISTER, slots=2))
    assert sorted((run.name, run.attempt) for run in farm.told("w1", Run)) == [("t1", 2), ("t2", 1)]


def test_a_known_client_on_a_new_connection_is_asked_again_for_what_is_missing() -> None:
    task = spec(1, action=action(inputs=(FileEntry("a", b"a" * 32, 1),)))
    farm = Farm().client().submit(task)
    farm.told("c1", Want)
    farm.client().submit(task)

    assert farm.told("c1", Want) == [Want((b"a" * 32,))]


def test_what_a_returning_worker_should_not_have_is_stopped() -> None:
    farm = Farm().client().worker("w1", boot="b").submit(1)
    run = farm.run()
    farm.at(3.0).worker("w2").alive("c1").at(7.0).alive("c1", "w2")
    assert farm.run("w2").attempt == 2

    farm.peer("w1-again", "worker", boot="b")
    farm.say("w1-again", replace(REGISTER, running=(Running(run.key, 1, "epoch"),)))

    assert [(halt.key, halt.attempt) for halt in farm.told("w1-again", Halt)] == [(run.key, 1)]


def test_a_worker_that_does_not_come_back_is_lost_after_a_heartbeat() -> None:
    farm = Farm().client().worker("w1").worker("w2", 1, draining=True).submit(1)
    farm.learn(Gone("w1")).at(1.9)
    assert farm.manager.status(1.9).workers[0].state == "silent"

    farm.at(3.1)
    assert [worker.worker for worker in farm.manager.status(3.1).workers] == ["w2"]
    assert farm.manager.explain("s1", "t1").state == "waiting"


def test_a_late_worker_is_welcome_although_an_input_has_been_lost_meanwhile() -> None:
    farm = Farm().client().worker("w1").arrive(A)
    farm.submit(spec(1, action=action("t1", inputs=(FileEntry("i", A, 1),))))
    run = farm.run()
    farm.learn(Gone("w1")).alive("c1").at(3.1).alive("c1")
    farm.blobs.discard(A)
    farm.learn(Vanished((A,)))
    assert farm.told("c1", Want) == [Want((A,))]

    farm.worker("w1", running=(Running(run.key, run.attempt, "epoch"),))
    assert farm.told("w1", Halt) == []
    farm.finish(run)

    done = farm.done()
    assert (done.result.outcome, len(done.attempts)) == (Outcome.SUCCEEDED, 1)
    check(farm.manager)


def test_a_restarted_worker_has_lost_what_it_ran() -> None:
    farm = Farm().client().worker("w1", boot="one").submit(1)
    farm.run()
    farm.learn(Gone("w1")).worker("w1", peer="p2", boot="two")

    assert farm.run("p2").attempt == 2
    assert farm.manager.explain("s1", "t1").attempts[0].reason == "was restarted"


def test_three_workers_vanish_and_the_task_is_given_up() -> None:
    farm = Farm().client()
    farm.submit(1)
    for name in ("w1", "w2", "w3"):
        farm.worker(name).learn(Gone(name)).alive("c1").at(farm.now + 3.5).alive("c1")

    done = farm.done()
    assert done.result.outcome is Outcome.LOST
    assert "3 different workers (w1, w2, w3)" in done.result.reason
    assert [past.outcome for past in done.attempts] == ["lost"] * 3


def test_a_polite_goodbye_is_not_held_against_the_task() -> None:
    farm = Farm().client().submit(1)
    for name in ("w1", "w2", "w3", "w4"):
        farm.worker(name).say(name, Goodbye("going home"))

    assert farm.told("c1", Done) == []
    assert [past.reason for past in farm.manager.explain("s1", "t1").attempts] == ["going home"] * 4


def test_a_name_is_not_taken_from_another_owners_live_worker() -> None:
    farm = Farm().worker("w1", owner="anna").worker("w1", owner="bert", peer="p2")

    (said,) = farm.told("p2", Disconnect)
    assert said.code == "name"
    assert "w1.lan" in said.text
    assert [worker.worker for worker in farm.manager.status(0.0).workers] == ["w1"]


def test_two_live_processes_of_one_owner_cannot_share_a_name_either() -> None:
    farm = Farm().worker("w1", boot="one").worker("w1", peer="p2", boot="two")
    assert [said.code for said in farm.told("p2", Disconnect)] == ["name"]

    farm.at(4.5).worker("w1", peer="p3", boot="two")
    assert farm.told("p3", Disconnect) == []
    assert farm.others[-1] == Drop("w1", "w1 has connected again")


def test_the_same_process_replaces_its_own_connection() -> None:
    farm = Farm().client().worker("w1", boot="b").submit(1)
    run = farm.run()
    farm.peer("p2", "worker", boot="b").say("p2", replace(REGISTER, running=(Running(run.key, 1, "epoch"),)))

    assert farm.told("p2", Disconnect) == []
    farm.finish(run, worker="p2")
    assert farm.done().worker == "w1"


def test_impossible_registrations_are_refused() -> None:
    for bad in (replace(REGISTER, slots=0), replace(REGISTER, weight=0.0), replace(REGISTER, worker="")):
        farm = Farm().peer("w1", "worker").say("w1", bad)
        assert [said.code for said in farm.told("w1", Disconnect)] == ["protocol"]


def test_impossible_loads_are_refused() -> None:
    farm = Farm().peer("m", "monitor").say("m", LoadReport("h", "h", float("nan"), 4, 0, 0))

    assert [said.code for said in farm.told("m", Disconnect)] == ["protocol"]
    assert farm.manager.status(0.0).hosts == ()


def test_a_client_that_says_goodbye_is_forgotten_with_its_tasks() -> None:
    farm = Farm().client().worker().submit(1, 2)
    run = farm.run()
    farm.say("c1", Goodbye())
    assert [halt.key for halt in farm.told("w1", Halt)] == [run.key]

    farm.finish(run)
    assert farm.manager._tables.sessions == {}
    assert farm.manager._tables.tasks == {}


def test_a_client_has_a_lease_to_come_back_in() -> None:
    farm = Farm().client().worker().submit(1)
    run = farm.run()
    farm.learn(Gone("c1")).at(4.0).alive("w1").finish(run).at(5.0)
    assert farm.told("c1", Done) == []

    farm.client("c1-again").submit(1, client="c1-again")

    assert farm.done("c1-again").task == 1


def test_a_client_that_stays_away_is_cancelled() -> None:
    farm = Farm().client().worker().submit(1)
    farm.learn(Gone("c1"))
    for second in range(1, 29):
        farm.at(float(second)).alive("w1")
    assert farm.told("w1", Halt) == []

    for second in range(29, 32):
        farm.at(float(second)).alive("w1")

    assert len(farm.told("w1", Halt)) == 1


def test_a_session_belongs_to_its_owner() -> None:
    farm = Farm().client("c1", owner="anna").client("c2", owner="bert").submit(1).submit(2, client="c2")

    assert [said.code for said in farm.told("c2", Disconnect)] == ["key"]


def test_a_returning_client_is_asked_again_for_what_is_missing() -> None:
    task = spec(1, action=action(inputs=(FileEntry("a", b"a" * 32, 1),)))
    farm = Farm().client().worker().submit(task)
    farm.learn(Gone("c1")).client("c2").submit(task, client="c2")

    assert farm.told("c2", Want) == [Want((b"a" * 32,))]


def test_clients_hear_once_of_every_change_in_what_is_offered() -> None:
    farm = Farm().client().worker("w1", 2)
    assert [offers.pools[0].slots for offers in farm.told("c1", Offers)] == [2]

    farm.say("w1", replace(REGISTER, slots=2, host="host-w1"))
    assert farm.told("c1", Offers) == []

    farm.say("w1", Goodbye())
    assert [offers.pools for offers in farm.told("c1", Offers)] == [()]


def test_clients_hear_when_the_farm_has_settled() -> None:
    farm = Farm(settled=False).client().at(5.0).alive("c1").at(6.0)

    assert [offers.settled for offers in farm.told("c1", Offers)] == [True]


def test_a_worker_may_change_what_it_offers() -> None:
    farm = Farm().client().worker("w1").submit(spec(1, action=action(capability="gcc")), need=Need("gcc"))
    assert farm.told("w1", Run) == []

    farm.say("w1", replace(REGISTER, offers=(Offer("gcc", "12"),)))

    assert farm.run().name == "t1"


def test_a_host_that_nobody_works_on_or_reports_is_forgotten_after_an_hour() -> None:
    farm = Farm().client().worker(host="h1").load("h2", 0.1)
    farm.say("w1", Goodbye()).say("m-h2", Goodbye())
    for _ in range(1799):
        farm.alive("c1").at(farm.now + 2)
    assert set(farm.manager._tables.hosts) == {"h1", "h2"}

    farm.alive("c1").at(farm.now + 5)

    assert farm.manager._tables.hosts == {}
