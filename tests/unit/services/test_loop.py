from __future__ import annotations

import pytest

from computefarm.services.loop import LATE_S, Loop


class Clock:
    """Stands still unless it is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Beat:
    """A service that is due at once, and works for as long as it is told to."""

    def __init__(self, clock: Clock, works_s: float = 0.0) -> None:
        self.clock = clock
        self.works_s = works_s
        self.ticked: list[float] = []

    def attach(self, loop: Loop) -> None: ...

    def tick(self, now: float) -> None:
        self.ticked.append(now)
        self.clock.now += self.works_s

    def next_deadline(self) -> float | None:
        return 0.0

    def pace(self) -> float:
        return 0.0

    def flush(self) -> None: ...

    def close(self) -> None: ...


def test_the_time_in_which_the_process_did_not_run_is_left_out() -> None:
    clock = Clock()
    loop = Loop(clock)
    loop.add(beat := Beat(clock))
    loop.turn()
    clock.now += 0.5
    loop.turn()
    assert beat.ticked == pytest.approx([100.0, 100.5])

    clock.now += 60.0
    assert loop.clock() == pytest.approx(100.5 + LATE_S)
    loop.turn()
    clock.now += 0.25
    loop.turn()
    assert beat.ticked[2:] == pytest.approx([100.5 + LATE_S, 100.75 + LATE_S])


def test_the_clock_never_goes_back() -> None:
    clock = Clock()
    loop = Loop(clock)
    loop.add(beat := Beat(clock, works_s=3.0))
    seen = []
    for _ in range(5):
        loop.turn()
        seen.append(loop.clock())
        clock.now += 0.7
        seen.append(loop.clock())

    assert seen == sorted(seen)
    assert beat.ticked == sorted(beat.ticked)


class Running:
    """A clock that a microsecond passes by at each look."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        self.now += 1e-6
        return self.now


class Now(Beat):
    """A service whose deadline is whenever it is asked."""

    def attach(self, loop: Loop) -> None:
        self.loop = loop

    def next_deadline(self) -> float | None:
        return self.loop.clock()


def test_who_is_due_now_is_served_now() -> None:
    loop = Loop(Running())
    loop.add(service := Now(Clock()))

    loop.turn()

    assert len(service.ticked) == 1
