"""How many slots are taken, and what may start beside that."""

from __future__ import annotations

import pytest

from computefarm.core.room import Room
from computefarm.messages import Run


def run(cpus: int = 1) -> Run:
    return Run(1, 1, "t", b"", cpus)


@pytest.mark.parametrize(
    ("hand", "orphans", "wants", "fits"),
    [
        ([], [], 1, True),
        ([1, 1, 1], [], 1, True),
        ([1, 1, 1, 1], [], 1, False),
        ([1], [], 2, False),
        ([], [], 9, True),
        ([2], [], 1, False),
        ([], [2], 1, False),
        ([1, 1], [1], 1, True),
        ([1, 1], [1, 1], 1, False),
    ],
)
def test_what_fits(hand: list[int], orphans: list[int], wants: int, fits: bool) -> None:
    room = Room(2, 2)
    for cpus in hand:
        room.take(run(cpus))

    assert room.fits(run(wants), [run(cpus) for cpus in orphans]) is fits


def test_what_ends_makes_room() -> None:
    room = Room(1, 0)
    room.take(run(3))
    assert not room.fits(run(), [])

    room.give(run(3))

    assert room.used == 0
    assert room.fits(run(), [])
