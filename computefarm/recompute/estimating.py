"""How many plots a rate of answers serves, and what a compression level costs by the kernel's own estimate.

A farm has 9.375 s between two signage points. At each of them, one plot of `filter` is looked up, which finds
one proof on average: its quality is computed, and the whole proof only when the quality is good enough for
the pool (or a block). Slots are planned to be busy for `LOAD` of the time, so that answers come in time.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from computefarm.worker_api.kernel import find

from .known import KERNEL, K, known, operations

LOOKUP_S = 9.375
"""Between two challenges."""

LOAD = 0.8
"""Of the slots' time; the rest is for answers that must come in time."""

FILTERS = (512, 256, 128)
"""One plot of so many is looked up at a challenge: what the main net has had, has, and will have."""

DIFFICULTY = 100
"""Of partial proofs; pools choose it so that a farm sends a few hundred of them a day."""

POINT_ITERATIONS = 37_600_000_000 / 64
"""A quality is good enough for a pool when it takes fewer iterations, which is one signage point."""

DIFFICULTY_FACTOR = 2.0**67


class Estimate(msgspec.Struct, frozen=True):
    """One level on some slots."""

    level: str
    memory: int
    """Bytes per request, at the most."""
    quality_s: float
    """On one slot; of C9 that of a proof."""
    proof_s: float
    plots: dict[str, int]
    """How many plots these slots serve, by filter."""
    slots_per_1000: float
    """What a thousand plots need at the first filter."""


def proofs_per_lookup(difficulty: float) -> float:
    """Return the share of lookups that need a whole proof at a difficulty of partials."""
    size = (2 * K + 1) * 2.0 ** (K - 1)
    return min(1.0, POINT_ITERATIONS * size / (difficulty * DIFFICULTY_FACTOR))


def lookup_s(quality_s: float, proof_s: float, difficulty: float, *, whole: bool) -> float:
    """Return the seconds of one slot that a lookup takes; `whole`: a quality needs the whole proof."""
    return proof_s if whole else quality_s + proofs_per_lookup(difficulty) * proof_s


def plots(seconds: float, slots: float, plot_filter: int) -> int:
    """Return how many plots `slots` serve when a lookup takes `seconds` of one."""
    return int(slots * LOAD * LOOKUP_S * plot_filter / seconds) if seconds > 0 else 0


def expected_s(level: str, op: str) -> float:
    """Return the seconds on one core that the kernel expects for a request."""
    return _cost(level, op)[1]


def estimate(level: str, slots: int, *, difficulty: float = DIFFICULTY, factor: float = 1.0) -> Estimate:
    """Return what `level` costs; `factor`: how much longer than expected these slots take."""
    costs = {op: _cost(level, op) for op in operations(level)}
    memory = max(memory for memory, _ in costs.values())
    proof_s = costs["proof"][1] * factor
    whole = "quality" not in costs
    quality_s = proof_s if whole else costs["quality"][1] * factor
    seconds = lookup_s(quality_s, proof_s, difficulty, whole=whole)
    served = {str(each): plots(seconds, slots, each) for each in FILTERS}
    need = 1000 * seconds / (LOAD * LOOKUP_S * FILTERS[0])
    return Estimate(level, memory, quality_s, proof_s, served, need)


def _cost(level: str, op: str) -> tuple[int, float]:
    kernel = find(KERNEL)
    costs = [kernel.cost(kernel.parse(one.request(level, op))) for one in known()]
    return max(cost.memory for cost in costs), sum(cost.cpu_s for cost in costs) / len(costs)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of all do not exceed; 0 without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
