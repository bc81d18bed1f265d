"""What a compression level would cost: from the kernel's own estimate and the slots that there are."""

from __future__ import annotations

import msgspec

from computefarm.worker_api.kernel import Cost, find

KERNEL = "chia.pos1"
K = 32
LEVELS = ("C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8")
FIRST_DROPPED = 15
"""Level 1 drops 16 bits of each x, every further level one more."""

SIBLING_LEVEL = 6
"""From this level on a quality needs an entry's sibling too."""

LOOKUP_S = 9.375
"""Between two challenges."""

LOAD = 0.8
"""Of the slots' time; the rest is for answers that must come in time."""


class Estimate(msgspec.Struct, frozen=True):
    """One level on these servers."""

    level: str
    memory: int
    """Bytes per request."""
    quality_s: float
    proof_s: float
    plots: int
    """How many plots these slots serve."""


def plots(rate: float, plot_filter: int) -> int:
    """Return how many plots ask `rate` times a second, one of `plot_filter` at each challenge."""
    return int(rate * LOOKUP_S * plot_filter)


def estimate(level: str, slots: int) -> Estimate:
    """Return what `level` costs."""
    number = int(level[1:])
    quality = _cost(number, "quality", [1] * (2 if number >= SIBLING_LEVEL else 1), "t2lp")
    proof = _cost(number, "proof", [1] * 32, "lp32")
    rate = slots * LOAD / quality.cpu_s if quality.cpu_s > 0 else 0.0
    return Estimate(level, max(quality.memory, proof.memory), quality.cpu_s, proof.cpu_s, plots(rate, 512))


def _cost(level: int, op: str, data: list[int], form: str) -> Cost:
    kernel = find(KERNEL)
    raw: dict[str, object] = {
        "kernel": KERNEL,
        "op": op,
        "plot_id": bytes(32),
        "k": K,
        "d": FIRST_DROPPED + level,
        "form": form,
        "data": data,
        "challenge": bytes(32),
    }
    return kernel.cost(kernel.parse(raw))
