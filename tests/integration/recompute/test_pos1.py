"""The kernel against proofs that others made: mainnet's, those of fresh plots, and Green Reaper's answers."""

from __future__ import annotations

import json
import random
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from computefarm.workers.recompute.kernels import pos1_plain as plain
from computefarm.workers.recompute.kernels.pos1 import ChiaPos1
from computefarm.workers.recompute.kernels.pos1_known import KNOWN, KnownProof, request_of

from computefarm.worker_api.kernel import Context, DeadlinePassed, answer

from . import green_reaper

DATA = json.loads((Path(__file__).parents[2] / "data" / "chia_mainnet_proofs.json").read_text())
KEYS = ("plot_id", "challenge", "proof", "quality")
PROOFS = [KnownProof(k=32, **{key: bytes.fromhex(known[key]) for key in KEYS}) for known in DATA]


@pytest.fixture(scope="session")
def kernel(context: Context) -> ChiaPos1:
    kernel = ChiaPos1()
    kernel.warmup(context)
    return kernel


def words(known: KnownProof, d: int) -> list[int]:
    """Return the line points of ordered words of level C9."""
    kept = known.truncated(d)
    pairs = [kept[n + 1] << (known.k - d) | kept[n] for n in range(0, 64, 2)]
    return [plain.line_point(pairs[n], pairs[n + 1]) for n in range(0, 32, 2)]


def quality_request(known: KnownProof, d: int, *, sibling: bool) -> dict[str, Any]:
    ordered = plain.plot_order(known.xs())
    at = (known.challenge[31] & 31) // 2

    def entry(n: int) -> int:
        a, b, c, e = (x >> d for x in ordered[4 * n : 4 * n + 4])
        return plain.line_point(plain.line_point(a, b), plain.line_point(c, e))

    data = [entry(at), entry(at ^ 1)] if sibling else [entry(at)]
    return {**request_of(known, d), "op": "quality", "form": "t2lp", "data": data}


def check(kernel: ChiaPos1, context: Context, raw: dict[str, Any], known: KnownProof) -> None:
    result = answer(kernel, raw, context)

    assert result.status == "ok", result
    assert known.proof in result.values.get("proofs", [result.values["proof"]])
    assert result.values["quality"] == known.quality


@pytest.mark.parametrize("level", [1, 2, 3, 4, 5])
def test_mainnet_proofs(kernel: ChiaPos1, context: Context, level: int) -> None:
    for known in PROOFS if level < 4 else PROOFS[:2]:
        check(kernel, context, request_of(known, 15 + level), known)


@pytest.mark.slow
@pytest.mark.parametrize("level", [6, 7])
def test_mainnet_proofs_of_high_levels(kernel: ChiaPos1, context: Context, level: int) -> None:
    for known in PROOFS:
        check(kernel, context, request_of(known, 15 + level), known)


@pytest.mark.parametrize("d", [8, 16, 18])
def test_other_forms(kernel: ChiaPos1, context: Context, d: int) -> None:
    for known in PROOFS[:3]:
        check(kernel, context, {**request_of(known, d), "form": "trunc64", "data": known.truncated(d)}, known)
        check(kernel, context, {**request_of(known, d), "form": "w16", "data": words(known, d)}, known)


@pytest.mark.parametrize(("level", "sibling"), [(1, False), (3, False), (5, False), (6, True), (7, True)])
def test_qualities(kernel: ChiaPos1, context: Context, level: int, sibling: bool) -> None:
    for known in PROOFS if level < 6 else PROOFS[:2]:
        result = answer(kernel, quality_request(known, 15 + level, sibling=sibling), context)

        assert result.status == "ok", result
        assert known.quality in result.values.get("qualities", [result.values["quality"]])


@pytest.mark.parametrize(
    "xs",
    [(348617935, 348831886, 482140333, 1530820579), (1830421226, 782002991, 666096806, 666742535)],
    ids=["first two", "last two"],
)
def test_two_x_of_one_bucket_are_found_where_green_reaper_loses_them(
    kernel: ChiaPos1, context: Context, xs: tuple[int, ...]
) -> None:
    """At C5 two of these x keep the same bits, and then a line point can be read in two ways."""
    d = 20
    a, b, c, e = (x >> d for x in xs)
    point = plain.line_point(plain.line_point(a, b), plain.line_point(c, e))
    raw = {**request_of(PROOFS[0], d), "plot_id": KNOWN.plot_id, "challenge": KNOWN.challenge}
    raw |= {"op": "quality", "form": "t2lp", "data": [point]}

    result = answer(kernel, raw, context)

    assert (a == b) != (c == e)
    assert plain.top_f(KNOWN.plot_id, 32, xs) is not None, (
        "the four match: they are part of some plots' proofs"
    )
    assert result.status == "ok", result
    assert list(result.values["xs"]) == list(xs)
    if green_reaper.library() is None:
        pytest.skip("ours is right; what Green Reaper says needs the chiapos wheel")
    reaper = green_reaper.GreenReaper(5)
    assert reaper.quality(KNOWN.plot_id, KNOWN.challenge, [point]) is None
    reaper.close()


def test_parts_merge_to_the_same_answer(kernel: ChiaPos1, context: Context) -> None:
    request = kernel.parse(request_of(PROOFS[0], 17))

    for parts in (1, 3, 32):
        partials = [kernel.run(part, context) for part in kernel.split(request, parts)]
        assert kernel.merge(request, partials).values["proof"] == PROOFS[0].proof


