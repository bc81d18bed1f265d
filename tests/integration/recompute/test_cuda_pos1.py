"""`chia.pos1` on a GPU: in numba's simulator always, and as far as a compiler can tell where there is NVIDIA's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from computefarm.worker_api.kernel import find

HERE = Path(__file__).parent
CHECKS = (
    "values_of_x",
    "hashes",
    "joins",
    "too_many_matches",
    "table_3",
    "proofs",
    "qualities",
    "signatures",
    "limits",
)


def test_in_the_simulator_everything_is_as_in_plain_python() -> None:
    pytest.importorskip("numba", reason="the recompute kernels need numba (pip install '.[recompute]')")
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", str(HERE / "simulated_pos1.py"), *CHECKS],
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == list(CHECKS)


def test_a_gpu_is_offered_and_what_it_takes_is_said() -> None:
    from computefarm.workers.recompute.kernels.pos1_known import KNOWN, request_of

    kernel = find("chia.pos1")
    costs = [kernel.cost(kernel.parse(request_of(KNOWN, d))) for d in (16, 19, 22)]

    assert "cuda" in kernel.devices
    assert [cost.vram >> 20 for cost in costs] == sorted(cost.vram >> 20 for cost in costs)
    assert costs[-1].vram < 300 << 20, "level C7 fits beside seven others"
    assert all(0 < cost.gpu_s < cost.cpu_s for cost in costs)
