"""A task that takes much more memory than it declared is found, with all that belongs to it."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from computefarm.messages import Action, Run
from computefarm.sandbox.pool import SpawnerPool
from computefarm.sandbox.spawner import Ended, Launch, Started
from computefarm.services.attempts import Execution
from computefarm.services.memory import LOOK_S, MemoryWatch

MIB = 1024 * 1024
TAKES = f"exec {sys.executable} -c \"import time; kept = bytearray(b'x') * 150_000_000; open('ready', 'w'); time.sleep(60)\""
SHARES = (
    f"exec {sys.executable} -c \"import os, time; kept = bytearray(b'x') * 60_000_000; "
    "[os.fork() and None for _ in range(3)]; open('ready', 'w'); time.sleep(60)\""
)


class Worker:
    """One slot, watched by a clock of the test's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pool = SpawnerPool()
        self.now = 100.0
        self.over: list[Execution] = []
        self.seen: set[type] = set()
        self.watch = MemoryWatch(self.pool, self.over.append, lambda: self.now)

    def run(self, command: str, memory: int) -> Execution:
        env = (("PATH", os.environ["PATH"]),)
        self.pool.launch(Launch(1, (("/bin/sh", "-c", command),), str(self.folder), env))
        self.pool.flush()
        execution = Execution(Run(1, 1, "t", b"", 1, memory), Action("shell", (command,)), 1)
        self.until(Started)
        self.watch.watch(execution)
        deadline = time.monotonic() + 20
        while not (self.folder / "ready").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return execution

    def until(self, kind: type) -> None:
        deadline = time.monotonic() + 20
        while kind not in self.seen:
            assert time.monotonic() < deadline, f"no {kind}"
            select.select(self.pool.filenos(), [], [], 1)
            self.seen |= {type(event) for event in self.pool.receive(self.pool.filenos()[0])}

    def look(self) -> None:
        self.now += LOOK_S
        assert self.watch.next_deadline() == self.now
        self.watch.tick(self.now)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    made = Worker(tmp_path)
    yield made
    made.pool.close()


def test_who_takes_too_much_is_named_once_with_the_peak(worker: Worker) -> None:
    execution = worker.run(TAKES, 32 * MIB)
    worker.watch.tick(worker.now)
    assert worker.over == [], "not before it is time"
    worker.look()

    assert worker.over == [execution]
    assert execution.peak > 140_000_000
    assert "declared 32 MiB, ended beyond 112 MiB" in execution.over
    assert worker.watch.next_deadline() is None


def test_who_keeps_to_it_is_left_alone_and_its_peak_is_known(worker: Worker) -> None:
    execution = worker.run(TAKES, 128 * MIB)
    worker.look()

    assert worker.over == []
    assert 140_000_000 < execution.peak < 200_000_000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="NOT TESTED: the mark is read from /proc")
def test_what_has_left_its_parent_and_its_group_counts_too(worker: Worker) -> None:
    execution = worker.run(
        f"setsid -f sh -c '{TAKES.replace(chr(39), chr(92) + chr(34))}' & sleep 60", 32 * MIB
    )
    worker.look()

    assert worker.over == [execution]


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="NOT TESTED: only Linux tells what is shared"
)
def test_what_forks_share_counts_once(worker: Worker) -> None:
    worker.run(SHARES, 32 * MIB)
    worker.look()

    assert worker.over == []


def test_an_ended_task_is_not_looked_for(worker: Worker) -> None:
    execution = worker.run("touch ready", 32 * MIB)
    worker.until(Ended)
    worker.look()
    assert worker.over == []
    worker.watch.forget(execution)
    assert worker.watch.next_deadline() is None
