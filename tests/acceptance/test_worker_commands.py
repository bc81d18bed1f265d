"""`cf-worker stop` and `drain`, signals, and what each exits with."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MakeFarm = Callable[..., Any]
MakeProject = Callable[..., Any]
Until = Callable[..., None]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR2, 0)]
)
@pytest.mark.parametrize("with_farm", [False, True])
def test_a_worker_that_is_told_to_end_exits_as_the_teller_expects(
    machine: Any, until: Until, number: signal.Signals, code: int, with_farm: bool
) -> None:
    if with_farm:
        machine.start("cf-taskmanager", "start", "--listen", "tcp://127.0.0.1:0")
    worker = machine.start("cf-worker", "--capability", "shell", "--slots", "1", "--no-monitor")
    said = "connected to farm" if with_farm else "waiting: "
    until(lambda: said in machine.logs(), said, machine.logs)
    os.kill(worker.pid, number)

    assert worker.wait(10) == code, machine.logs()
    assert "Traceback" not in machine.logs()
    assert not list(machine.home.glob("state/run/worker-*.json"))


def test_stop_and_drain_by_name(machine: Any, until: Until, tmp_path: Path) -> None:
    one, two = (
        machine.start("cf-worker", "--capability", "shell", "--name", name, "--no-monitor")
        for name in ("one", "two")
    )
    until(lambda: machine.logs().count("waiting: ") == 2, "two workers", machine.logs)

    wrong = machine.call("cf-worker", "stop", "--name", "three", cwd=tmp_path)
    assert wrong.returncode == 3
    assert "no worker named 'three' runs here; there are: one, two" in wrong.stderr
    stopped = machine.call("cf-worker", "stop", "--name", "one", cwd=tmp_path)
    assert (stopped.returncode, stopped.stdout) == (0, "one: stopped\n"), stopped.stderr
    assert one.wait(5) == 0
    assert two.poll() is None
    drained = machine.call("cf-worker", "drain", "--name", f"two.{two.pid}", cwd=tmp_path)
    assert drained.stdout == "two: draining: it ends when its tasks have ended\n"
    assert two.wait(5) == 0
    none = machine.call("cf-worker", "drain", cwd=tmp_path)
    assert (none.returncode, none.stdout) == (0, "no worker runs here\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, None])
def test_what_drains_can_still_be_stopped_at_once(
    farm: MakeFarm, project: MakeProject, until: Until, number: signal.Signals | None
) -> None:
    place, work = farm(1, "shell"), project()
    work.start(place.here)
    until(lambda: len(work.processes()) == 2, "running task", place.logs)
    [machine] = place.machines[1:]
    machine.call("cf-worker", "drain", cwd=place.folder)
    machine.call("cf-worker", "drain", cwd=place.folder)
    until(lambda: place.status()["workers"][0]["state"] == "draining", "draining worker", place.logs)
    assert place.workers[0].poll() is None
    asked_at = time.monotonic()
    if number is None:
        assert machine.call("cf-worker", "stop", cwd=place.folder).returncode == 0
    else:
        place.workers[0].send_signal(number)

    assert place.workers[0].wait(5) == (143 if number else 0)
    assert not work.living()
    assert time.monotonic() - asked_at < 4


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--tier", "-1"), "--tier -1: 0 or more was expected"),
        (("--weight", "0"), "--weight 0: a number above 0 was expected"),
        (("--weight", "inf"), "--weight inf"),
        (("--slots", "0"), "--slots 0: a worker needs at least one slot"),
        (("--slots", "two"), "invalid int value: 'two'"),
        (("--max-load", "-1"), "--max-load -1: a load per core above 0 was expected"),
        (("--nice", "20"), "--nice 20: a number from 0 to 19 was expected"),
    ],
)
def test_numbers_that_make_no_sense(machine: Any, tmp_path: Path, words: tuple[str, ...], text: str) -> None:
    done = machine.call("cf-worker", "--capability", "shell", *words, cwd=tmp_path)

    assert done.returncode == 3
    assert text in done.stderr
    assert "Traceback" not in done.stderr
