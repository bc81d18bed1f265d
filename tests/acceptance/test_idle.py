"""A farm with nothing to do does nothing: no loop may spin once a run has ended."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

DODO = """
from computefarm import needs


def task_many():
    for number in range(100):
        yield {"name": str(number), "actions": ["true"], "meta": needs("shell", cache=False)}
"""


def used_s(pids: list[int]) -> dict[int, float]:
    """Return the CPU seconds of each process so far."""
    times = {pid: psutil.Process(pid).cpu_times() for pid in pids}
    return {pid: each.user + each.system for pid, each in times.items()}


@pytest.mark.parametrize("killed", [False, True], ids=["after a run", "after a killed run"])
def test_nobody_spins(farm: Callable[..., Any], tmp_path: Path, killed: bool) -> None:
    place = farm(1, "shell", slots=2)
    (tmp_path / "dodo.py").write_text(DODO.replace("true", "sleep 0.1" if killed else "true"))
    if killed:
        run = place.here.start("majordomo", "run", "--dir", str(tmp_path), "-f", str(tmp_path / "dodo.py"))
        deadline = time.monotonic() + 30
        while not place.status()["tasks"]["running"]:
            assert time.monotonic() < deadline, place.logs()
        run.send_signal(signal.SIGKILL)
        run.wait()
        while place.status()["tasks"]["running"] or place.status()["tasks"]["waiting"]:
            assert time.monotonic() < deadline, place.logs()
    else:
        place.here.majordomo("run", cwd=tmp_path)

    pids = [process.pid for process in (place.manager, *place.workers)]
    pids += [child.pid for pid in pids for child in psutil.Process(pid).children()]
    before = used_s(pids)
    time.sleep(2)  # what is measured is how much of this time they use
    after = used_s(pids)

    # A spinning loop uses all of it; a heartbeat now and then, hundredths.
    assert all(after[pid] - before[pid] < 1.0 for pid in pids), (before, after)
