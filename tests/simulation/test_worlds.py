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


def test_what_the_worlds_are_for_does_happen_in_them() -> None:
    wanted = {
        "connects again",
        "hears Accepted",
        "entries are lost",
        "freezes for",
        "quits:  drained",
        "was restarted",
        "cached=True",
        "deadline passed",
        "out-of-memory",
        "the journal is gone",
        "quarantin",
        "no space left",
        "nothing new is accepted",
        "lost with 3",
        "cancelled=1",
    }
    for seed in range(100):
        world = World(seed, trace=True)
        world.run()
        story = "\n".join(world.trace or ())
        wanted = {words for words in wanted if words not in story}
        if not wanted:
            break

    assert not wanted
