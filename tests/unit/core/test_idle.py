"""Many free workers kept in order are chosen from as if all were compared."""

from __future__ import annotations

import random

import pytest

from computefarm.core import dispatch, idle, placement
from computefarm.core.idle import Idle
from computefarm.core.placement import choose
from computefarm.messages import Declined, Finished, Goodbye, Run
from computefarm.testing.farm import Farm, success
from computefarm.testing.invariants import check


def crowd(rng: random.Random, count: int) -> Farm:
    farm = Farm().client()
    for n in range(count):
        farm.worker(
            f"w{n}",
            slots=rng.choice([1, 2, 4]),
            tier=rng.choice([0, 0, 1]),
            weight=rng.choice([0.5, 1, 2, 3]),
        )
        if rng.random() < 0.5:
            limit = rng.choice([None, None, 1.0])
            farm.load(f"host-w{n}", rng.random() * 1.5, interval_s=1e6, max_load=limit)
    return farm


@pytest.mark.parametrize("seed", range(5))
def test_the_choice_is_the_one_of_comparing_all(seed: int) -> None:
    rng = random.Random(seed)
    farm = crowd(rng, 100)
    chosen: list[tuple[object, object]] = []
    indexed = Idle.choose

    def compared(self: Idle, task, now):  # type: ignore[no-untyped-def]
        able = [worker for name, worker in self._free.items() if name in self._queue.able]
        expected = choose(self._queue.need, able, now)
        found = indexed(self, task, now)
        chosen.append((expected and expected.name, found and found.name))
        return found

    runs: list[tuple[str, Run]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Idle, "choose", compared)
        for number in range(300):
            farm.at(number * 0.01).submit(number)
            for to, message in farm.sent:
                if isinstance(message, Run):
                    runs.append((to, message))
            farm.sent.clear()
            if runs and rng.random() < 0.6:
                to, run = runs.pop(rng.randrange(len(runs)))
                farm.say(to, Finished(run.key, run.attempt, success(run_s=5.0), run.epoch))
            if rng.random() < 0.2:
                farm.load(f"host-w{rng.randrange(100)}", rng.random(), interval_s=1e6)
    check(farm.manager)
    assert len(chosen) > 100
    assert [expected for expected, _ in chosen] == [found for _, found in chosen]


def test_what_a_task_costs_does_not_grow_with_the_free_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in ranks, not in seconds."""
    ranked = 0

    def counted(*arguments):  # type: ignore[no-untyped-def]
        nonlocal ranked
        ranked += 1
        return placement.rank(*arguments)

    monkeypatch.setattr(idle, "rank", counted)
    costs = []
    for count in (100, 400):
        farm = crowd(random.Random(1), count).submit(1)
        ranked = 0
        for number in range(2, 42):
            farm.submit(number)
        costs.append(ranked / 40)

    assert costs[1] < costs[0] * 1.5 < 15


def test_a_worker_that_declined_it_is_passed_over() -> None:
    farm = Farm().client()
    for n in range(dispatch.MANY + 10):
        farm.worker(f"w{n:02}", tier=0 if n < 2 else 1)
    farm.submit(1)
    run = farm.run("w00")

    farm.say("w00", Declined(run.key, run.attempt, "no room"))

    assert farm.run("w01").attempt == 2


def test_a_worker_that_comes_again_with_a_worse_rank_than_its_former_self_is_found() -> None:
    farm = Farm().client()
    for n in range(dispatch.MANY + 10):
        farm.worker(f"w{n:02}", tier=min(n, 1))
    farm.submit(1)
    assert farm.run("w00").name == "t1"

    farm.say("w00", Goodbye()).worker("w00", boot="another", tier=0, weight=0.5)

    assert farm.submit(2).run("w00").name == "t2"
