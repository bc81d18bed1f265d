from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from computefarm.catalogue import Probed
from computefarm.messages import Offer
from computefarm.services import offering as module
from computefarm.services.loop import Loop
from computefarm.services.offering import AGAIN_S, Offering

GCC12, GCC13 = Offer("gcc", "12.2.0", "f12"), Offer("gcc", "13.1.0", "f13")
SHELL = Offer("shell", "1.0")


class Clock:
    """What an `Offering` needs of a loop."""

    now = 100.0

    def clock(self) -> float:
        return self.now


class Later:
    """Does what is submitted when the test says so."""

    work: list[tuple[Callable[[], Any], Callable[[Any, BaseException | None], None]]]

    def __init__(self, name: str) -> None:
        Later.work = []

    def attach(self, loop: Loop) -> None: ...

    def submit(self, work: Callable[[], Any], then: Callable[[Any, BaseException | None], None]) -> None:
        Later.work.append((work, then))

    @staticmethod
    def answer() -> int:
        done, Later.work = Later.work, []
        for work, then in done:
            try:
                value = work()
            except Exception as error:
                then(None, error)
            else:
                then(value, None)
        return len(done)


class Machine:
    """One that offers what is in `has`."""

    def __init__(self) -> None:
        self.has = {"gcc": GCC12, "shell": SHELL}
        self.told: list[tuple[Offer, ...]] = []
        self.heard: list[str] = []
        self.broken: Exception | None = None
        self.loop = Clock()
        self.offering = Offering(self.probe, self.told.append)
        self.offering.attach(cast(Loop, self.loop))
        self.offering.set(self.has.values())

    def probe(self, name: str) -> Probed:
        if self.broken:
            raise self.broken
        offer = self.has.get(name)
        return Probed(name, offer, () if offer else (f"{name}: not found in PATH",))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(module, "Offload", Later)
    return Machine()


def test_a_capability_that_still_holds_stays_offered(machine: Machine) -> None:
    machine.offering.check("gcc", machine.heard.append)
    Later.answer()

    assert machine.heard == [""]
    assert machine.told == []


def test_one_that_is_gone_is_withdrawn_and_comes_back_by_itself(machine: Machine) -> None:
    del machine.has["gcc"]
    machine.offering.check("gcc", machine.heard.append)
    machine.offering.check("gcc", machine.heard.append)
    assert Later.answer() == 1, "one probe answers all who ask meanwhile"

    assert machine.heard == ["gcc is no longer offered: gcc: not found in PATH"] * 2
    assert machine.told == [(SHELL,)]
    machine.offering.check("gcc", machine.heard.append)
    assert machine.heard[2] == "gcc is not offered here any more"

    machine.loop.now += AGAIN_S
    assert machine.offering.next_deadline() == machine.loop.now
    machine.offering.tick(machine.loop.now)
    Later.answer()
    assert machine.told == [(SHELL,)]
    machine.has["gcc"] = GCC12
    machine.loop.now += AGAIN_S
    machine.offering.tick(machine.loop.now)
    Later.answer()
    assert machine.told == [(SHELL,), (SHELL, GCC12)]
    assert machine.offering.next_deadline() is None


def test_one_that_has_changed_is_offered_as_it_is_now(machine: Machine) -> None:
    machine.has["gcc"] = GCC13
    machine.offering.check("gcc", machine.heard.append)
    Later.answer()

    assert machine.heard == ["gcc has changed on this machine: 12.2.0 → 13.1.0"]
    assert machine.told == [(GCC13, SHELL)]


def test_a_probe_that_cannot_be_made_withdraws_too(machine: Machine) -> None:
    machine.broken = OSError("too many open files")
    machine.offering.check("gcc", machine.heard.append)
    Later.answer()

    assert machine.heard == ["gcc is no longer offered: too many open files"]
    assert machine.told == [(SHELL,)]


def test_everything_is_probed_again_on_demand(machine: Machine) -> None:
    del machine.has["gcc"]
    machine.offering.check_all()
    assert Later.answer() == 2
    assert machine.told == [(SHELL,)]
    machine.has["gcc"] = GCC12
    machine.offering.check_all()
    Later.answer()
    assert machine.told[-1] == (SHELL, GCC12)
