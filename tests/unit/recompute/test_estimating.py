"""How many plots a rate serves, and what levels cost."""

from __future__ import annotations

import itertools

import pytest

from computefarm.recompute.estimating import (
    LOAD,
    LOOKUP_S,
    estimate,
    expected_s,
    lookup_s,
    percentile,
    plots,
    proofs_per_lookup,
)
from computefarm.recompute.known import LEVELS


def test_a_plot_earns_ten_points_a_day() -> None:
    """What pools pay for a plot of k = 32, at any difficulty: that is what the constants must come to."""
    lookups_a_day = 24 * 3600 / LOOKUP_S / 512

    assert lookups_a_day * proofs_per_lookup(1) == pytest.approx(10, rel=0.01)
    assert lookups_a_day * proofs_per_lookup(50) * 50 == pytest.approx(10, rel=0.01)
    assert proofs_per_lookup(0.001) == 1


def test_plots_are_what_the_slots_look_up_in_their_share_of_the_time() -> None:
    seconds = lookup_s(0.1, 2.0, 100, whole=False)

    assert seconds == pytest.approx(0.1 + 0.00556 * 2.0, rel=0.01)
    assert plots(seconds, 4, 512) == int(4 * LOAD * LOOKUP_S / seconds * 512)
    assert plots(seconds, 4, 256) == pytest.approx(plots(seconds, 4, 512) / 2, abs=1)
    assert lookup_s(0.1, 2.0, 100, whole=True) == 2.0
    assert plots(0.0, 4, 512) == 0


def test_higher_levels_cost_more_and_slower_slots_serve_less() -> None:
    found = [estimate(level, 2) for level in LEVELS]

    for below, above in itertools.pairwise(found):
        assert above.proof_s > below.proof_s
        assert above.plots["512"] < below.plots["512"]
        assert above.slots_per_1000 > below.slots_per_1000
    slow = estimate("C5", 2, factor=3.0)
    assert slow.proof_s == pytest.approx(3 * expected_s("C5", "proof"))
    assert slow.plots["512"] == pytest.approx(estimate("C5", 2).plots["512"] / 3, rel=0.01)


def test_percentiles() -> None:
    assert percentile([], 0.5) == 0.0
    assert percentile([3.0], 0.95) == 3.0
    assert percentile([5.0, 1.0, 2.0, 4.0, 3.0], 0.5) == 3.0
