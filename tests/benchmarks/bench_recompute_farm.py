"""Recompute as it is served: start, one request at a time against Green Reaper, two slots against one.

A server of its own (`cf-worker --serve`), asked by the library's client. CPU time of the process that computes, as
the answer tells it; Green Reaper's is this process's. In turns, one thread each; minima.

    python tests/benchmarks/bench_recompute_farm.py 1 3 5 7     # levels; C7 takes five minutes
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from computefarm.workers.recompute.kernels import pos1_plain as plain
from computefarm.workers.recompute.kernels.pos1_known import KNOWN, KnownProof, request_of

from computefarm.home import Home
from computefarm.recompute import Client

pytestmark = pytest.mark.benchmark
TESTS = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
BARS = {1: 3.5, 3: 4.5, 5: 6.5, 7: 8.5}
QUALITY_BARS = {5: 6.0}
ROUNDS = {1: 9, 2: 9, 3: 7, 4: 5, 5: 3}
WARM_S, TWO_SLOTS, NARROW = 2.0, 1.8, 0.6


def wide() -> bool:
    """Say whether this processor has AVX-512; where not, a bar is `NARROW` times as high."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "avx512f" in cpuinfo.read_text()


def held(value: float, bar: float, *, most: bool = False) -> str:
    return f"{'held' if (value <= bar if most else value >= bar) else 'NOT HELD'} ({bar:.1f})"


def proofs() -> list[KnownProof]:
    keys = ("plot_id", "challenge", "proof", "quality")
    data = json.loads((TESTS / "data" / "chia_mainnet_proofs.json").read_text())
    return [KnownProof(k=32, **{key: bytes.fromhex(known[key]) for key in keys}) for known in data]


def quality_of(level: int) -> dict[str, Any]:
    d, ordered = 15 + level, plain.plot_order(KNOWN.xs())
    at = (KNOWN.challenge[31] & 31) // 2

    def entry(place: int) -> int:
        a, b, c, e = (x >> d for x in ordered[4 * place : 4 * place + 4])
        return plain.line_point(plain.line_point(a, b), plain.line_point(c, e))

    data = [entry(at), *([entry(at ^ 1)] if level > 5 else [])]
    return {**request_of(KNOWN, d), "op": "quality", "form": "t2lp", "data": data}


def reaper(level: int) -> Any:
    path = TESTS / "integration" / "recompute" / "green_reaper.py"
    spec = importlib.util.spec_from_file_location("green_reaper", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return None if module.library() is None else module.GreenReaper(level)


@contextlib.contextmanager
def server(folder: Path, slots: int) -> Iterator[tuple[str, float]]:
    """Start a server; yield its address, and after how many seconds it was announced."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("CF_", "CHIAPOS_"))}
    log = folder / f"server{slots}.log"
    command = [str(BIN / "cf-worker"), "--capability", "recompute", "--no-monitor", "--slots", str(slots)]
    began = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--serve", address],
            env={**kept, "CF_HOME": str(folder)},
            stdout=out,
            stderr=out,
            cwd=folder,
        )
    try:
        while "offering recompute:" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() - began < 900, log.read_text()
            time.sleep(0.01)
        yield address, time.monotonic() - began
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def cpu_of(client: Client, raw: dict[str, Any]) -> float:
    answer = client.compute({**raw, "deadline_ms": 600_000})
    assert answer.status == "ok", answer
    return answer.cpu_ms / 1000.0


def timed(work: Callable[[], object]) -> float:
    start = time.process_time()
    assert work() is not None
    return time.process_time() - start


def against(client: Client, level: int) -> None:
    other = reaper(level)
    proof, quality = request_of(KNOWN, 15 + level), quality_of(level)
    best = [float("inf")] * 4
    for _ in range(ROUNDS.get(level, 1)):
        taken = [cpu_of(client, proof), cpu_of(client, quality)]
        if other is not None:
            taken.append(timed(lambda: other.proof(KNOWN.plot_id, proof["data"])))
            taken.append(timed(lambda: other.quality(KNOWN.plot_id, KNOWN.challenge, quality["data"])))
        best = [min(pair) for pair in zip(best, [*taken, float("inf"), float("inf")], strict=False)]
    if other is not None:
        other.close()
    share = 1.0 if wide() else NARROW
    for what, ours, theirs, bars in (
        ("proof", best[0], best[2], BARS),
        ("quality", best[1], best[3], QUALITY_BARS),
    ):
        bar = f"  {held(theirs / ours, bars[level] * share)}" if level in bars else ""
        print(
            f"C{level} {what:8} {ours * 1e3:9.1f} ms, Green Reaper {theirs * 1e3:9.1f}: {theirs / ours:5.1f} x{bar}",
            flush=True,
        )


def together(client: Client, level: int, slots: int, rounds: int) -> tuple[float, float]:
    """Return wall seconds and CPU seconds per proof with so many requests in flight."""
    requests = [request_of(known, 15 + level) for known in proofs()] * rounds
    wall, cpu = time.monotonic(), 0.0
    waiting: list[Any] = []
    for raw in requests:
        waiting.append(client.submit({**raw, "deadline_ms": 600_000}))
        if len(waiting) == slots:
            cpu += waiting.pop(0).result().cpu_ms
    cpu += sum(future.result().cpu_ms for future in waiting)
    return (time.monotonic() - wall) / len(requests), cpu / 1000.0 / len(requests)


def run(levels: list[int]) -> None:
    print(f"\n{platform.machine()}, {'AVX-512' if wide() else 'no AVX-512: bars are 0.6 of those with it'}")
    with tempfile.TemporaryDirectory(prefix="cf") as name:
        folder = Path(name)
        home = Home.find({"CF_HOME": name})
        with server(folder, 1) as (_, cold):
            print(f"cold start {cold:.1f} s")
        with server(folder, 1) as (_, warm):
            print(f"warm start, one slot {warm:.2f} s  {held(warm, WARM_S, most=True)}")
        with server(folder, 2) as (_, warm), Client(home=home) as client:
            print(f"warm start, two slots {warm:.2f} s  {held(warm, WARM_S, most=True)}", flush=True)
            together(client, 4, 2, 1)
            one, two = together(client, 4, 1, 4), together(client, 4, 2, 4)
            print(
                f"C4, two slots against one: {one[0] / two[0]:.2f} x  {held(one[0] / two[0], TWO_SLOTS)}"
                f"; by CPU time per proof {2 * one[1] / two[1]:.2f} x",
                flush=True,
            )
            for level in levels:
                against(client, level)


def test_as_served() -> None:
    run([1, 3, 5])


if __name__ == "__main__":
    run([int(level) for level in sys.argv[1:]] or [1, 3, 5, 7])
