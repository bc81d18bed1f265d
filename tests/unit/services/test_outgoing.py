"""Who is told first, and when what was held back is told."""

from __future__ import annotations

from typing import Any, cast

from computefarm.messages import PROTOCOL, Accepted, Heartbeat, Hello
from computefarm.services.outgoing import Outgoing
from computefarm.services.peers import PLACED_S, Peer
from computefarm.transport.manager_end import ManagerEnd


class FakeEnd:
    """Takes everything."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, route: bytes, _body: bytes) -> bool:
        self.sent.append(route)
        return True


def peer(role: str) -> Peer:
    made = Peer(f"{role}-1", "key", role, Hello(PROTOCOL, "1", role, "boot"))
    made.control = role.encode()
    return made


def outgoing(end: FakeEnd, now: list[float]) -> Outgoing:
    def choked(_peer: Any) -> None:
        raise AssertionError

    return Outgoing(cast(ManagerEnd, end), clock=lambda: now[0], choked=choked)


def test_workers_are_told_first() -> None:
    end, now = FakeEnd(), [5.0]
    it = outgoing(end, now)
    for one in (peer("client"), peer("worker"), peer("viewer")):
        it.say(one, Heartbeat())
    it.flush()
    assert end.sent == [b"worker", b"client", b"viewer"]


def test_what_was_held_back_is_told_when_it_is_due() -> None:
    end, now = FakeEnd(), [5.0]
    it = outgoing(end, now)
    it.say(peer("client"), Accepted("s", (1,)))
    it.flush()
    assert end.sent == []
    assert it.deadline() == 5.0 + PLACED_S
    now[0] = it.deadline()
    it.flush()
    assert end.sent == [b"client"]
    assert it.deadline() == float("inf")
