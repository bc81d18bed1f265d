"""The core in a hostile world: whatever happens first, once it stops every task ends, and its outputs are taken once."""

from __future__ import annotations

import pytest

from .world import World

SEEDS = 500
BLOCKS = 20


@pytest.mark.parametrize("block", range(BLOCKS))
def test_every_promise_holds_whatever_happens(block: int) -> None:
    for seed in range(block * SEEDS // BLOCKS, (block + 1) * SEEDS // BLOCKS):
        try:
            World(seed).run()
        except AssertionError as error:
            pytest.fail(f"seed {seed}: {error}\n  python -m tests.simulation --seed {seed} --trace --shrink")
