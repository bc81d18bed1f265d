"""Drivers that do not work, made for the purpose: a worker says so in a line, and is not harmed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from computefarm.workers.recompute.devices import find

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="NOT TESTED: a driver is made with gcc")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("int cuInit(unsigned flags) { return 100; }", "the NVIDIA driver finds no GPU"),
        ("int cuInit(unsigned flags) { return 999; }", "the NVIDIA driver does not start: error 999"),
        ("int other(void) { return 0; }", "libcuda.so.1 is not the NVIDIA driver"),
        ("void abort(void); int cuInit(unsigned flags) { abort(); return 0; }", "ended with code -6"),
        ("int pause(void); int cuInit(unsigned flags) { return pause(); }", "not answered within 1 s"),
        ("int cuInit(unsigned flags) { return 0; }", "CUDA cannot be used"),
    ],
    ids=["no GPU", "broken", "another library", "crashing", "hanging", "without its functions"],
)
def test_a_driver_that_does_not_work_is_a_reason_in_a_line(tmp_path: Path, code: str, words: str) -> None:
    (tmp_path / "driver.c").write_text(code)
    library = tmp_path / "libcuda.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, tmp_path / "driver.c"], check=True)
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("CUDA", "NUMBA", "CF_"))
    }

    found = find({**environ, "NUMBA_CUDA_DRIVER": str(library)}, timeout_s=1 if "pause" in code else 60)

    assert found.devices == ()
    assert words in found.reason
    assert "\n" not in found.reason
