"""Kernels that are compiled once for all tests, and fresh plots."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from computefarm.worker_api.kernel import Context


@pytest.fixture(scope="session")
def context(kernel_cache: Path) -> Context:
    return Context(cache=str(kernel_cache), scratch={})


@pytest.fixture(scope="session")
def chiapos() -> Any:
    return pytest.importorskip("chiapos", reason="the oracle is the chiapos wheel (Linux x86-64 only)")


PLOT = """
import secrets, sys
import chiapos
folder, k = sys.argv[1], int(sys.argv[2])
plotter = chiapos.DiskPlotter()
plotter.create_plot_disk(
    folder, folder, folder, "fresh.plot", k, b"memo", secrets.token_bytes(32), 11, 0, 4000, 2, False
)
"""


def make_plot(folder: Path, k: int) -> Path:
    """Return a plot with an id that nobody has seen.

    A process of its own makes it: chiapos lets its process open no more than 600 files from then on.
    """
    subprocess.run([sys.executable, "-c", PLOT, str(folder), str(k)], check=True, stdout=subprocess.DEVNULL)
    return folder / "fresh.plot"


@pytest.fixture(scope="session")
def fresh_plot(chiapos: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Return what makes a plot of a size; one for each size."""
    return functools.cache(lambda k: make_plot(tmp_path_factory.mktemp("plots"), k))


@pytest.fixture(scope="session", params=[18, 20])
def plot(request: pytest.FixtureRequest, fresh_plot: Callable[[int], Path]) -> Path:
    """Return a small plot."""
    return fresh_plot(request.param)
