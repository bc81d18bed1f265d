"""Requests to warm workers: who answers, how often, and what is said when nobody does."""

from __future__ import annotations

from collections import Counter

import msgspec

from computefarm.core import volatile
from computefarm.core.commands import Gone
from computefarm.messages import Offer, Reply, Request, Withdraw
from computefarm.testing.farm import Farm


def offer(*kernels: str, **tags: str) -> Offer:
    pairs = {f"kernel:{name}": "1" for name in kernels or ("hash.search",)}
    return Offer("recompute", "1.0", tags=tuple({**pairs, **tags}.items()))


def farm_of(*workers: str, slots: int = 1, **fields: object) -> Farm:
    farm = Farm()
    for name in workers:
        farm.worker(name, slots, offer(), **fields)
    return farm.client()


def ask(farm: Farm, number: int, *, client: str = "c1", body: bytes = b"", **fields: object) -> None:
    request = Request(number, "hash.search", body or f"body {client} {number}".encode(), 5.0)
    farm.say(client, msgspec.structs.replace(request, **fields))


def answer(farm: Farm, worker: str, request: Request, status: str = "ok", **fields: object) -> None:
    farm.say(worker, msgspec.structs.replace(Reply(request.number, status), **fields))


def given(farm: Farm, *workers: str) -> dict[str, list[Request]]:
    return {name: farm.told(name, Request) for name in workers}


def test_a_request_goes_to_a_worker_and_its_answer_comes_back_under_the_clients_number() -> None:
    farm = farm_of("w1")

    ask(farm, 7)
    (request,) = farm.told("w1", Request)
    answer(farm, "w1", request, values=b"x", device="cpu", cpu_ms=3.0)

    (reply,) = farm.told("c1", Reply)
    assert (reply.number, reply.status, reply.values, reply.worker, reply.attempts) == (
        7,
        "ok",
        b"x",
        "w1",
        1,
    )
    assert farm.manager.next_deadline() is not None


def test_the_least_pending_worker_is_chosen_and_what_is_too_much_waits() -> None:
    farm = farm_of("w1", "w2", slots=2)

    for number in range(6):
        ask(farm, number)
    got = given(farm, "w1", "w2")

    assert [len(those) for those in got.values()] == [2, 2]
    farm.now += 0.5
    answer(farm, "w2", got["w2"][0])
    assert [request.attempt for request in farm.told("w2", Request)] == [1]
    assert farm.manager.status(farm.now).requests == 1


def test_weights_share_the_requests_at_any_concurrency() -> None:
    for together in (1, 2, 3, 4):
        farm = Farm().worker("a", 4, offer(), weight=3.0).worker("b", 4, offer(), weight=1.0).client()
        count: Counter[str] = Counter()
        running: list[tuple[str, Request]] = []
        for number in range(80):
            ask(farm, number)
            for name, requests in given(farm, "a", "b").items():
                count[name] += len(requests)
                running += [(name, request) for request in requests]
            if len(running) >= together:
                farm.now += 0.5
                farm.alive("a", "b")
                name, request = running.pop(0)
                answer(farm, name, request)
        assert 2.4 <= count["a"] / count["b"] <= 3.6, (together, count)


def test_a_reserve_serves_only_when_the_others_are_full_or_gone() -> None:
    farm = Farm().worker("a", 1, offer()).worker("c", 1, offer(), tier=1).client()

    ask(farm, 1)
    assert [len(those) for those in given(farm, "a", "c").values()] == [1, 0]
    ask(farm, 2)
    assert [len(those) for those in given(farm, "a", "c").values()] == [0, 1]


def test_equal_requests_are_computed_once_and_answered_to_both() -> None:
    farm = farm_of("w1", "w2")
    farm.client("c2")

    ask(farm, 1, body=b"same")
    ask(farm, 9, client="c2", body=b"same", budget_s=60.0)
    got = given(farm, "w1", "w2")
    assert sum(map(len, got.values())) == 1

    answer(farm, "w1", got["w1"][0])
    assert [(reply.number, reply.merged) for reply in farm.told("c1", Reply)] == [(1, True)]
    assert [(reply.number, reply.merged) for reply in farm.told("c2", Reply)] == [(9, True)]


