from __future__ import annotations

from computefarm.backends.base import Held
from computefarm.majordomo.patience import Patience, nothing_offers
from computefarm.messages import Need, Obstacle

NEED = Need("gcc", ">=99")
REASONS = (Obstacle("worker", "w1", "gcc 12.2.0"),)


def held(
    task: int = 1, *, offered: bool = False, ever: bool = False, obstacles: tuple[Obstacle, ...] = REASONS
) -> Held:
    return Held((task,), NEED, obstacles, offered, ever)


def over(patience: Patience, now: float) -> list[int]:
    return [task for task, _ in patience.expired(now)]


def test_never_offered_ends_after_the_grace() -> None:
    patience = Patience(None, grace=3)
    patience.settled(True, 100)

    assert patience.hold(held(), 100) == ""
    assert patience.next_deadline() == 103
    assert over(patience, 102.9) == []
    assert over(patience, 103) == [1]
    assert patience.next_deadline() is None


def test_the_grace_counts_from_when_workers_had_their_chance() -> None:
    patience = Patience(None, grace=3)
    patience.hold(held(), 100)
    assert patience.next_deadline() is None

    patience.settled(False, 105)
    assert patience.next_deadline() is None
    patience.settled(True, 110)

    assert patience.next_deadline() == 113


def test_vanished_is_waited_for_and_said_once() -> None:
    patience = Patience(None, vanished_s=60, grace=3)
    patience.settled(True, 0)

    assert "waiting for up to 60 s" in patience.hold(held(ever=True), 10)
    assert patience.hold(held(ever=True), 20) == ""
    assert over(patience, 69) == []
    assert over(patience, 70) == [1]


def test_asked_for_patience_holds_for_what_was_never_there_too() -> None:
    patience = Patience(600, grace=3)

    assert "waiting for up to 600 s" in patience.hold(held(), 0)
    assert over(patience, 599) == []
    assert over(patience, 600) == [1]


def test_busy_or_over_is_no_reason_to_give_up() -> None:
    patience = Patience(None, grace=3)
    patience.settled(True, 0)
    patience.hold(held(1), 0)
    patience.hold(held(2), 0)
    patience.hold(held(1, offered=True), 1)
    patience.hold(held(2, obstacles=()), 1)

    assert patience.next_deadline() is None
    assert over(patience, 1e9) == []


def test_the_text_names_what_each_worker_has() -> None:
    assert nothing_offers(NEED, REASONS) == "no worker offers gcc>=99 (w1: gcc 12.2.0)"
    many = [Obstacle("worker", f"w{i}", "no") for i in range(9)]
    assert "and 4 more" in nothing_offers(NEED, many)
