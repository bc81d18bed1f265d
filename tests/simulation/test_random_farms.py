"""The core in a hostile world: whatever happens first, once it stops every task ends, and exactly once."""

from __future__ import annotations

import pytest

from .world import World

SEEDS = 200
HEALED_BY_S = 300.0


@pytest.mark.parametrize("block", range(10))
def test_every_task_ends_once_whatever_happens(block: int) -> None:
    for seed in range(block * SEEDS // 10, (block + 1) * SEEDS // 10):
        world = World(seed)

        assert world.live(HEALED_BY_S), f"seed {seed}: {world.story()}"


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_left_when_the_clients_have_left(seed: int) -> None:
    world = World(seed)
    assert world.live(HEALED_BY_S), f"seed {seed}: {world.story()}"

    world.say_goodbye()

    assert world.leftovers() == [], f"seed {seed}"


@pytest.mark.slow
@pytest.mark.parametrize("block", range(100))
def test_many_more_seeds(block: int) -> None:
    for seed in range(10_000 + block * 100, 10_000 + (block + 1) * 100):
        world = World(seed, workers=4, clients=3, tasks=20)

        assert world.live(HEALED_BY_S), f"seed {seed}: {world.story()}"