def test_one_of_two_askers_leaves_and_the_other_is_answered() -> None:
    farm = farm_of("w1")
    farm.client("c2")
    ask(farm, 1, body=b"same")
    ask(farm, 1, client="c2", body=b"same")
    (request,) = farm.told("w1", Request)

    farm.say("c1", Withdraw((1,)))
    assert farm.told("w1", Withdraw) == []
    farm.say("c2", Withdraw((1,)))
    assert farm.told("w1", Withdraw) == [Withdraw((request.number,))]
    answer(farm, "w1", request)
    assert farm.told("c2", Reply) == []


def test_a_request_said_twice_is_computed_once() -> None:
    farm = farm_of("w1", slots=4)

    ask(farm, 1)
    ask(farm, 1)

    assert len(farm.told("w1", Request)) == 1


def test_a_lost_workers_requests_go_to_another_at_once() -> None:
    farm = farm_of("w1", "w2")
    ask(farm, 1)
    assert len(farm.told("w1", Request)) == 1

    farm.learn(Gone("w1"))
    (request,) = farm.told("w2", Request)
    assert request.attempt == 2
    answer(farm, "w2", request)

    (reply,) = farm.told("c1", Reply)
    assert (reply.status, reply.attempts) == ("ok", 2)


def test_a_silent_workers_requests_go_to_another_and_it_is_trusted_again_when_it_speaks() -> None:
    farm = farm_of("w1", "w2")
    farm.now = 10.0
    farm.alive("w1", "w2")
    ask(farm, 1)
    (first,) = farm.told("w1", Request)

    farm.at(10.0 + volatile.SILENT_S + 0.01)
    (second,) = farm.told("w2", Request)
    assert second.attempt == 2
    silent = {one.worker: one.state for one in farm.manager.status(farm.now).servers}
    assert silent == {"w1": "silent", "w2": "up"}

    farm.alive("w1")
    assert farm.told("w1", Withdraw) == [Withdraw((first.number,))]
    ask(farm, 2)
    assert len(farm.told("w1", Request)) == 1


def test_the_first_answer_counts_when_two_compute_the_same() -> None:
    farm = farm_of("w1", "w2")
    ask(farm, 1)
    (first,) = farm.told("w1", Request)
    farm.at(volatile.SILENT_S + 0.01)
    (second,) = farm.told("w2", Request)

    answer(farm, "w1", first)
    assert [reply.worker for reply in farm.told("c1", Reply)] == ["w1"]
    assert farm.told("w2", Withdraw) == [Withdraw((second.number,))]
    answer(farm, "w2", second)
    assert farm.told("c1", Reply) == []


def test_after_two_other_workers_a_request_is_given_up_and_the_answer_says_who_failed() -> None:
    farm = farm_of("w1", "w2", "w3", "w4")
    ask(farm, 1)

    for name in ("w1", "w2", "w3"):
        (request,) = farm.told(name, Request)
        answer(farm, name, request, "error", reason="the device is gone")

    (reply,) = farm.told("c1", Reply)
    assert (reply.status, reply.attempts) == ("error", 3)
    assert all(f"{name}: the device is gone" in reply.reason for name in ("w1", "w2", "w3"))
    assert farm.told("w4", Request) == []


def test_a_bad_request_is_not_tried_elsewhere() -> None:
    farm = farm_of("w1", "w2")
    ask(farm, 1)
    (request,) = farm.told("w1", Request)

    answer(farm, "w1", request, "bad_request", reason="`k` is missing")

    assert farm.told("w2", Request) == []
    assert [reply.reason for reply in farm.told("c1", Reply)] == ["`k` is missing"]


def test_the_budget_shrinks_while_a_request_waits_and_late_work_is_dropped() -> None:
    farm = farm_of("w1")
    ask(farm, 1)
    ask(farm, 2, budget_s=3.0)
    ask(farm, 3, budget_s=0.5)
    (first,) = farm.told("w1", Request)

    farm.alive("w1").at(1.0).alive("w1")
    answer(farm, "w1", first)
    (second,) = farm.told("w1", Request)
    assert second.budget_s == 2.0
    late = {reply.number: reply for reply in farm.told("c1", Reply)}
    assert late[3].status == "deadline"
    assert "every worker was busy" in late[3].reason


def test_a_worker_that_does_not_end_in_time_is_told_to_stop() -> None:
    farm = farm_of("w1")
    ask(farm, 1, budget_s=1.0)
    (request,) = farm.told("w1", Request)

    for tenth in range(1, 16):
        farm.at(tenth / 10).alive("w1")

    (reply,) = farm.told("c1", Reply)
    assert reply.status == "deadline"
    assert "1 attempt; w1 has had it" in reply.reason
    assert farm.told("w1", Withdraw) == [Withdraw((request.number,))]


