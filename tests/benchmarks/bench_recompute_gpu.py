"""Wall time of one proof on a GPU against CPU time on one core of the same machine, and where the GPU's time goes.

Run with `pytest -m benchmark -s tests/benchmarks/bench_recompute_gpu.py`, or as a script with numbers of dropped
bits (level C7 drops 22): `python tests/benchmarks/bench_recompute_gpu.py 16 18 20 22`. Nothing without a GPU.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import pytest
from computefarm.workers.recompute import devices
from computefarm.workers.recompute.kernels.loading import cuda_module
from computefarm.workers.recompute.kernels.pos1 import ChiaPos1
from computefarm.workers.recompute.kernels.pos1_known import KNOWN, request_of

from computefarm.worker_api.kernel import Context, answer

pytestmark = pytest.mark.benchmark
ROUNDS = 9


def fastest(clock: Callable[[], float], rounds: int, work: Callable[[], Any]) -> float:
    """Return the least seconds of some rounds."""
    best = float("inf")
    for _ in range(rounds):
        start = clock()
        work()
        best = min(best, clock() - start)
    return best


def proof(kernel: ChiaPos1, context: Context, d: int) -> None:
    result = answer(kernel, request_of(KNOWN, d), context)
    assert result.values.get("proof") == KNOWN.proof, result


def stages(kernel: ChiaPos1, d: int) -> dict[str, float]:
    """Return the milliseconds of each kind of GPU kernel in one request, waiting for each of them."""
    device = cuda_module("pos1_cuda_join")
    pos1, cuda = cuda_module("pos1_cuda"), cuda_module("cuda_jit").cuda
    spent: dict[str, float] = {}

    class Timed:
        def __getattr__(self, name: str) -> Any:
            return TimedKernel(name)

    class TimedKernel:
        def __init__(self, name: str) -> None:
            self.name = name

        def __getitem__(self, shape: tuple[Any, int]) -> Callable[..., None]:
            def launch(*given: Any) -> None:
                cuda.synchronize()
                start = time.perf_counter()
                getattr(device, self.name)[shape](*given)
                cuda.synchronize()
                spent[self.name] = spent.get(self.name, 0.0) + (time.perf_counter() - start) * 1e3

            return launch

    vars(pos1)["device"] = Timed()
    try:
        proof(kernel, Context(device="cuda"), d)
    finally:
        vars(pos1)["device"] = device
    return spent


def run(bits: list[int], cache: str) -> None:
    found = devices.look(os.environ)
    if not found.devices:
        pytest.skip(f"NOT MEASURED: {found.reason}")
    gpu = found.devices[0]
    kernel, on_gpu, on_cpu = ChiaPos1(), Context(device="cuda", cache=cache), Context(cache=cache)
    on_gpu.simulated = gpu.simulated
    start = time.perf_counter()
    kernel.warmup(on_gpu)
    kernel.selftest(on_gpu)
    print(f"\n{gpu.label}: warm and tested in {time.perf_counter() - start:.1f} s")
    kernel.warmup(on_cpu)
    for d in bits:
        ours = fastest(time.perf_counter, ROUNDS, lambda d=d: proof(kernel, on_gpu, d))  # type: ignore[misc]
        core = fastest(time.process_time, 1, lambda d=d: proof(kernel, on_cpu, d))  # type: ignore[misc]
        vram = kernel.cost(kernel.parse(request_of(KNOWN, d))).vram
        parts = "  ".join(f"{name} {spent:.2f}" for name, spent in stages(kernel, d).items())
        print(
            f"d={d}  GPU {ours * 1e3:8.2f} ms  a core {core * 1e3:9.1f} ms: {core / ours:6.1f} x  {vram >> 20} MiB"
        )
        print(f"      of the GPU's: {parts}")


def test_a_proof_on_a_gpu(tmp_path_factory: pytest.TempPathFactory) -> None:
    run([16, 18, 20, 22], str(tmp_path_factory.mktemp("kernels")))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        run([int(text) for text in sys.argv[1:]] or [16, 18, 20, 22], folder)
