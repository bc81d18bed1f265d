"""The reader of compressed plots against chiapos: whole small ones, real-sized ones with one proof, broken ones."""

from __future__ import annotations

import functools
import json
import random
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from computefarm.workers.recompute.kernels import pos1_plain as plain
from computefarm.workers.recompute.kernels.pos1 import ChiaPos1
from computefarm.workers.recompute.kernels.pos1_known import KnownProof, request_of
from computefarm.workers.recompute.plot.header import PlotError
from computefarm.workers.recompute.plot.reader import Plot

from computefarm.worker_api.kernel import Context, answer

from . import green_reaper
from .conftest import make_plot

pytest.importorskip("numpy", reason="the writer of compressed plots needs numpy")
if green_reaper.library() is None:
    pytest.skip("the oracle is the chiapos wheel (Linux x86-64 only)", allow_module_level=True)

import numpy as np

from . import compressed_plots

K = 18
KEPT = {1: 9, 2: 9, 3: 9, 4: 9, 5: 8, 6: 7, 7: 6, 9: 4}
"""By level: bits kept of 18, such that neighbouring entries are about as far apart as with 32."""

DATA = json.loads((Path(__file__).parents[2] / "data" / "chia_mainnet_proofs.json").read_text())
KEYS = ("plot_id", "challenge", "proof", "quality")
PROOFS = [KnownProof(k=32, **{key: bytes.fromhex(known[key]) for key in KEYS}) for known in DATA]


class SmallPlot(Plot):
    """What bladebit would make if it made small plots."""

    compressed_k = (K,)

    @property
    def dropped(self) -> int:
        return K - KEPT[self.level]


