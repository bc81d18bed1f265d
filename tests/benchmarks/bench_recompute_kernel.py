"""CPU time of one proof and one quality, against bladebit's Green Reaper: one thread each, interleaved, minima.

Run with `pytest -m benchmark -s tests/benchmarks/bench_recompute_kernel.py`, or as a script with levels:
`python tests/benchmarks/bench_recompute_kernel.py 1 3 5 7`.
"""

from __future__ import annotations

import importlib.util
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from computefarm.workers.recompute.kernels import pos1_plain as plain
from computefarm.workers.recompute.kernels.pos1 import ChiaPos1
from computefarm.workers.recompute.kernels.pos1_known import KNOWN, request_of

from computefarm.worker_api.kernel import Context, answer

pytestmark = pytest.mark.benchmark
REAPER = Path(__file__).parents[1] / "integration" / "recompute" / "green_reaper.py"


def reaper(level: int) -> Any:
    spec = importlib.util.spec_from_file_location("green_reaper", REAPER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if module.library() is None:
        pytest.skip("the chiapos wheel is not installed: nothing to compare with")
    return module.GreenReaper(level)


def entry(d: int, place: int) -> int:
    a, b, c, e = (x >> d for x in plain.plot_order(KNOWN.xs())[4 * place : 4 * place + 4])
    return plain.line_point(plain.line_point(a, b), plain.line_point(c, e))


def fastest(rounds: int, *works: Callable[[], Any]) -> list[float]:
    """Return the least CPU seconds of each, taken in turns."""
    best = [float("inf")] * len(works)
    for _ in range(rounds):
        for n, work in enumerate(works):
            start = time.process_time()
            assert work() is not None
            best[n] = min(best[n], time.process_time() - start)
    return best


def compare(level: int, kernel: ChiaPos1, context: Context) -> str:
    d, other = 15 + level, reaper(level)
    raw = request_of(KNOWN, d)
    at = (KNOWN.challenge[31] & 31) // 2
    data = [entry(d, at)] + ([entry(d, at ^ 1)] if level > 5 else [])
    quality = {**raw, "op": "quality", "form": "t2lp", "data": data}
    rounds = {1: 9, 2: 9, 3: 7, 4: 5, 5: 3}.get(level, 1)
    ours, theirs, our_quality, their_quality = fastest(
        rounds,
        lambda: answer(kernel, raw, context).values["proof"],
        lambda: other.proof(KNOWN.plot_id, raw["data"]),
        lambda: answer(kernel, quality, context).values["quality"],
        lambda: other.quality(KNOWN.plot_id, KNOWN.challenge, data),
    )
    other.close()
    return (
        f"C{level}  proof {ours * 1e3:8.1f} ms, Green Reaper {theirs * 1e3:9.1f}: {theirs / ours:5.1f} x"
        f"   quality {our_quality * 1e3:6.1f} ms, {their_quality * 1e3:7.1f}: {their_quality / our_quality:5.1f} x"
    )


def run(levels: list[int], cache: str) -> None:
    kernel, context = ChiaPos1(), Context(cache=cache)
    start, cpu = time.perf_counter(), time.process_time()
    kernel.warmup(context)
    print(f"\nstart {time.perf_counter() - start:.2f} s, of it CPU {time.process_time() - cpu:.2f} s")
    for level in levels:
        answer(kernel, request_of(KNOWN, 15 + level), context)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        bound = (60 << (15 + level)) + 150_000_000
        line = compare(level, kernel, context)
        print(f"{line}   peak before it {peak / 1e6:.0f} MB of {bound / 1e6:.0f}", flush=True)


def test_against_green_reaper() -> None:
    with tempfile.TemporaryDirectory() as cache:
        run([1, 3, 5], cache)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        run([int(level) for level in sys.argv[1:]] or [1, 3, 5, 7], folder)
