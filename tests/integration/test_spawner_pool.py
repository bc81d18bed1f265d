"""Several spawners behind one interface: shares, recall, death of one."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from computefarm.sandbox.pool import SpawnerPool
from computefarm.sandbox.spawner import Ended, Event, Launch, SpawnerDied, Started

ENV = (("PATH", os.environ["PATH"]),)


class Owner:
    """Drives a pool as a worker's loop would."""

    def __init__(self, pool: SpawnerPool) -> None:
        self.pool = pool
        self.events: list[Event] = []
        self.deaths: list[SpawnerDied] = []

    def until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not done():
            assert time.monotonic() < deadline, self.events
            self.pool.flush()
            ready, _, _ = select.select(self.pool.filenos(), [], [], 0.1)
            for fileno in ready:
                try:
                    self.events += self.pool.receive(fileno)
                except SpawnerDied as death:
                    self.deaths.append(death)
                    list(self.pool.replace_dead())

    def ended(self) -> dict[int, Ended]:
        return {event.ticket: event for event in self.events if isinstance(event, Ended)}

    def started(self) -> dict[int, int]:
        return {event.ticket: event.pid for event in self.events if isinstance(event, Started)}


@pytest.fixture
def owner() -> Iterator[Owner]:
    pool = SpawnerPool(slots=2, width=2)
    yield Owner(pool)
    pool.close()


def launch(ticket: int, script: str, folder: Path) -> Launch:
    return Launch(ticket=ticket, commands=(("/bin/sh", "-c", script),), directory=str(folder), env=ENV)


def test_a_few_slots_need_one_spawner_and_many_need_a_few() -> None:
    for slots, count in ((1, 1), (7, 1), (8, 2), (64, 4)):
        pool = SpawnerPool(slots=slots)
        try:
            assert len(pool.pids) == count
        finally:
            pool.close()


def test_tasks_go_to_the_spawner_with_most_room(owner: Owner, tmp_path: Path) -> None:
    for ticket in (1, 2):
        owner.pool.launch(launch(ticket, "echo $PPID; sleep 0.2", tmp_path))
    owner.until(lambda: len(owner.started()) == 2)
    assert owner.ended() == {}

    owner.until(lambda: len(owner.ended()) == 2)
    assert all(event.exit_code == 0 for event in owner.ended().values())


def test_a_task_that_waits_can_be_recalled_and_one_that_runs_cannot(owner: Owner, tmp_path: Path) -> None:
    for ticket in (1, 2, 3):
        owner.pool.launch(launch(ticket, "sleep 0.5", tmp_path))
    owner.until(lambda: len(owner.started()) == 2)

    for ticket in (1, 2, 3):
        owner.pool.recall(ticket)
    owner.until(lambda: len(owner.ended()) == 3)

    assert {ticket: event.halted for ticket, event in owner.ended().items()} == {1: False, 2: False, 3: True}
    assert 3 not in owner.started()


def test_the_death_of_one_spawner_costs_its_own_tasks_only(owner: Owner, tmp_path: Path) -> None:
    for ticket in (1, 2):
        owner.pool.launch(launch(ticket, "sleep 1", tmp_path))
    owner.until(lambda: len(owner.started()) == 2)

    os.kill(owner.pool.pids[0], signal.SIGKILL)
    owner.until(lambda: owner.deaths != [])
    [lost] = owner.deaths[0].tickets
    owner.pool.launch(launch(3, "true", tmp_path))
    owner.until(lambda: len(owner.ended()) == 2)

    assert set(owner.ended()) == {1, 2, 3} - {lost}
    assert len(owner.pool.pids) == 2
