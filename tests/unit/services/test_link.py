"""What a process says to its manager, and when it leaves."""

from __future__ import annotations

from typing import Any, cast

from computefarm.codec import decode_to_manager
from computefarm.messages import Heartbeat, Taken, ToManager
from computefarm.services.link import LATER_S, Link
from computefarm.services.loop import Loop
from computefarm.transport.peer_end import PeerEnd


class Clock:
    """Stands still unless it is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class FakeEnd:
    """A connection that is up and takes everything."""

    up = True

    def __init__(self) -> None:
        self.heard: list[list[ToManager]] = []

    def sockets(self) -> list[Any]:
        return []

    def events(self) -> list[Any]:
        return []

    def receive(self) -> list[Any]:
        return []

    def send(self, body: bytes, _data: object = None) -> bool:
        self.heard.append(decode_to_manager(body))
        return True

    def close(self, *, last_words: bool = False) -> None: ...


def connected() -> tuple[Link, FakeEnd, Clock]:
    end, clock = FakeEnd(), Clock()
    nothing: Any = lambda *_: None  # noqa: E731
    link = Link(
        role="client", host="h", hostname="h", control=cast(PeerEnd, end),
        bulk=None, up=nothing, message=nothing, down=nothing,
    )  # fmt: skip
    link.attach(Loop(clock))
    return link, end, clock


TAKEN = Taken("s", (1,))


def test_what_nobody_waits_for_travels_with_the_next_word() -> None:
    link, end, _ = connected()
    link.say_later(TAKEN)
    link.flush()
    assert end.heard == []
    link.say(Heartbeat())
    link.flush()
    assert end.heard == [[TAKEN, Heartbeat()]]
    assert link.next_deadline() is None


def test_what_nobody_waits_for_is_said_in_a_moment() -> None:
    link, end, clock = connected()
    link.say_later(TAKEN)
    clock.now += LATER_S / 2
    link.say_later(TAKEN)
    link.flush()
    assert link.next_deadline() == 100.0 + LATER_S
    assert end.heard == []
    clock.now = 100.0 + LATER_S
    link.flush()
    assert end.heard == [[TAKEN, TAKEN]]


def test_the_last_words_are_said_whatever_they_are() -> None:
    link, end, _ = connected()
    link.say_later(TAKEN)
    link.close()
    assert end.heard == [[TAKEN]]
