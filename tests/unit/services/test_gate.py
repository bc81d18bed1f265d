from __future__ import annotations

from typing import Any

import pytest

from computefarm.codec import MAX_FRAME, decode_to_manager
from computefarm.messages import (
    Ask,
    Attempt,
    Cancel,
    Done,
    Fetch,
    FileEntry,
    Finished,
    Heartbeat,
    Outcome,
    Output,
    Piece,
    Result,
    Submit,
    TaskOutput,
)
from computefarm.services.gate import BURST_S, Gate
from computefarm.services.link import _batches
from computefarm.services.peers import _frames
from computefarm.transport.authorized import Authorization
from computefarm.transport.connection import Incoming

KEY = "k" * 40


class End:
    """Remembers who was refused and barred."""

    def __init__(self) -> None:
        self.refused: list[str] = []
        self.barred: dict[str, float] = {}

    def refuse(self, _route: bytes, reason: str) -> None:
        self.refused.append(reason)

    def bar(self, key: str, until: float) -> int:
        self.barred[key] = until
        return 1


class Core:
    """Gave attempt 2 of task 7 to `worker-1`, attempt 1 to `worker-2`."""

    def holds(self, peer: str, key: int, attempt: int) -> bool:
        return (peer, key, attempt) == ("worker-1", 7, 2)

    def was_given(self, peer: str, key: int, attempt: int) -> bool:
        return key != 7 or (peer, attempt) in (("worker-1", 2), ("worker-2", 1))


def gate() -> tuple[Gate, End]:
    end: Any = End()
    core: Any = Core()
    return Gate(end, core, lambda: 1000.0), end


def incoming(role: str = "worker") -> Incoming:
    return Incoming(b"route", Authorization(role, "evil", KEY), b"")


@pytest.mark.parametrize(
    ("key", "said", "role", "message", "fault"),
    [
        ("client", "client", "client", Ask(1, "status"), ""), ("viewer", "viewer", "viewer", Ask(1, "status"), ""),
        ("viewer", "viewer", "viewer", Cancel("s"), "a viewer may not send Cancel"),
        ("viewer", "viewer", "viewer", Fetch(()), "a viewer may not send Fetch"),
        ("worker", "worker", "worker", Cancel("s"), "a worker may not send Cancel"),
        ("client", "client", "client", Finished(1, 1, Result(Outcome.SUCCEEDED)), "a client may not send Finished"),
        ("admin", "client", "admin", Submit("s", (), ()), ""), ("admin", "client", "admin", Cancel("s"), ""),
        ("viewer", "client", "client", Heartbeat(), "this key is a viewer's and may not act as client"),
        ("revoked:client", "client", "client", Heartbeat(), "this key is a revoked:client's and may not act as client"),
    ],
)  # fmt: skip
def test_every_message_is_judged_by_what_the_table_says_now(
    key: str, said: str, role: str, message: Any, fault: str
) -> None:
    judge, _ = gate()
    assert judge.may_not(Authorization(key, "x", KEY), said, role, message) == fault


def test_an_admin_s_client_is_an_admin() -> None:
    assert Gate.role_of(Authorization("admin", "x"), "client") == "admin"
    assert Gate.role_of(Authorization("admin", "x"), "viewer") == "viewer"
    assert Gate.role_of(Authorization("client", "x"), "client") == "client"


@pytest.mark.parametrize(
    ("peer", "attempt", "idle", "refused"),
    [("worker-1", 2, False, False), ("worker-2", 1, True, False), ("worker-3", 2, True, True), ("worker-1", 3, True, True)],
)  # fmt: skip
def test_whose_attempt_it_is(peer: str, attempt: int, idle: bool, refused: bool) -> None:
    judge, end = gate()
    for message in (Output(7, attempt, ()), Finished(7, attempt, Result(Outcome.FAILED))):
        assert judge.idle(incoming(), peer, message, "epoch") is idle
    assert len(end.refused) == (2 if refused else 0)


def test_who_takes_too_much_of_the_manager_s_time_is_thrown_out() -> None:
    judge, end = gate()
    for second in range(100):
        judge.spend(incoming(), 0.04, float(second))  # less than a twentieth
    assert end.barred == {}
    judge.spend(incoming(), BURST_S + 0.01, 100.0)
    assert end.barred == {KEY: 1010.0}
    assert "flooded" in end.refused[0]
    judge.spend(incoming(), 0.1, 111.0)
    assert end.barred == {KEY: 1010.0}, "it starts anew"


def test_a_result_that_no_frame_holds_is_told_as_a_failure() -> None:
    outputs = tuple(FileEntry(f"{'x' * 100}{n}", b"d" * 32, 1) for n in range(40_000))
    frames = _batches([Heartbeat(), Finished(7, 2, Result(Outcome.SUCCEEDED, outputs=outputs)), Heartbeat()])
    assert max(map(len, frames)) <= MAX_FRAME
    [told] = [one for frame in frames for one in decode_to_manager(frame) if isinstance(one, Finished)]
    assert told.result.outcome is Outcome.FAILED
    assert "40,000 files" in told.result.reason
    assert "tar" in told.result.reason


def test_output_that_no_frame_holds_is_told_in_parts() -> None:
    pieces = tuple(Piece(1, 0.0, "\N{SKULL AND CROSSBONES}" * 20_000, n) for n in range(200))
    frames = _batches([Output(7, 2, pieces)])
    assert max(map(len, frames)) <= MAX_FRAME
    said = [one for frame in frames for one in decode_to_manager(frame)]
    assert [piece for one in said if isinstance(one, Output) for piece in one.pieces] == list(pieces)


def test_what_a_peer_made_too_large_does_not_stop_the_manager() -> None:
    outputs = tuple(FileEntry(f"{'x' * 100}{n}", b"d" * 32, 1) for n in range(40_000))
    text = "\N{SKULL AND CROSSBONES}" * (MAX_FRAME // 3)
    attempts = (Attempt(1, "w", "h", "failed", text),)
    frames = _frames(
        [
            Done("s", 1, Result(Outcome.SUCCEEDED, outputs=outputs)),
            TaskOutput("s", 1, 1, (Piece(1, 0.0, text),)),
            Done("s", 2, Result(Outcome.FAILED), attempts=attempts),
        ]
    )
    assert frames
    assert max(map(len, frames)) <= MAX_FRAME
