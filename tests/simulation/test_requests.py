"""Requests in a hostile world: each is answered once, or its time is over; success is right and in time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from computefarm.core.volatile import Volatile

from .audit import Violation
from .requests import RequestWorld

SEEDS = 120
BLOCKS = 6


@pytest.mark.parametrize("block", range(BLOCKS))
def test_requests_are_answered_once_and_in_time_whatever_happens(block: int) -> None:
    for seed in range(block * SEEDS // BLOCKS, (block + 1) * SEEDS // BLOCKS):
        try:
            RequestWorld(seed).run()
        except AssertionError as error:
            pytest.fail(f"seed {seed}: {error}\n  RequestWorld({seed}, trace=True)")


def test_what_these_worlds_are_for_does_happen_in_them() -> None:
    heard: Counter[str] = Counter()
    for seed in range(12):
        world = RequestWorld(seed)
        world.run()
        for asker in world.askers:
            heard.update(asker.heard)
    assert heard.keys() >= {"ok", "no_proof", "deadline", "error", "busy", "silence"}, heard


def forget(self: Volatile, server: Any, trouble: str, now: float) -> None:
    """Forget what a lost worker had in hand."""
    server.pending = {}


def answer_one(real: Callable[..., None]) -> Callable[..., None]:
    """Answer only the first of several askers."""

    def answer(self: Volatile, ticket: Any, reply: Any, server: Any, now: float) -> None:
        ticket.askers[1:] = []
        real(self, ticket, reply, server, now)

    return answer


def never_late(self: Volatile, ticket: Any, now: float) -> None:
    """Never tell anybody that it is too late."""


BUGS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "lost with its worker": ("_lost", lambda real: forget),
    "told to one of many": ("_answer", answer_one),
    "silence after the deadline": ("_late", lambda real: never_late),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, change = BUGS[bug]
    monkeypatch.setattr(Volatile, name, change(getattr(Volatile, name)))

    for seed in range(40):
        try:
            RequestWorld(seed).run()
        except Violation:
            return
    pytest.fail("40 worlds in which nobody noticed")
