"""The manager's clock, as another machine knows it."""

from __future__ import annotations

import pytest

from computefarm.services.clock import AGAIN_S, FIRST, SAMPLES, FarmClock


class World:
    """A machine whose wall clock is wrong, and a manager whose clock is right."""

    def __init__(self) -> None:
        self.mono = 100.0
        self.wall = 5000.0
        self.manager = 8600.0
        self.clock = FarmClock(lambda: self.mono, lambda: self.wall)

    def pass_(self, seconds: float) -> None:
        self.mono += seconds
        self.wall += seconds
        self.manager += seconds

    def ask(self, there_s: float, back_s: float) -> None:
        asked = self.clock.question()
        assert asked is not None
        self.pass_(there_s)
        at = self.manager
        self.pass_(back_s)
        self.clock.answered(asked, at)


def test_until_the_manager_has_told_it_is_this_machines_own() -> None:
    world = World()
    assert (world.clock.now(), world.clock.measured_s(), world.clock.offset_s()) == (5000.0, None, 0.0)
    assert world.clock.question() is None  # nobody is there to be asked


def test_the_quickest_answer_is_believed() -> None:
    world = World()
    world.clock.connected()
    world.ask(0.5, 0.001)
    assert world.clock.offset_s() == pytest.approx(3600 + 0.2495)
    world.pass_(10)
    world.ask(0.001, 0.001)
    assert world.clock.offset_s() == pytest.approx(3600)
    world.pass_(10)
    world.ask(0.001, 0.3)
    assert world.clock.measured_s() == pytest.approx(-3600)
    assert world.clock.now() == pytest.approx(world.manager)


def test_a_wall_clock_that_jumps_moves_no_line() -> None:
    world = World()
    world.clock.connected()
    world.ask(0.001, 0.001)
    world.wall -= 86_400
    assert world.clock.now() == pytest.approx(world.manager)
    assert world.clock.offset_s() == pytest.approx(3600 + 86_400)


def test_a_manager_whose_clock_was_set_is_believed_after_a_while() -> None:
    world = World()
    world.clock.connected()
    world.ask(0.001, 0.001)
    world.manager += 60
    for _ in range(SAMPLES):
        world.pass_(AGAIN_S)
        world.ask(0.002, 0.002)
    assert world.clock.now() == pytest.approx(world.manager)


def test_it_asks_a_few_times_soon_and_then_seldom() -> None:
    world = World()
    world.clock.connected()
    asked = 0
    for _ in range(6000):
        asked += world.clock.question() is not None
        world.pass_(0.01)
    assert asked == FIRST + 1
    world.clock.disconnected()
    world.pass_(1000)
    assert world.clock.question() is None
    assert world.clock.due_s() is None


def test_an_answer_to_nothing_that_was_asked_tells_nothing() -> None:
    world = World()
    world.clock.answered(world.mono + 5, 1.0)
    world.clock.answered(world.mono - 1000, 1.0)
    assert not world.clock.known
