"""Other managers that requests are passed on to: what the core does with them, and for them."""

from __future__ import annotations

from computefarm.core.commands import Gone
from computefarm.core.volatile_servers import BEHIND, DEVICES, MANAGER, PASSED_ON, REQUESTS
from computefarm.messages import Need, Offer, Reply, Request, Run, Withdraw
from computefarm.testing.farm import Farm, spec

from .test_volatile import answer, ask, farm_of, given, offer


def upstream(manager: str = "b", **tags: str) -> Offer:
    """Return what an upstream is entered with."""
    about = {MANAGER: manager, BEHIND: "", DEVICES: "cpu", "kernel:hash.search": "1", **tags}
    return Offer(REQUESTS, "1.0", tags=tuple(about.items()))


def test_an_upstream_gets_requests_ahead_and_no_tasks() -> None:
    farm = Farm().worker("up", 2, upstream()).client()

    for number in range(6):
        ask(farm, number)
    farm.submit(spec(1), need=Need("recompute"))

    assert len(farm.told("up", Request)) == 4
    assert farm.told("up", Run) == []
    (shown,) = farm.manager.status(farm.now).servers
    assert (shown.upstream, shown.slots, shown.state) == (True, 2, "up")


def test_own_workers_and_upstreams_share_and_the_answer_names_the_way() -> None:
    farm = Farm().worker("w1", 1, offer()).worker("up", 1, upstream()).client()
    ask(farm, 1)
    ask(farm, 2)
    got = given(farm, "w1", "up")
    assert [len(those) for those in got.values()] == [1, 1]

    number = got["up"][0].number
    farm.say("up", Reply(number, "ok", worker="w9", hostname="far", attempts=2))
    (reply,) = farm.told("c1", Reply)
    assert (reply.worker, reply.hostname, reply.attempts) == ("up/w9", "far", 2)


def test_what_a_held_upstream_had_waits_for_it_or_goes_to_others() -> None:
    farm = Farm().worker("up", 1, upstream()).client()
    ask(farm, 1)
    (request,) = farm.told("up", Request)

    farm.worker("up", 1, upstream(), held="the connection ended")
    answer(farm, "up", request, "error", reason="the connection ended")
    assert farm.told("c1", Reply) == []
    (shown,) = farm.manager.status(farm.now).servers
    assert (shown.state, shown.reason) == ("down", "the connection ended")

    farm.worker("up", 1, upstream())
    (again,) = farm.told("up", Request)
    assert again.attempt == 2


def test_a_request_that_waits_for_a_held_upstream_says_so_in_the_end() -> None:
    farm = Farm().worker("up", 1, Offer(REQUESTS, tags=((MANAGER, "b"), (BEHIND, ""))), held="unreachable")
    farm.client()
    ask(farm, 1, budget_s=1.0)

    farm.at(1.5)

    (reply,) = farm.told("c1", Reply)
    assert reply.status == "deadline"
    assert "up: unreachable" in reply.reason


def test_a_request_is_not_sent_back_where_it_came_from_and_not_for_ever() -> None:
    farm = Farm().worker("up", 1, upstream("b")).client()

    ask(farm, 1, path=("a", "b"))
    ask(farm, 2, path=tuple("cdefghijk"[:PASSED_ON]))
    ask(farm, 3, path=("a",))

    assert [request.path for request in farm.told("up", Request)] == [("a",)]
    reasons = [reply.reason for reply in farm.told("c1", Reply)]
    assert "has passed this request on itself" in reasons[0]
    assert "one manager too many" in reasons[1]


def test_equal_requests_that_came_another_way_are_not_merged_where_they_are_passed_on() -> None:
    for name, passes_on, times in (("up", upstream(), 2), ("w1", offer(), 1)):
        farm = Farm().worker(name, 2, passes_on).client().client("c2")
        ask(farm, 1, body=b"same")
        ask(farm, 1, client="c2", body=b"same", path=("a",))
        assert len(farm.told(name, Request)) == times


def test_a_manager_without_workers_sends_back_what_was_passed_on_and_keeps_the_rest() -> None:
    farm = farm_of("w1")
    farm.client("proxy")
    ask(farm, 1, client="proxy", path=("p",), others=True)
    ask(farm, 2, client="proxy", path=("p",), others=True)
    ask(farm, 3)
    (request,) = farm.told("w1", Request)
    assert request.path == ("p",)

    farm.learn(Gone("w1"))
    back = farm.told("proxy", Reply)
    assert sorted((reply.number, reply.status) for reply in back) == [(1, "busy"), (2, "busy")]
    ask(farm, 4, client="proxy", path=("p",), others=True)
    assert [reply.status for reply in farm.told("proxy", Reply)] == ["busy"]
    assert farm.told("c1", Reply) == [], "the farm's own client waits for a worker to come back"

    farm.worker("w1", 1, offer())
    (kept,) = farm.told("w1", Request)
    answer(farm, "w1", kept)
    assert [reply.number for reply in farm.told("c1", Reply)] == [3]


def test_a_merged_request_is_sent_back_to_the_manager_and_kept_for_the_client() -> None:
    farm = farm_of("w1")
    farm.client("proxy")
    ask(farm, 1, body=b"same", client="proxy", path=("p",), others=True)
    ask(farm, 2, body=b"same")
    farm.learn(Gone("w1"))
    assert [reply.status for reply in farm.told("proxy", Reply)] == ["busy"]

    farm.worker("w1", 1, offer())
    assert farm.told("w1", Request)[-1:] != []
    farm.say("proxy", Withdraw((1,)))
    assert farm.told("w1", Withdraw) == []
