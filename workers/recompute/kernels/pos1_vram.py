"""How much of a GPU's memory the joins of a request take, and how they are cut to fit into less."""

from __future__ import annotations

from typing import Final

import msgspec

from computefarm.worker_api.kernel import TooLarge

TOGETHER: Final = 1 << 24
"""x that are looked up in one launch: enough threads for any GPU, and little memory."""
PIECE: Final = 8
"""Pieces of a bucket have 2**8 x at least."""
EACH_X: Final = 16
"""Bytes: a node, and two heads of lists."""
EACH_ROW: Final = 61
"""Bytes of a match: the row itself, y2, the next one on its list, whether to keep it, up to four heads."""
FIXED: Final = 1 << 20
"""Bytes for everything else."""


class Plan(msgspec.Struct, frozen=True):
    """How to do the joins of a request."""

    bits: int
    """Pieces of 2**bits x are looked up."""
    jobs: int
    """Pairs of buckets, or pieces of them, of one launch."""
    rows: int
    """Matches for which there is room; a list that is longer than expected gets more."""

    @property
    def vram(self) -> int:
        """Bytes of the GPU's memory."""
        return (self.jobs * EACH_X << self.bits) + self.rows * EACH_ROW + FIXED


def suits(k: int, d: int) -> bool:
    """Say whether a GPU can join such buckets: 64 bits of a node hold k bits of y and which node is next."""
    return k + d <= 64


def rows(k: int, d: int, pairs: int) -> int:
    """Return for how many matches of so many pairs of buckets to make room at first."""
    expected = (pairs << (2 * d + 1)) >> k
    return expected + expected // 2 + 64 * pairs + 1024


def plan(k: int, d: int, pairs: int, vram: int = 0, room: int = 0) -> Plan:
    """Return how to do it within `vram` bytes (0: no limit), with `room` for matches; raises `TooLarge`."""
    room = room or rows(k, d, pairs)
    bits = min(d, TOGETHER.bit_length() - 1)
    pieces = pairs << (d - bits)
    made = Plan(bits, max(1, min(pieces, TOGETHER >> bits)), room)
    while vram and made.vram > vram:
        if made.jobs > 1:
            made = Plan(made.bits, made.jobs // 2, room)
        elif made.bits > PIECE:
            made = Plan(made.bits - 1, 1, room)
        else:
            least, given = made.vram >> 20, vram >> 20
            raise TooLarge(f"it needs {least} MiB of the GPU's memory at the least, and may use {given} MiB")
    return made
