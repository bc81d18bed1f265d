"""What holds for all tests."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

COMPILE = """
import sys
from computefarm.worker_api.kernel import Context, find, names
for name in ("chia.pos1", "hash.search", "mc.sum"):
    find(name).warmup(Context(cache=sys.argv[1], scratch={}))
"""


def pytest_configure() -> None:
    """Let Ctrl-C reach what the tests start, also where the tests were started in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def kernel_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with all kernels compiled: once, for all the processes that tests run in.

    A machine of its own finds them there as well when it is copied to its `cache/kernels`.
    """
    pytest.importorskip("numba", reason="the recompute kernels need numba (pip install '.[recompute]')")
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    cache, done = root / "kernels", root / "kernels.done"
    with (root / "kernels.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            subprocess.run([sys.executable, "-c", COMPILE, str(cache)], check=True, timeout=540)
            done.touch()
    return cache
