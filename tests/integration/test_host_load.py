"""The load sampler against processes whose CPU time is known from elsewhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from computefarm.host.load import LoadSampler
from computefarm.host.pids import OwnProcesses

BURN = "while True: pass"


@pytest.fixture
def own(tmp_path: Path) -> OwnProcesses:
    own = OwnProcesses(tmp_path)
    own.register()
    return own


@pytest.fixture
def child() -> Iterator[int]:
    """A child of this process that burns CPU time."""
    with subprocess.Popen([sys.executable, "-c", BURN]) as process:
        yield process.pid
        process.kill()


@pytest.fixture
def stranger() -> Iterator[int]:
    """The same as nobody's child."""
    started = subprocess.run(
        ["/bin/sh", "-c", '"$0" -c "$1" >/dev/null 2>&1 & echo $!', sys.executable, BURN],
        capture_output=True,
        text=True,
        check=True,
    )
    yield int(started.stdout)
    os.kill(int(started.stdout), signal.SIGKILL)


def cores_used(pid: int) -> Callable[[], float]:
    """Return a function that tells how many cores `pid` has used on average since now."""
    process = psutil.Process(pid)
    begun, before = time.monotonic(), sum(process.cpu_times()[:2])
    return lambda: (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - begun)


def burn_a_second() -> None:
    time.sleep(1.0)  # the interval itself is what is measured


def test_a_child_of_ours_is_our_share(own: OwnProcesses, child: int) -> None:
    sampler = LoadSampler(own)
    used = cores_used(child)
    burn_a_second()
    report = sampler.sample(time.monotonic())

    assert report.task_load * report.cpus == pytest.approx(used(), abs=0.15)
    assert used() > 0.2, "the machine is too busy for this test to mean anything"


def test_a_stranger_is_load(own: OwnProcesses, stranger: int) -> None:
    sampler = LoadSampler(own)
    used = cores_used(stranger)
    burn_a_second()
    report = sampler.sample(time.monotonic())

    assert report.load * report.cpus >= used() - 0.15
    assert report.task_load * report.cpus < 0.3


def test_children_that_ended_meanwhile_are_our_share_too(own: OwnProcesses) -> None:
    sampler = LoadSampler(own)
    begun = os.times()
    while os.times().elapsed - begun.elapsed < 1.0:
        subprocess.run([sys.executable, "-S", "-c", "sum(range(10**6))"], check=True)
    ended = os.times()
    report = sampler.sample(time.monotonic())

    truth = sum(ended[:4]) - sum(begun[:4])
    assert report.task_load * report.cpus == pytest.approx(truth / (ended.elapsed - begun.elapsed), abs=0.2)


def test_a_process_keeps_its_place_when_its_parent_dies(own: OwnProcesses) -> None:
    with subprocess.Popen(
        ["/bin/sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!; read line"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        orphan = int(parent.stdout.readline())
        try:
            assert {parent.pid, orphan} <= own.tree().keys()
            parent.communicate("\n", timeout=10)

            assert orphan in own.tree()
            assert parent.pid not in own.tree()
        finally:
            os.kill(orphan, signal.SIGKILL)
