"""What a proof is: known answers, and properties that hold for all numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from computefarm.workers.recompute.kernels import pos1_plain as plain
from hypothesis import given
from hypothesis import strategies as st

PROOFS = json.loads((Path(__file__).parents[3] / "data" / "chia_mainnet_proofs.json").read_text())
ID = bytes(range(32))


@pytest.mark.parametrize(
    ("k", "x", "y"),
    [
        (18, 0, 15503808), (18, 28, 8868416), (18, 262143, 4312767), (25, 525, 1979791872),
        (32, 0, 254014609664), (32, 1, 147847582208), (32, 2**32 - 1, 225404750783), (34, 27, 987269712768),
    ],
)  # fmt: skip
def test_f1(k: int, x: int, y: int) -> None:
    assert plain.f1(ID, k, x) == y


def test_blake3() -> None:
    assert plain.blake3(b"").hex().startswith("af1349b9f5f9a1a6a0404dea36dcc949")


@pytest.mark.parametrize("known", PROOFS, ids=lambda known: known["source"].split("/")[-1])
def test_a_proof_of_the_main_net(known: dict[str, str]) -> None:
    challenge, plot_id = bytes.fromhex(known["challenge"]), bytes.fromhex(known["plot_id"])
    xs = plain.unpack(32, bytes.fromhex(known["proof"]))

    assert plain.top_f(plot_id, 32, xs) == plain.top_bits(32, challenge)
    assert plain.proof_quality(32, challenge, xs).hex() == known["quality"]
    assert plain.pack(32, xs).hex() == known["proof"]
    assert plain.top_f(plot_id, 32, [xs[1], xs[0], *xs[2:]]) is None
    assert plain.top_f(bytes(32), 32, xs) is None


def test_targets_and_line_points() -> None:
    assert {0, 131, 270, 417} <= plain.targets(0, 0)
    assert 8000 in plain.targets(15112, 1)
    assert plain.line_point(65535, 65534) == 2147450879
    assert plain.readings(28) == [(8, 0), (7, 7)]


@given(st.integers(0, 2**40), st.integers(0, 2**40))
def test_a_line_point_is_read_back(a: int, b: int) -> None:
    assert (max(a, b), min(a, b)) in plain.readings(plain.line_point(a, b))


@given(st.integers(0, 15112), st.integers(0, 15112), st.integers(0, 1))
def test_the_quick_test_of_a_match_is_that_of_all_targets(low: int, high: int, parity: int) -> None:
    match = plain.is_match(parity * 15113 + low, (parity + 1) * 15113 + high)

    assert match == (high in plain.targets(low, parity))
    for target in plain.targets(low, parity):
        assert plain.is_match(parity * 15113 + low, (parity + 1) * 15113 + target)


@given(st.permutations(range(16)))
def test_plot_order_does_not_depend_on_the_order_inside_pairs(xs: list[int]) -> None:
    swapped = [x for n in range(0, 16, 2) for x in (xs[n + 1], xs[n])]

    assert plain.plot_order(swapped) == plain.plot_order(xs)
    assert sorted(plain.plot_order(xs)) == sorted(xs)
