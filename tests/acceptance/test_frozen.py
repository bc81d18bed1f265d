"""A process that is stopped costs the manager no memory, and goes on where it was when it continues."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

MIB = 1024 * 1024

LOUD = """
from computefarm import needs
def task_loud():
    for n in range(6):
        yield {{
            "name": str(n),
            "actions": [f"while [ ! -e {gate} ]; do sleep 0.05; done; "
                        f"yes 'a line that is as long as lines of compilers often are' | head -c 40000000"],
            "meta": needs("shell", cache=False),
        }}
"""
MANY = """
from computefarm import needs
def task_t():
    for n in range(400):
        yield {"name": str(n), "actions": [f"echo {n}"], "meta": needs("shell", cache=False)}
"""


class Runs:
    """Majordomos beside the test."""

    def __init__(self) -> None:
        self.all: list[subprocess.Popen[bytes]] = []

    def start(self, machine: Any, folder: Path, dodo: str, *command: str) -> subprocess.Popen[bytes]:
        folder.mkdir()
        (folder / "dodo.py").write_text(dodo)
        with (folder / "said").open("wb") as said:
            run = subprocess.Popen(
                ["majordomo", *command],
                cwd=folder,
                env=machine.environ,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        self.all.append(run)
        return run


@pytest.fixture
def runs() -> Iterator[Runs]:
    made = Runs()
    yield made
    for run in made.all:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()


def memory(farm: Any) -> int:
    return int(psutil.Process(farm.manager.pid).memory_info().rss)


def test_a_frozen_majordomo_does_not_grow_the_manager(
    farm: Any, runs: Runs, tmp_path: Path, until: Callable[..., None]
) -> None:
    made = farm(1, "shell", slots=3)
    gate = tmp_path / "gate"
    loud = runs.start(made.here, tmp_path / "loud", LOUD.format(gate=gate), "run")
    until(lambda: made.status()["tasks"]["running"] > 0, "loud tasks", made.logs)
    before = memory(made)
    loud.send_signal(signal.SIGSTOP)
    gate.touch()
    other = runs.start(made.here, tmp_path / "many", MANY, "run")
    highest = before

    def ended() -> bool:
        nonlocal highest
        highest = max(highest, memory(made))
        return other.poll() is not None

    until(ended, "end of the other run", made.logs, 60)
    assert other.returncode == 0, (tmp_path / "many" / "said").read_text()
    # Six attempts print 240 MB in all.
    assert highest - before < 80 * MIB, f"{(highest - before) // MIB} MiB more"
    loud.send_signal(signal.SIGCONT)
    assert loud.wait(90) == 0, (tmp_path / "loud" / "said").read_text()[-3000:] + made.logs()


def test_a_frozen_worker_does_not_grow_the_manager(
    farm: Any, runs: Runs, tmp_path: Path, until: Callable[..., None]
) -> None:
    made = farm(2, "shell")
    frozen = made.workers[0]
    before = memory(made)
    frozen.send_signal(signal.SIGSTOP)
    other = runs.start(made.here, tmp_path / "many", MANY, "run")
    until(lambda: other.poll() is not None, "end of the run", made.logs, 60)
    assert other.returncode == 0, (tmp_path / "many" / "said").read_text()
    assert memory(made) - before < 60 * MIB
    frozen.send_signal(signal.SIGCONT)
    until(lambda: len(made.status()["workers"]) == 2, "the worker again", made.logs)


def test_a_frozen_onlooker_does_not_grow_the_manager(
    farm: Any, runs: Runs, tmp_path: Path, until: Callable[..., None]
) -> None:
    made = farm(1, "shell", slots=2)
    onlooker = runs.start(made.here, tmp_path / "look", MANY, "status", "-i", "0.1")
    until(lambda: (tmp_path / "look" / "said").stat().st_size > 0, "what it shows", made.logs)
    before = memory(made)
    onlooker.send_signal(signal.SIGSTOP)
    other = runs.start(made.here, tmp_path / "many", MANY, "run")
    until(lambda: other.poll() is not None, "end of the run", made.logs, 60)
    assert other.returncode == 0, (tmp_path / "many" / "said").read_text()
    assert memory(made) - before < 60 * MIB
    onlooker.send_signal(signal.SIGCONT)