@pytest.mark.parametrize("k", [18, 20, 22])
def test_fresh_plots(
    kernel: ChiaPos1, context: Context, fresh_plot: Callable[[int], Path], chiapos: Any, k: int
) -> None:
    """Proofs of a plot nobody has seen; with 11 of 18 bits missing, half of them have a pair in one bucket."""
    prover = chiapos.DiskProver(str(fresh_plot(k)))
    plot_id = prover.get_id()
    done = equal = 0
    while done < 60 or equal < 5:
        challenge = secrets.token_bytes(32)
        for index, quality in enumerate(prover.get_qualities_for_challenge(challenge)):
            proof = prover.get_full_proof(challenge, index)
            known = KnownProof(plot_id, k, challenge, proof, quality)
            d = (4, 6, 9, k - 7)[done % 4]
            kept = known.truncated(d)
            equal += any(kept[n] == kept[n + 1] for n in range(0, 64, 2))
            result = answer(kernel, request_of(known, d), context)
            assert result.status == "ok", (result, d)
            assert proof in result.values.get("proofs", [result.values["proof"]]), d
            for found in result.values.get("proofs", [result.values["proof"]]):
                assert chiapos.Verifier().validate_proof(plot_id, k, challenge, found)
            done += 1


def test_corrupted_requests_never_get_a_wrong_proof(kernel: ChiaPos1, context: Context) -> None:
    """1000 of them: a bit of the data, of the id or of the challenge is another one."""
    rng = random.Random(20261121)
    context.scratch.clear()
    statuses: dict[str, int] = {}
    for _ in range(1000):
        known = rng.choice(PROOFS)
        raw = request_of(known, 10)
        where = rng.choice(["data", "plot_id", "challenge"])
        if where == "data":
            raw["data"] = list(raw["data"])
            raw["data"][rng.randrange(32)] ^= 1 << rng.randrange(43)
        else:
            changed = bytearray(raw[where])
            # The last byte of the id is no part of the key, and of a challenge the first 32 bits make the proof.
            changed[rng.randrange(31 if where == "plot_id" else 4)] ^= 1 << rng.randrange(8)
            raw[where] = bytes(changed)
        result = answer(kernel, raw, context)
        statuses[result.status] = statuses.get(result.status, 0) + 1
        assert result.status in ("no_proof", "bad_request"), (raw, result)
    assert statuses["no_proof"] > 900


def test_an_answer_of_another_request_does_not_verify(kernel: ChiaPos1, context: Context) -> None:
    result = answer(kernel, request_of(PROOFS[0], 10), context)

    assert kernel.verify(kernel.parse(request_of(PROOFS[0], 10)), result)
    assert not kernel.verify(kernel.parse(request_of(PROOFS[1], 10)), result)


def test_a_passed_deadline_ends_the_work(kernel: ChiaPos1, context: Context) -> None:
    looks = 0

    def check() -> None:
        nonlocal looks
        looks += 1
        if looks == 4:
            raise DeadlinePassed("too late")

    result = answer(kernel, request_of(PROOFS[0], 16), Context(check=check, scratch=context.scratch))

    assert (result.status, looks) == ("deadline", 4)


def test_what_does_not_fit_into_memory_is_not_begun(kernel: ChiaPos1) -> None:
    result = answer(kernel, request_of(PROOFS[0], 24), Context(memory=100 << 20))

    assert result.status == "too_large"
    assert "100 MiB" in result.reason


@pytest.mark.parametrize("k", [19, 31, 33, 36, 40])
def test_values_of_other_k(kernel: ChiaPos1, context: Context, k: int) -> None:
    """F1 and the joins for numbers that lie across words and blocks, against the plain form."""
    from computefarm.workers.recompute.kernels import pos1_engine

    plot_id = secrets.token_bytes(32)
    d = min(k - 6, 17 if k > 25 else 12)
    for ordered in (False, True):
        engine = pos1_engine.Engine(k, d, plot_id, {}, lambda: None)
        for row in engine.pair(1, 0, ordered)[:20]:
            left, right = plain.f1(plot_id, k, int(row[0])), plain.f1(plot_id, k, int(row[1]))
            assert plain.is_match(left, right)
            assert left == row[2]
            assert {int(row[0]) >> d, int(row[1]) >> d} == {0, 1}
            assert int(row[0]) >> d == 1 or not ordered


@pytest.mark.parametrize("same", [False, True])
def test_no_match_is_lost(kernel: ChiaPos1, context: Context, same: bool) -> None:
    """Both ways to join find exactly the matches that all pairs have."""
    from computefarm.workers.recompute.kernels import pos1_engine

    k, d, plot_id = 24, 17, secrets.token_bytes(32)
    engine = pos1_engine.Engine(k, d, plot_id, {}, lambda: None)
    assert engine.buffers.divided
    divided = {tuple(int(v) for v in row) for row in engine.pair(0 if same else 1, 0, False)}
    engine.buffers.divided = ()
    engine.buffers._for_flat()
    flat = {tuple(int(v) for v in row) for row in engine.pair(0 if same else 1, 0, False)}

    assert len(divided) > 100
    assert divided == flat