@pytest.fixture(scope="module")
def original(chiapos: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_plot(tmp_path_factory.mktemp("plots"), K)


@pytest.fixture(scope="module")
def compressed(original: Path) -> Callable[[int], Path]:
    """Return the same plot, compressed to a level."""
    source = compressed_plots.Source(original, K)

    @functools.cache
    def values() -> Any:
        stream = b"".join(plain.chacha8(source.plot_id, block) for block in range((K << K) // 512))
        bits = np.unpackbits(np.frombuffer(stream, dtype=np.uint8)).reshape(-1, K).astype(np.int64)
        return (bits @ (1 << np.arange(K - 1, -1, -1))) << 6 | np.arange(1 << K) >> (K - 6)

    @functools.cache
    def make(level: int) -> Path:
        path = original.with_name(f"small-c{level}.plot")
        compressed_plots.compress(source, path, level, KEPT[level], values() if level == 9 else None)
        return path

    return make


@pytest.fixture(scope="module")
def kernel(context: Context) -> ChiaPos1:
    kernel = ChiaPos1()
    kernel.warmup(context)
    return kernel


def recomputed(
    kernel: ChiaPos1,
    context: Context,
    requests: list[dict[str, Any]],
    *,
    none: tuple[str, ...] = ("no_proof",),
) -> list[bytes]:
    """Return the proofs of the first request that has any; the others must have a status of `none`."""
    for request in requests:
        result = answer(kernel, request, context)
        assert result.status in ("ok", *none), result
        if result.status == "ok":
            return list(result.values.get("proofs", [result.values["proof"]]))
    return []


def orders_agree(proof: bytes, kept: int) -> bool:
    """Return whether the kept bits alone tell the order of all x: else a plot may have them in another."""
    xs = plain.unpack(K, proof)
    return [x >> (K - kept) for x in plain.plot_order(xs)] == plain.plot_order([x >> (K - kept) for x in xs])


@pytest.mark.parametrize("level", [2, 5, 7, 9])
def test_every_proof_of_a_small_plot_comes_back(
    kernel: ChiaPos1,
    context: Context,
    chiapos: Any,
    original: Path,
    compressed: Callable[[int], Path],
    level: int,
) -> None:
    prover = chiapos.DiskProver(str(original))
    done = told = 0
    with SmallPlot(compressed(level)) as reader:
        while done < 15 or (told < 8 and level != 9):
            challenge = secrets.token_bytes(32)
            qualities = prover.get_qualities_for_challenge(challenge)
            proofs = [prover.get_full_proof(challenge, n) for n in range(len(qualities))]
            entries = reader.entries(challenge)
            found = [recomputed(kernel, context, reader.requests(entry, challenge)) for entry in entries]
            assert len(found) == len(proofs)
            assert {proof for some in found for proof in some} >= set(proofs)
            for entry, some in zip(entries, found, strict=True):
                request = reader.quality_request(entry, challenge)
                assert (request is None) == (level == 9)
                if request is not None and all(orders_agree(proof, KEPT[level]) for proof in some):
                    result = answer(kernel, request, context)
                    assert result.status == "ok"
                    right = {plain.proof_quality(K, challenge, plain.unpack(K, proof)) for proof in some}
                    assert right & set(result.values.get("qualities", [result.values["quality"]]))
                    assert right & set(qualities)
                    told += 1
            done += len(proofs)


# --- plots of k = 32, as bladebit makes them, with one proof ------------------------------------------------


def lowest_entries(known: KnownProof, level: int) -> tuple[list[int], list[int]]:
    """Return the entries of the lowest table, from left to right, and the numbers in them."""
    if level == 9:
        kept = known.truncated(24)
        words = [kept[n + 1] << 8 | kept[n] for n in range(0, 64, 2)]
        inner = [plain.line_point(words[n], words[n + 1]) for n in range(0, 32, 2)]
    else:
        kept = [x >> (15 + level) for x in plain.plot_order(known.xs())]
        inner = [plain.line_point(kept[n], kept[n + 1]) for n in range(0, 64, 2)]
    return [plain.line_point(inner[n], inner[n + 1]) for n in range(0, len(inner), 2)], inner


def one_proof(folder: Path, known: KnownProof, level: int) -> tuple[Path, list[int]]:
    entries, inner = lowest_entries(known, level)
    path = folder / f"one-c{level}.plot"
    compressed_plots.write_one_proof(path, known, level, entries, random.Random(level))
    return path, inner


@pytest.fixture(scope="module")
def prover_of(chiapos: Any) -> Callable[[Path], Any]:
    """Return chiapos' own reader of compressed plots."""
    chiapos.decompressor_context_queue.init(1, 1, True, 7, False, 0, False, 60)

    def prover(path: Path) -> Any:
        return chiapos.DiskProver(str(path))

    return prover


@pytest.mark.parametrize("level", range(1, 10))
def test_what_plots_of_each_level_keep_is_read(tmp_path: Path, level: int) -> None:
    known = PROOFS[level % len(PROOFS)]
    path, inner = one_proof(tmp_path, known, level)

    with Plot(path) as reader:
        (entry,) = reader.entries(known.challenge)
        (request,) = reader.requests(entry, known.challenge)
        quality = reader.quality_request(entry, known.challenge)
        assert (reader.level, reader.dropped, reader.plot_id) == (level, 15 + level, known.plot_id)

    assert sorted(request["data"]) == sorted(inner)
    assert (request["form"], request["d"]) == ("w16" if level == 9 else "lp32", 15 + level)
    if level == 9:
        assert quality is None
    else:
        entries, _ = lowest_entries(known, level)
        at = (known.challenge[31] & 31) // 2
        assert quality is not None
        assert quality["data"] == [entries[at], entries[at ^ 1]][: 2 if level >= 6 else 1]


@pytest.mark.parametrize("level", [1, 2, 3, pytest.param(5, marks=pytest.mark.slow)])
def test_chiapos_finds_the_same_in_them(
    tmp_path: Path, kernel: ChiaPos1, context: Context, prover_of: Callable[[Path], Any], level: int
) -> None:
    known = PROOFS[level % len(PROOFS)]
    path, _ = one_proof(tmp_path, known, level)
    prover = prover_of(path)

    with Plot(path) as reader:
        (entry,) = reader.entries(known.challenge)
        quality = answer(kernel, reader.quality_request(entry, known.challenge) or {}, context)
        proofs = recomputed(kernel, context, reader.requests(entry, known.challenge))

    assert prover.get_compression_level() == level
    assert prover.get_qualities_for_challenge(known.challenge) == [quality.values["quality"]]
    assert prover.get_full_proof(known.challenge, 0) in proofs


@pytest.mark.slow
@pytest.mark.parametrize("level", [6, 7])
def test_chiapos_finds_the_same_qualities_in_high_levels(
    tmp_path: Path, kernel: ChiaPos1, context: Context, prover_of: Callable[[Path], Any], level: int
) -> None:
    known = PROOFS[level % len(PROOFS)]
    path, _ = one_proof(tmp_path, known, level)

    with Plot(path) as reader:
        (entry,) = reader.entries(known.challenge)
        quality = answer(kernel, reader.quality_request(entry, known.challenge) or {}, context)

    assert prover_of(path).get_qualities_for_challenge(known.challenge) == [quality.values["quality"]]


# --- broken plots -------------------------------------------------------------------------------------------


class Watched(SmallPlot):
    """A plot that remembers what was read."""

    def __init__(self, path: Path) -> None:
        self.pieces: list[tuple[int, int]] = []
        super().__init__(path)

    def _read(self, offset: int, size: int, *, short: bool = False) -> bytes:
        self.pieces.append((offset, size))
        return super()._read(offset, size, short=short)


@pytest.mark.parametrize("level", [0, 5])
def test_no_byte_that_is_wrong_makes_a_wrong_proof(
    kernel: ChiaPos1,
    context: Context,
    chiapos: Any,
    original: Path,
    compressed: Callable[[int], Path],
    tmp_path: Path,
    level: int,
) -> None:
    source = compressed(level) if level else original
    prover, verifier = chiapos.DiskProver(str(original)), chiapos.Verifier()
    challenge = next(
        c for c in iter(lambda: secrets.token_bytes(32), b"") if prover.get_qualities_for_challenge(c)
    )

    def prove(path: Path) -> tuple[list[bytes], list[tuple[int, int]]]:
        with Watched(path) as reader:
            if level:
                asked = [reader.requests(entry, challenge) for entry in reader.entries(challenge)]
                none = ("no_proof", "bad_request")
                found = [p for one in asked for p in recomputed(kernel, context, one, none=none)]
            else:
                found = [reader.proof(entry, challenge) for entry in reader.entries(challenge)]
            return found, reader.pieces

    whole, pieces = prove(source)
    assert whole
    content, rng, damaged, lost = source.read_bytes(), random.Random(level), 0, 0
    path = tmp_path / "broken.plot"
    for _ in range(25):
        offset, size = rng.choice(pieces)
        broken = bytearray(content)
        broken[offset + rng.randrange(min(size, 40))] ^= 1 << rng.randrange(8)
        path.write_bytes(broken)
        try:
            found, _ = prove(path)
        except PlotError:
            damaged += 1
            continue
        lost += set(found) != set(whole)
        for proof in found:
            assert verifier.validate_proof(prover.get_id(), K, challenge, proof)
    assert damaged + lost > 4, "the broken bytes are those that are read"


def test_a_request_of_a_damaged_plot_is_answered_with_no_proof(kernel: ChiaPos1, context: Context) -> None:
    """The kernel says `no_proof` of numbers that no plot has together."""
    raw = request_of(PROOFS[0], 10)
    raw["data"] = [*raw["data"][:5], raw["data"][5] - 1, *raw["data"][6:]]

    assert answer(kernel, raw, context).status == "no_proof"