def test_a_request_waits_for_a_worker_to_come() -> None:
    farm = Farm().client()
    ask(farm, 1)

    farm.worker("w1", 1, offer())

    assert len(farm.told("w1", Request)) == 1


def test_what_no_worker_can_do_is_refused_with_what_they_have() -> None:
    farm = (
        Farm()
        .worker("w1", 1, offer("hash.search", k="18-32", devices="cpu"), memory=1 << 30)
        .client()
    )

    ask(farm, 1, kernel="chia.pos1")
    ask(farm, 2, sizes=(("k", 33),))
    ask(farm, 3, device="gpu")
    ask(farm, 4, version=2)
    ask(farm, 5, memory=2 << 30)

    reasons = [reply.reason for reply in farm.told("c1", Reply)]
    expected = ("no kernel chia.pos1", "k from 18 to 32", "computes on cpu", "version 1", "this one needs 2.0 GiB")
    assert len(reasons) == 5
    for reason, words in zip(reasons, expected, strict=True):
        assert words in reason
        assert reason.startswith("no worker can do this: w1 ")


def test_what_came_before_the_workers_had_time_to_come_is_refused_when_they_had() -> None:
    farm = Farm(settled=False).worker("w1", 1, offer()).client()
    ask(farm, 1, kernel="chia.pos1", budget_s=60.0)
    assert farm.told("c1", Reply) == []

    farm.alive("w1", "c1").at(farm.now + 3.0)
    farm.alive("w1", "c1").at(farm.now + 3.1)

    (reply,) = farm.told("c1", Reply)
    assert (reply.status, reply.attempts) == ("error", 0)
    assert "no worker can do this: w1 has no kernel chia.pos1" in reply.reason
    assert farm.manager.status(farm.now).requests == 0


def test_jobs_that_do_not_fit_together_run_one_after_the_other() -> None:
    farm = farm_of("w1", slots=4, memory=9 << 30)

    for number in range(3):
        ask(farm, number, memory=3 << 30)
    ask(farm, 9, memory=1 << 30)

    assert [request.memory >> 30 for request in farm.told("w1", Request)] == [3, 3, 1]


def test_a_client_that_asks_for_too_much_is_told_so_and_others_are_served() -> None:
    farm = farm_of("w1")
    farm.client("c2")
    for number in range(volatile.QUEUED_EACH + 1):
        ask(farm, number)
    (busy,) = farm.told("c1", Reply)
    assert (busy.number, busy.status) == (volatile.QUEUED_EACH, "busy")

    ask(farm, 1, client="c2")
    (request,) = farm.told("w1", Request)
    answer(farm, "w1", request)
    served = farm.told("w1", Request)
    answer(farm, "w1", served[0])
    bodies = [request.body for request in (served + farm.told("w1", Request))]
    assert b"body c2 1" in bodies, "clients take turns"


def test_what_a_client_asked_is_dropped_when_it_has_gone() -> None:
    farm = farm_of("w1")
    ask(farm, 1)
    (request,) = farm.told("w1", Request)

    for second in range(1, 12):
        farm.at(float(second)).alive("w1")

    assert farm.told("w1", Withdraw)[:1] == [Withdraw((request.number,))]


def test_short_requests_are_sent_ahead_of_the_slots() -> None:
    farm = farm_of("w1")
    ask(farm, 1)
    (request,) = farm.told("w1", Request)
    farm.now += 0.001
    answer(farm, "w1", request)

    ask(farm, 2)
    ask(farm, 3)
    ask(farm, 4)

    assert len(farm.told("w1", Request)) == 2


def test_status_tells_how_each_worker_does() -> None:
    farm = farm_of("w1")
    for number in range(4):
        ask(farm, number)
        (request,) = farm.told("w1", Request)
        farm.now += 0.1
        answer(farm, "w1", request, device="cpu")
    ask(farm, 9)
    farm.now += 0.25

    (server,) = farm.manager.status(farm.now).servers
    assert (server.served, server.failed, server.pending, server.device) == (4, 0, 1, "cpu")
    assert (round(server.p50_ms), round(server.p99_ms), round(server.oldest_s, 2)) == (100, 100, 0.25)
