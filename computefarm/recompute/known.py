"""Proofs of Chia's main net that everybody can know, and what plots of each level keep of them."""

from __future__ import annotations

from functools import cache
from importlib import resources

import msgspec

KERNEL = "chia.pos1"
K = 32
LEVELS = tuple(f"C{number}" for number in range(1, 10))
FIRST_DROPPED = 15
"""Level 1 drops 16 bits of each x, every further level one more."""

WORDS = "C9"
"""The level that keeps words instead of line points, and from which no quality can be told alone."""


class Known(msgspec.Struct, frozen=True):
    """A proof with its quality, and its data at every level; bytes as hex."""

    plot_id: str
    challenge: str
    proof: str
    quality: str
    levels: dict[str, dict[str, list[int]]]
    """By level and operation (`proof`, `quality`): the numbers that a plot holds."""

    def request(self, level: str, op: str) -> dict[str, object]:
        """Return the request that recomputes the proof or its quality."""
        form = "t2lp" if op == "quality" else "w16" if level == WORDS else "lp32"
        return {
            "kernel": KERNEL, "op": op, "plot_id": self.plot_id, "k": K, "d": FIRST_DROPPED + int(level[1:]),
            "form": form, "data": self.levels[level][op], "challenge": self.challenge,
        }  # fmt: skip


@cache
def known() -> tuple[Known, ...]:
    """Return all of them."""
    text = resources.files(__package__).joinpath("known.json").read_bytes()
    return tuple(msgspec.json.decode(text, type=list[Known]))


def operations(level: str) -> tuple[str, ...]:
    """Return what can be asked at a level."""
    return ("proof",) if level == WORDS else ("quality", "proof")
