"""The client's loop over connections that the test plays: who is asked, what silence costs, who is asked again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from computefarm.codec import decode_to_manager, encode
from computefarm.messages import (
    AskTime,
    Disconnect,
    FromManager,
    Heartbeat,
    Message,
    Offer,
    Offers,
    Pool,
    Reply,
    Request,
    Time,
    ToManager,
    Welcome,
    Withdraw,
)
from computefarm.recompute.balance import FAILOVERS, Balance, Standing
from computefarm.recompute.calls import Call
from computefarm.recompute.service import GRACE_S, RecomputeService
from computefarm.transport.peer_end import LinkEvent, LinkState

CONNECT_S = 2.0
RETRY_S = 100.0


class PlayedEnd:
    """A connection whose other side is the test."""

    def __init__(self) -> None:
        self.said: list[ToManager] = []
        self.news: list[LinkEvent] = []
        self.coming: list[tuple[bytes, None]] = []
        self.up = False
        self.dialled = 1

    def sockets(self) -> list[PlayedEnd]:
        return [self]

    def events(self) -> list[LinkEvent]:
        news, self.news = self.news, []
        return news

    def receive(self) -> list[tuple[bytes, None]]:
        coming, self.coming = self.coming, []
        return coming

    def send(self, body: bytes, _data: None = None) -> bool:
        self.said += decode_to_manager(body)
        return True

    def reconnect(self) -> None:
        self.dialled += 1
        self.up = False

    def close(self, *, last_words: bool = False) -> None:
        self.up = False


class World:
    """A service, its servers by name, and a clock."""

    def __init__(self, *names: str, max_in_flight: int = 0) -> None:
        self.now = 0.0
        self.watched: dict[Any, Callable[[], None]] = {}
        self.ends = {name: PlayedEnd() for name in names}
        self.standings = [Standing(name) for name in names]
        self.replies: list[Reply] = []
        balance = Balance(self.standings, retry_s=RETRY_S, max_in_flight=max_in_flight)
        self.service = RecomputeService(
            balance,
            list(self.ends.values()),  # type: ignore[arg-type]
            host="h",
            hostname="h",
            connect_s=CONNECT_S,
        )
        self.service.attach(self)  # type: ignore[arg-type]

    # --- what a loop offers ---

    def clock(self) -> float:
        return self.now

    def watch(self, source: Any, callback: Callable[[], None]) -> None:
        self.watched[source] = callback

    def unwatch(self, source: Any) -> None:
        self.watched.pop(source, None)

    # --- what servers do ---

    def event(self, name: str, state: LinkState, text: str = "it ended") -> None:
        end = self.ends[name]
        end.up = state is LinkState.UP
        end.news.append(LinkEvent(state, text))
        self.watched[end]()
        self.service.flush()

    def say(self, name: str, *messages: FromManager) -> None:
        end = self.ends[name]
        end.coming.append((encode(list(messages)), None))
        self.watched[end]()
        self.service.flush()

    def come(self, *names: str, slots: int = 1) -> World:
        """Let servers connect, and offer slots."""
        for name in names:
            self.event(name, LinkState.UP)
            pool = Pool(Offer("recompute"), "linux", slots, ("w",))
            self.say(name, Welcome(1, "1", "farm", "epoch", 2.0, "client-1"), Offers((pool,)))
        return self

    def told(self, name: str, kind: type[Message]) -> list[Any]:
        end = self.ends[name]
        found = [message for message in end.said if isinstance(message, kind)]
        end.said = [message for message in end.said if not isinstance(message, kind)]
        return found

    def answer(self, name: str, request: Request, status: str = "ok", reason: str = "") -> None:
        self.say(name, Reply(request.number, status, reason))

    # --- what the client does ---

    def ask(self, deadline_s: float = 5.0) -> Call:
        call = Call(Request(0, "test", b"", 0.0), deadline_s, self.replies.append)
        self.service.take(call)
        self.service.flush()
        return call

    def at(self, now: float, *alive: str) -> World:
        """Let time pass; servers that are alive say so, and what time it is when they are asked."""
        while (deadline := self.service.next_deadline()) is not None and deadline <= now:
            self.now = max(self.now, deadline)
            self.service.tick(self.now)
            self.service.flush()
            for name in alive:
                if self.ends[name].up and not self.service._servers[name].calls:
                    self.say(name, Heartbeat())
                for asked in self.told(name, AskTime):
                    self.say(name, Time(asked.asked_s, 0.0))
        self.now = now
        return self


@pytest.fixture
def world() -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def make(*names: str, **more: int) -> World:
        made.append(one := World(*names, **more))
        return one

    yield make
    for one in made:
        one.service.close()


def test_a_request_goes_to_one_server_and_its_answer_comes_back(world: Callable[..., World]) -> None:
    farm = world("a", "b").come("a", "b")
    farm.ask()
    (request,) = farm.told("a", Request)
    assert request.budget_s == 5.0

    farm.answer("a", request)
    farm.answer("a", request)

    assert [(reply.status, reply.attempts) for reply in farm.replies] == [("ok", 1)]


def test_after_two_other_servers_a_request_is_given_up(world: Callable[..., World]) -> None:
    farm = world("a", "b", "c", "d").come("a", "b", "c", "d")
    farm.ask()
    for name in "abc":
        (request,) = farm.told(name, Request)
        farm.answer(name, request, "error", f"{name} is broken")

    assert farm.told("d", Request) == []
    (reply,) = farm.replies
    assert (reply.status, reply.attempts) == ("error", 1 + FAILOVERS)
    assert reply.reason == "c is broken"


def test_a_busy_server_is_left_alone_for_a_moment_when_there_are_others(world: Callable[..., World]) -> None:
    farm = world("a", "b").come("a", "b")
    farm.ask()
    (request,) = farm.told("a", Request)
    assert request.others
    farm.answer("a", request, "busy", "no worker answers requests there now")
    (again,) = farm.told("b", Request)
    assert again.others
    farm.answer("b", again)
    farm.ask()
    (second,) = farm.told("b", Request)
    farm.answer("b", second)
    assert [reply.status for reply in farm.replies] == ["ok", "ok"]

    farm.at(1.1)
    farm.ask()
    assert len(farm.told("a", Request)) == 1


def test_the_last_one_that_is_asked_keeps_a_request_until_it_can_do_it(world: Callable[..., World]) -> None:
    farm = world("a", "b").come("a")
    farm.ask()
    for _ in range(FAILOVERS):
        (request,) = farm.told("a", Request)
        assert request.others, "b may come"
        farm.answer("a", request, "busy")
    (last,) = farm.told("a", Request)
    assert not last.others
    assert farm.replies == []


def test_a_server_that_is_not_there_is_passed_over_and_a_single_one_costs_the_connect_timeout_once(
    world: Callable[..., World],
) -> None:
    farm = world("hole", "b").come("b")
    farm.ask()
    assert len(farm.told("b", Request)) == 1, "at once"

    alone = world("hole")
    alone.ask()
    alone.at(CONNECT_S - 0.01)
    assert alone.replies == []
    alone.at(CONNECT_S)
    (reply,) = alone.replies
    assert "hole: no answer within 2000 ms" in reply.reason
    alone.ask()
    assert len(alone.replies) == 2, "the next one waits no more"


def test_a_server_that_falls_silent_costs_its_requests_the_connect_timeout(
    world: Callable[..., World],
) -> None:
    farm = world("a", "b", max_in_flight=4).come("a", "b")
    farm.ask(60.0)
    farm.ask(60.0)
    (first,), (second,) = farm.told("a", Request), farm.told("b", Request)

    farm.at(CONNECT_S - 0.01, "b")
    assert (farm.told("a", Request), farm.told("b", Request)) == ([], [])
    farm.at(CONNECT_S, "b")
    (again,) = farm.told("b", Request)
    assert again.budget_s == 60.0 - CONNECT_S
    assert farm.ends["a"].dialled == 2
    farm.ask()
    assert len(farm.told("b", Request)) == 1
    farm.answer("b", again)
    farm.answer("b", second)
    assert [reply.attempts for reply in farm.replies] == [2, 1]
    assert first.number != again.number


def test_a_server_that_falls_silent_while_nothing_is_asked_costs_nothing(
    world: Callable[..., World],
) -> None:
    farm = world("a", "b").come("a", "b")
    for second in range(1, 12):
        farm.at(float(second))
        farm.say("b", Heartbeat())

    farm.ask()

    assert (len(farm.told("a", Request)), len(farm.told("b", Request))) == (0, 1)
    assert farm.ends["a"].dialled > 1


def test_a_busy_server_that_says_that_it_lives_keeps_its_requests(world: Callable[..., World]) -> None:
    farm = world("a", "b").come("a", "b")
    farm.ask(60.0)
    farm.told("a", Request)

    farm.at(30.0, "a")

    assert farm.told("b", Request) == []
    assert farm.replies == []


def test_a_failed_server_is_asked_again_when_it_is_back_but_not_when_it_fails_again_and_again(
    world: Callable[..., World],
) -> None:
    farm = world("a", "b", max_in_flight=9).come("a", "b")
    for number in (1, 2):
        farm.ask(60.0)
        farm.ask(60.0)
        assert len(farm.told("a", Request)) == 1
        farm.at(farm.now + CONNECT_S + 0.1, "b")
        farm.come("a")
        farm.told("a", Request)
        for request in farm.told("b", Request):
            farm.answer("b", request)
        farm.ask(60.0)
        asked = farm.told("a", Request) != []
        assert asked == (number == 1)
        for name in "ab":
            for call in list(farm.service._servers[name].calls.values()):
                farm.service.withdraw(call)
        farm.told("b", Request)

    farm.at(farm.now + RETRY_S, "a", "b")
    farm.ask()
    farm.ask()
    assert len(farm.told("a", Request)) == 1, "after the retry interval"


def test_a_server_that_stops_for_a_moment_loses_nothing(world: Callable[..., World]) -> None:
    farm = world("a").come("a")
    farm.ask()
    farm.told("a", Request)
    farm.say("a", Disconnect("stopping", "the TaskManager is stopping"))
    farm.event("a", LinkState.DOWN)
    assert farm.replies == []

    farm.at(1.0).come("a")
    (request,) = farm.told("a", Request)
    farm.answer("a", request)

    assert [(reply.status, reply.attempts) for reply in farm.replies] == [("ok", 2)]


def test_without_any_server_the_answer_says_why_of_each(world: Callable[..., World]) -> None:
    farm = world("a", "b")
    farm.event("a", LinkState.UNREACHABLE, "nothing listens there")
    farm.event("b", LinkState.REFUSED, "it does not know this machine's key")

    farm.ask()

    (reply,) = farm.replies
    assert reply.status == "error"
    assert "a: nothing listens there; b: it does not know this machine's key" in reply.reason


def test_what_nobody_waits_for_is_withdrawn(world: Callable[..., World]) -> None:
    farm = world("a", max_in_flight=1).come("a")
    call, waiting = farm.ask(), farm.ask()
    (request,) = farm.told("a", Request)

    farm.service.withdraw(waiting)
    farm.service.withdraw(call)
    farm.service.flush()

    assert farm.told("a", Withdraw) == [Withdraw((request.number,))]
    assert farm.replies == []
    farm.answer("a", request)
    assert farm.replies == []


def test_a_deadline_holds_whoever_has_the_request(world: Callable[..., World]) -> None:
    farm = world("a", max_in_flight=1).come("a")
    farm.ask(1.0)
    farm.ask(0.5)
    (request,) = farm.told("a", Request)

    farm.at(0.5, "a")
    assert [reply.status for reply in farm.replies] == ["deadline"]
    assert "every server was busy" in farm.replies[0].reason
    farm.at(1.0 + GRACE_S, "a")
    assert [reply.status for reply in farm.replies] == ["deadline", "deadline"]
    assert "a has not answered" in farm.replies[1].reason
    assert farm.told("a", Withdraw) == [Withdraw((request.number,))]


def test_the_servers_grant_how_many_are_in_flight(world: Callable[..., World]) -> None:
    farm = world("a", "b").come("a", "b", slots=2)

    for _ in range(20):
        farm.ask()

    assert [len(farm.told(name, Request)) for name in "ab"] == [4, 4]


def test_a_reserve_is_asked_when_the_others_are_full_or_gone(world: Callable[..., World]) -> None:
    farm = world("a", "reserve")
    farm.standings[1].tier = 1
    farm.come("a", "reserve")
    for _ in range(3):
        farm.ask()
    assert [len(farm.told(name, Request)) for name in ("a", "reserve")] == [2, 1]

    farm.event("a", LinkState.DOWN)
    assert len(farm.told("reserve", Request)) == 1, "as many as it grants"
