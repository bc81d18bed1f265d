"""Kernels that are compiled once for all tests, and fresh plots."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from computefarm.worker_api.kernel import Context


@pytest.fixture(scope="session")
def context(kernel_cache: Path) -> Context:
    return Context(cache=str(kernel_cache), scratch={})


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Keep what a C library prints from the terminal."""
    kept, null = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(null)


@pytest.fixture(scope="session")
def chiapos() -> Any:
    return pytest.importorskip("chiapos", reason="the oracle is the chiapos wheel (Linux x86-64 only)")


@pytest.fixture(scope="session")
def fresh_plot(chiapos: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Return what makes a plot of a size, with an id that nobody has seen; one for each size."""

    @functools.cache
    def make(k: int) -> Path:
        folder = str(tmp_path_factory.mktemp("plots"))
        with silent():
            chiapos.DiskPlotter().create_plot_disk(
                folder, folder, folder, "fresh.plot", k, b"memo", secrets.token_bytes(32), 11, 0, 4000, 2, False
            )
        return Path(folder) / "fresh.plot"

    return make


@pytest.fixture(scope="session", params=[18, 20])
def plot(request: pytest.FixtureRequest, fresh_plot: Callable[[int], Path]) -> Path:
    """Return a small plot."""
    return fresh_plot(request.param)
