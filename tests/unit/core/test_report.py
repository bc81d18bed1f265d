from __future__ import annotations

from computefarm.core.commands import Gone
from computefarm.messages import FileEntry, Goodbye, Leaving, Need, Obstacle, Offer, Waiting
from computefarm.testing.farm import Farm, action, spec

GCC99 = Need("gcc", ">=99")


def gcc(number: int) -> object:
    return spec(number, action=action(str(number), "gcc"))


def test_what_was_never_offered_is_said_at_once() -> None:
    farm = Farm().client().worker("w1", 1, Offer("gcc", "12.2.0")).submit(gcc(1), gcc(2), need=GCC99)

    (said,) = farm.told("c1", Waiting)
    assert (said.tasks, said.offered, said.ever) == ((1, 2), False, False)
    assert said.obstacles == (Obstacle("worker", "w1", "gcc 12.2.0, needs >=99"),)


def test_a_young_farm_waits_for_its_workers_before_it_says_so() -> None:
    farm = Farm(settled=False).client().submit(gcc(1), need=GCC99).alive("c1").at(5.0).alive("c1")
    assert farm.told("c1", Waiting) == []

    farm.at(6.0)
    assert [said.tasks for said in farm.told("c1", Waiting)] == [(1,)]


def test_a_worker_that_is_only_busy_is_no_obstacle() -> None:
    farm = Farm().client().worker().submit(1, 2).at(3.0)

    assert farm.told("c1", Waiting) == []
    assert farm.manager.explain("s1", "t2").obstacles == (
        Obstacle("worker", "w1", "0 of 1 slots free, needs 1"),
    )


def test_what_has_vanished_is_waited_for_and_the_end_of_the_wait_is_said() -> None:
    farm = Farm().client().worker().say("w1", Goodbye()).submit(1)
    assert farm.told("c1", Waiting) == []

    farm.at(1.0)
    (said,) = farm.told("c1", Waiting)
    assert (said.tasks, said.offered, said.ever) == ((1,), False, True)
    # None would mean that the wait is over.
    assert said.obstacles == (Obstacle("host", "manager", "no worker is connected"),)

    farm.worker("w1")
    (over,) = farm.told("c1", Waiting)
    assert (over.tasks, over.offered, over.obstacles) == ((1,), True, ())


def test_a_held_host_is_named_once_and_not_on_every_report() -> None:
    farm = Farm().client().worker("w1", 1, host="h1").load("h1", 0.9, max_load=0.5).submit(1).at(1.0)
    (said,) = farm.told("c1", Waiting)
    assert said.obstacles == (Obstacle("host", "h1.lan", "load 0.90 is at the owner's limit of 0.5"),)
    assert (said.offered, said.ever) == (True, True)

    farm.load("h1", 0.8, max_load=0.5).alive("c1", "w1").at(3.0)
    assert farm.told("c1", Waiting) == []

    farm.say("w1", Leaving()).at(4.5)
    (changed,) = farm.told("c1", Waiting)
    assert changed.obstacles == (Obstacle("worker", "w1", "takes no new work"),)


def test_late_comers_are_told_too() -> None:
    farm = Farm().client().worker("w1", 1, draining=True).submit(1).at(1.0)
    assert [said.tasks for said in farm.told("c1", Waiting)] == [(1,)]

    farm.submit(2).at(2.5)

    assert [said.tasks for said in farm.told("c1", Waiting)] == [(2,)]


def test_a_task_too_big_for_every_worker_is_said() -> None:
    farm = Farm().client().worker("w1", 2).submit(1, need=Need("shell", cpus=4)).at(1.0)

    (said,) = farm.told("c1", Waiting)
    assert said.obstacles == (Obstacle("worker", "w1", "has 2 slots, needs 4"),)
    assert (said.offered, said.ever) == (False, True)


def test_status_counts_hosts_workers_and_tasks() -> None:
    farm = (
        Farm()
        .client()
        .worker("w1", 2, host="h1")
        .worker("w2", 1, host="h2")
        .load("h1", 0.25)
        .submit(1, 2, 3, 4)
    )
    status = farm.manager.status(2.0)

    assert (status.farm, status.version, status.uptime_s) == ("test", "1.0", 2.0)
    assert (status.waiting, status.running) == (1, 3)
    assert [(host.host, host.online, host.load, host.last_report_s) for host in status.hosts] == [
        ("h1", True, 0.25, 2.0),
        ("h2", True, None, None),
    ]
    assert [(worker.worker, worker.running, worker.state) for worker in status.workers] == [
        ("w1", 2, "busy"),
        ("w2", 1, "busy"),
    ]


def test_a_silent_host_is_offline_and_comes_back_by_itself() -> None:
    farm = Farm().load("h1", 0.1, interval_s=1.0)
    assert not farm.manager.status(3.1).hosts[0].online

    farm.now = 4.0
    farm.load("h1", 0.1, interval_s=1.0)
    assert farm.manager.status(4.0).hosts[0].online


def test_pools_count_equal_workers_together() -> None:
    farm = Farm().worker("w2", 2).worker("w1", 1).worker("w3", 4, Offer("shell", "2.0"))

    assert [(pool.offer.version, pool.slots, pool.workers) for pool in farm.manager.pools()] == [
        ("1.0", 3, ("w1", "w2")),
        ("2.0", 4, ("w3",)),
    ]


def test_explain_knows_what_it_does_not_know() -> None:
    assert Farm().manager.explain("s1", "nothing").state == "unknown"


def test_explain_says_what_inputs_are_awaited_from_where() -> None:
    farm = Farm().client().submit(spec(1, action=action(inputs=(FileEntry("a", b"a" * 32, 1),))))

    assert farm.manager.explain("s1", "1").obstacles == (
        Obstacle("host", "c1.lan", "1 input has not arrived from there yet"),
    )


def test_explain_names_a_worker_that_fell_silent() -> None:
    farm = Farm().client().worker().learn(Gone("w1")).submit(1)

    assert farm.manager.explain("s1", "t1").obstacles == (Obstacle("worker", "w1", "has fallen silent"),)
