"""Processes of the farm die or are told to end: no task is lost, and none goes on behind anybody's back."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

MakeFarm = Callable[..., Any]
MakeProject = Callable[..., Any]
Until = Callable[..., None]


def record(machine: Any, project: Any) -> dict[str, Any]:
    """Return the last run's record of the one task."""
    [task] = machine.json("history", cwd=project.folder)["tasks"]
    return dict(task)


def worker_of(place: Any, project: Any) -> Any:
    """Return the worker's process under which the task's first process runs."""
    pids = {process.pid: process for process in place.workers}
    [found] = [pids[one.pid] for one in psutil.Process(project.processes()[0]).parents() if one.pid in pids]
    return found


def test_a_killed_worker(farm: MakeFarm, project: MakeProject, until: Until) -> None:
    place, work = farm(2, "shell"), project()
    run = work.start(place.here)
    until(lambda: len(work.processes()) == 2, "running task", place.logs)
    first = work.processes()
    killed = worker_of(place, work)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    died_at = time.monotonic()

    until(lambda: work.times() == 2, "second attempt", place.logs)
    took_s = time.monotonic() - died_at
    until(lambda: not set(first) & set(work.living()), "end of the first attempt", place.logs)
    work.open()
    assert run.wait(30) == 0, work.said()
    # Known from the connection's end, not from silence, which would take a lease of 6 s.
    assert took_s < 5
    told = record(place.here, work)
    assert [one["outcome"] for one in told["attempts"]] == ["lost", "succeeded"]
    assert (told["attempt"], told["outcome"]) == (2, "succeeded")
    until(lambda: not work.living(), "end of everything", place.logs)


def test_a_killed_majordomo(farm: MakeFarm, project: MakeProject, until: Until) -> None:
    place, work = farm(1, "shell"), project()
    run = work.start(place.here)
    until(lambda: len(work.processes()) == 2, "running task", place.logs)
    run.kill()
    run.wait()

    until(lambda: not work.living(), "end of its task, with the session's lease", place.logs, 45)
    until(lambda: place.status()["tasks"] == {"waiting": 0, "running": 0}, "empty farm", place.logs)
    assert [one["state"] for one in place.status()["workers"]] == ["idle"]
    work.open()
    place.here.majordomo("run", cwd=work.folder)


def test_a_killed_majordomo_with_the_embedded_farm(machine: Any, project: MakeProject, until: Until) -> None:
    work = project()
    run = work.start(machine)
    until(lambda: len(work.processes()) == 2, "running task", work.said)
    run.kill()
    run.wait()
    until(lambda: not work.living(), "end of its task", work.said)


def test_a_killed_spawner(farm: MakeFarm, project: MakeProject, until: Until) -> None:
    place, work = farm(1, "shell"), project()
    run = work.start(place.here)
    until(lambda: len(work.processes()) == 2, "running task", place.logs)
    spawner = psutil.Process(work.processes()[0]).parent()
    assert spawner is not None
    assert spawner.pid != place.workers[0].pid
    first = work.processes()
    spawner.kill()

    until(lambda: work.times() == 2, "second attempt", place.logs)
    until(lambda: not set(first) & set(work.living()), "end of the first attempt", place.logs)
    work.open()
    assert run.wait(30) == 0, work.said()
    told = record(place.here, work)
    assert (told["outcome"], len(told["attempts"])) == ("succeeded", 2)
    assert place.workers[0].poll() is None


def test_a_majordomo_that_is_stopped_and_goes_on(machine: Any, project: MakeProject, until: Until) -> None:
    """Ctrl-Z and `fg`: the time in between is nobody's silence."""
    work = project()
    run = work.start(machine)
    until(lambda: work.times() == 1, "running task", work.said)
    run.send_signal(signal.SIGSTOP)
    stopped_at = time.monotonic()
    until(lambda: time.monotonic() - stopped_at > 7, "longer than a lease", work.said)
    run.send_signal(signal.SIGCONT)
    work.open()
    assert run.wait(30) == 0, work.said()
    assert work.times() == 1


def test_drain(farm: MakeFarm, project: MakeProject, until: Until) -> None:
    place, work, later = farm(1, "shell"), project(), project("later", last="echo later")
    run = work.start(place.here)
    until(lambda: work.times() == 1, "running task", place.logs)
    [worker] = place.machines[1:]
    done = worker.call("cf-worker", "drain", cwd=place.folder)
    assert (done.returncode, "draining" in done.stdout) == (0, True), done.stderr
    until(lambda: place.status()["workers"][0]["state"] == "draining", "draining worker", place.logs)

    second = later.start(place.here)
    until(lambda: sum(place.status()["tasks"].values()) == 2, "second task", place.logs)
    assert place.workers[0].poll() is None
    assert work.times() == 1
    work.open()
    assert run.wait(30) == 0, work.said()
    assert place.workers[0].wait(20) == 0
    assert record(place.here, work)["outcome"] == "succeeded"
    assert work.times() == 1
    assert second.poll() is None
    place.add_worker()
    assert second.wait(30) == 0, later.said()


def test_stop_ends_task_trees(farm: MakeFarm, project: MakeProject, until: Until) -> None:
    place, work = farm(1, "shell"), project()
    run = work.start(place.here)
    until(lambda: len(work.processes()) == 2, "running task", place.logs)
    [worker] = place.machines[1:]
    # Its parent, this test, has not waited for it: it stays behind as a zombie.
    done = worker.call("cf-worker", "stop", cwd=place.folder)
    assert (done.returncode, "stopped" in done.stdout) == (0, True), done.stdout + done.stderr
    assert not work.living()
    assert place.workers[0].wait(5) == 0
    private = list((worker.home / "cache").glob("private/*/*"))
    assert private == []
    assert worker.call("cf-worker", "stop", cwd=place.folder).stdout == "no worker runs here\n"

    place.add_worker()
    until(lambda: work.times() == 2, "second attempt", place.logs)
    work.open()
    assert run.wait(30) == 0, work.said()
    monitors = [one for one in worker.home.glob("state/run/monitor-*.json") if one.exists()]
    until(lambda: not [one for one in monitors if one.exists()], "end of the monitor", place.logs)


def test_flags_that_no_manager_would_take(machine: Any, tmp_path: Path) -> None:
    for words, text in (
        (("--name", "a/b"), "--name"),
        (("--weight", "0"), "--weight"),
        (("--slots", "0"), "--slots"),
        (("--max-load", "nan"), "--max-load"),
    ):
        done = machine.call("cf-worker", "--capability", "shell", *words, cwd=tmp_path)
        assert done.returncode == 3, done.stderr
        assert text in done.stderr
        assert "Traceback" not in done.stderr
