"""How much is sent ahead follows what a line needs."""

from __future__ import annotations

import pytest

from computefarm.core.ahead import CREDIT, LINE_CREDIT, PROOFS
from computefarm.messages import Begun, Run
from computefarm.testing.farm import Farm, spec, success
from computefarm.testing.invariants import check


def at_the_end_of(line_s: float, run_s: float, proofs: int = PROOFS) -> Farm:
    """Return a farm whose worker has ended some tasks, over a line that takes so long both ways together."""
    farm = Farm().client().worker()
    for number in range(1, proofs + 1):
        farm.submit(spec(number, kind="k"))
        run = farm.run()
        if number == proofs:
            farm.submit(*[spec(number, kind="k") for number in range(100, 400)])
        farm.alive("w1", "c1").at(farm.now + line_s + run_s).finish(run, success(run_s=run_s))
    return farm


@pytest.mark.parametrize(
    ("line_s", "run_s", "ahead"),
    [
        (0.0, 0.02, 1),
        (0.004, 0.02, 1),
        (0.4, 0.02, 21),
        (0.4, 0.2, 2),
        (0.4, 0.5, 0),
        (0.01, 0.06, 0),
        (5.0, 0.5, 2),
        (5.0, 0.001, int(CREDIT + LINE_CREDIT)),
    ],
)
def test_enough_is_on_its_way_to_keep_a_worker_busy(line_s: float, run_s: float, ahead: int) -> None:
    farm = at_the_end_of(line_s, run_s)

    assert len(farm.told("w1", Run)) == 1 + ahead
    check(farm.manager)


def test_a_few_slow_attempts_do_not_make_a_line_long() -> None:
    farm = at_the_end_of(0.4, 0.1, proofs=PROOFS - 1)

    assert len(farm.told("w1", Run)) == 1


def test_one_quick_attempt_shows_that_a_line_is_short() -> None:
    farm = at_the_end_of(0.4, 0.1)
    in_hand = farm.told("w1", Run)
    assert len(in_hand) > 1
    worker = farm.manager._tables.workers["w1"]

    for run in in_hand:
        farm.finish(run, success(run_s=0.1))

    assert worker.line_s == 0.0


def test_what_waited_at_the_worker_says_nothing_about_the_line() -> None:
    farm = at_the_end_of(0.0, 0.02)
    first, ahead, *_ = farm.told("w1", Run)
    farm.alive("w1", "c1").at(farm.now + 3.0).finish(first, success(run_s=3.0))
    farm.say("w1", Begun(ahead.key, ahead.attempt)).at(farm.now + 0.02)
    before = farm.manager._tables.workers["w1"].line_s

    farm.finish(ahead, success(run_s=0.02))

    assert farm.manager._tables.workers["w1"].line_s == before
