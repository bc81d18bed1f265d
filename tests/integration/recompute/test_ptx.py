"""Every kernel for GPUs is compiled for one, by NVIDIA's compiler where it is installed: `make ptx`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("to_ptx.py")
KERNELS = Path(__file__).parents[3] / "workers" / "recompute" / "kernels"


def written() -> set[str]:
    """Return the kernels that there are, as their sources say."""
    return {
        f"{path.stem}.{name}"
        for path in KERNELS.glob("*_cuda*.py")
        for name in re.findall(r"^@kernel\ndef (\w+)", path.read_text(), re.MULTILINE)
    }


@pytest.mark.slow
@pytest.mark.parametrize("compute", ["8.0", "9.0"])
def test_kernels_compile_for_a_gpu_with_everything_in_registers(compute: str) -> None:
    pytest.importorskip("numba", reason="the recompute kernels need numba (pip install '.[recompute]')")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--compute", compute],
        env=environ, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    if done.returncode == 3:
        pytest.skip(
            f"compiling for a GPU needs NVIDIA's compiler, not a GPU (make ptx): {done.stderr.strip()}"
        )

    assert done.returncode == 0, done.stdout + done.stderr
    compiled = {made["kernel"]: made for made in map(json.loads, done.stdout.splitlines())}
    assert set(compiled) == written()
    for made in compiled.values():
        assert (made["float"], made["local"], made.get("spilled", 0)) == (0, 0, 0), made


def test_no_kernel_is_left_out() -> None:
    """The signatures name every kernel, on machines without a compiler as well."""
    assert {"hash_search_cuda.scan", "pos1_cuda_join.probe"} <= written()
    named = set(re.findall(r'^ {8}"(\w+)":', SCRIPT.read_text(), re.MULTILINE))
    named |= set(re.findall(r'_cuda": \{"(\w+)":', SCRIPT.read_text()))
    assert named == {name.partition(".")[2] for name in written()}
