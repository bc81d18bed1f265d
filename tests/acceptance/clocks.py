"""Machines with a wrong wall clock, for the acceptance tests."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def wrong_clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the library that lies about the time of day."""
    if shutil.which("gcc") is None:
        pytest.skip("CLOCKS NOT TESTED: the library that bends them needs gcc, which is not installed")
    library = tmp_path_factory.mktemp("clock") / "clock.so"
    source = Path(__file__).with_name("clock.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"], check=True)
    clock = library.with_suffix(".offset")
    clock.write_text("-3600")
    told = subprocess.run(
        ["date", "+%s"], env=lie(library, clock), capture_output=True, text=True, check=True
    ).stdout
    assert abs(int(told) + 3600 - time.time()) < 60, "the lie is believed"
    return library


def lie(library: Path, clock: Path) -> dict[str, str]:
    """Return the environment of a process whose wall clock is wrong by the seconds in a file."""
    return {"LD_PRELOAD": str(library), "WRONG_CLOCK": str(clock)}
