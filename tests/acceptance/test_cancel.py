"""Ending what runs: `majordomo cancel`, Ctrl-C once and twice, a killed majordomo, and going on after it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from computefarm.host.processes import read_process

from .conftest import Farm, Machine

MakeFarm = Callable[..., Any]
Until = Callable[..., None]

SOON_S = 2.5
"""Processes are gone within two seconds of the word; half a second for the test to see it."""


class Stubborn:
    """A folder whose tasks ignore TERM and INT, have children in sessions of their own, and wait for a gate."""

    def __init__(self, folder: Path, tasks: int = 2, *, needs: str = 'needs("shell", cache=False)') -> None:
        self.folder = folder
        self.pids = folder / "pids"
        self.gate = folder / "gate"
        self.log = folder / "run.log"
        folder.mkdir(parents=True)
        action = (
            f"trap '' INT TERM HUP; echo $$ >> {self.pids}; setsid sleep 1000 & echo $! >> {self.pids}; "
            f"echo at work; while [ ! -e {self.gate} ]; do sleep 0.05; done; kill -KILL $!; echo done > out%d.txt"
        )
        (folder / "dodo.py").write_text(
            "from computefarm import needs\n\n\ndef task_work():\n"
            f"    for n in range({tasks}):\n"
            f"        yield {{'name': str(n), 'actions': [{action!r}.replace('%d', str(n))],\n"
            f"               'targets': [f'out{{n}}.txt'], 'task_dep': ['first'], 'meta': {needs}}}\n\n\n"
            "def task_first():\n"
            "    return {'actions': ['cat in.txt > first.txt'], 'targets': ['first.txt'],\n"
            "            'file_dep': ['in.txt'], 'meta': needs('shell')}\n\n\n"
            "def task_last():\n"
            "    return {'actions': ['cat out*.txt > all.txt'], 'targets': ['all.txt'],\n"
            f"            'file_dep': [f'out{{n}}.txt' for n in range({tasks})], 'meta': needs('shell')}}\n"
        )
        (folder / "in.txt").write_text("in\n")
        self.runs: list[subprocess.Popen[bytes]] = []

    def start(self, place: Machine, *words: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            run = subprocess.Popen(
                ["majordomo", "run", *words], cwd=self.folder, env=place.environ, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self.runs.append(run)
        return run

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def written(self) -> list[int]:
        return [int(pid) for pid in self.pids.read_text().split()] if self.pids.exists() else []

    def living(self) -> list[int]:
        return [pid for pid in self.written() if (found := read_process(pid)) is not None and not found.ended]

    def busy(self, tasks: int = 2) -> bool:
        return len(self.written()) == 2 * tasks and (self.folder / "first.txt").exists()

    def end(self) -> None:
        for run in self.runs:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
                run.wait()
        for pid in self.living():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def stubborn(tmp_path: Path) -> Iterator[Callable[..., Stubborn]]:
    made: list[Stubborn] = []

    def make(name: str = "project", **more: Any) -> Stubborn:
        made.append(one := Stubborn(tmp_path / name, **more))
        return one

    yield make
    for one in made:
        one.end()


@pytest.fixture(params=["farm", "embedded"])
def place(request: pytest.FixtureRequest) -> Any:
    """A machine with a farm of two slots and more, and one without."""
    if request.param == "embedded":
        return request.getfixturevalue("machine")
    return request.getfixturevalue("farm")(2, "shell", slots=2).here


@pytest.fixture
def quick_farm(tmp_path: Path) -> Iterator[Farm]:
    """A farm whose leases are short."""
    made = Farm(tmp_path / "quick", "shell", slots=2)
    made.here.environ["CF_HEARTBEAT"] = "300ms"
    try:
        made.start(1)
        yield made
    finally:
        made.stop()


# --- majordomo cancel ---------------------------------------------------------------------------------


def test_a_run_is_cancelled_from_another_terminal(
    place: Any, stubborn: Callable[..., Stubborn], until: Until
) -> None:
    work = stubborn()
    run = work.start(place, "-n", "4")
    until(work.busy, "running tasks", work.said)

    began = time.monotonic()
    text = place.majordomo("cancel", cwd=work.folder)
    until(lambda: not work.living(), "end of all processes", work.said, 10)
    took_s = time.monotonic() - began
    assert run.wait(20) == 1
    assert took_s < SOON_S + 1, f"{took_s:.1f} s"

    assert "cancelled" in text
    assert "work:0" in text
    assert "work:1" in text
    said = work.said()
    assert "the run was cancelled by " in said
    assert "Traceback" not in said
    ended = {task["task"]: task["outcome"] for task in place.json("history", cwd=work.folder)["tasks"]}
    assert ended == {
        "first": "succeeded", "work:0": "cancelled", "work:1": "cancelled", "last": "cancelled",
    }  # fmt: skip
    # What had finished is kept, and the rest can be done now.
    work.gate.touch()
    text = place.majordomo("run", cwd=work.folder)
    assert "1 up to date" in text
    assert (work.folder / "all.txt").read_text() == "done\ndone\n"


def test_one_task_is_cancelled_and_with_continue_the_rest_goes_on(
    place: Any, stubborn: Callable[..., Stubborn], until: Until
) -> None:
    work = stubborn()
    run = work.start(place, "-n", "4", "-c")
    until(work.busy, "running tasks", work.said)

    text = place.majordomo("cancel", "work:0", cwd=work.folder)
    assert "work:0" in text
    assert "work:1" not in text
    until(lambda: len(work.living()) == 2, "end of one task", work.said, 10)
    nothing = place.majordomo("cancel", "nosuch", cwd=work.folder, code=3)
    assert "no unfinished task is called nosuch" in nothing
    assert "work:1" in nothing
    assert run.poll() is None
    work.gate.touch()
    assert run.wait(20) == 1, work.said()

    ended = {task["task"]: task for task in place.json("history", cwd=work.folder)["tasks"]}
    assert ended["work:0"]["outcome"] == "cancelled"
    assert "cancelled by " in ended["work:0"]["reason"]
    assert ended["work:1"]["outcome"] == "succeeded"
    assert ended["last"]["outcome"] == "blocked"
    assert "work:0: cancelled by " in work.said()


def test_a_run_of_local_tasks_is_cancelled_too(machine: Any, tmp_path: Path, until: Until) -> None:
    folder = tmp_path / "local"
    folder.mkdir()
    (folder / "dodo.py").write_text(
        "def task_slow():\n    return {'actions': ['touch started; sleep 1000']}\n"
    )
    run = subprocess.Popen(
        ["majordomo", "run"], cwd=folder, env=machine.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True,
    )  # fmt: skip
    try:
        until(lambda: (folder / "started").exists(), "running task", str)
        text = machine.majordomo("cancel", "slow", cwd=folder, code=3)
        assert "runs a task in its own process" in text or "ends only with it" in text
        machine.majordomo("cancel", cwd=folder)
        said, _ = run.communicate(timeout=20)
        assert run.returncode == 1, said
        assert "the run was cancelled by " in said
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()


def test_nothing_to_cancel(
    machine: Any, tmp_path: Path, stubborn: Callable[..., Stubborn], until: Until
) -> None:
    text = machine.majordomo("cancel", cwd=tmp_path, code=3)
    assert "no run goes on" in text

    work = stubborn(tasks=1)
    work.start(machine)
    until(lambda: work.busy(1), "running task", work.said)
    text = machine.majordomo("cancel", cwd=tmp_path, code=3)
    assert str(work.folder) in text
    assert "majordomo cancel --run" in text
    named = machine.majordomo("cancel", "--run", "19990101-no-such-run", cwd=tmp_path, code=3)
    assert str(work.folder) in named


def test_a_run_is_cancelled_from_another_machine_with_the_same_key(
    farm: MakeFarm, stubborn: Callable[..., Stubborn], tmp_path: Path, until: Until
) -> None:
    place, work = farm(1, "shell", slots=2), stubborn()
    run = work.start(place.here)
    until(work.busy, "running tasks", work.said)
    identity = place.here.json("history", cwd=work.folder)["run"]
    # The same user's keys on another machine, which knows nothing of the run.
    other = Machine(tmp_path / "other")
    shutil.copytree(place.here.home / "config", other.home / "config")

    text = other.majordomo("cancel", cwd=tmp_path, code=3)
    assert identity in text, "it says what runs"
    assert "nosuch" in other.majordomo("cancel", "nosuch", "--run", identity, cwd=tmp_path, code=3)
    began = time.monotonic()
    text = other.majordomo("cancel", "--run", identity, cwd=tmp_path)
    assert "2 tasks cancelled" in text
    until(lambda: not work.living(), "end of all processes", work.said, 10)
    assert time.monotonic() - began < SOON_S + 1
    assert run.wait(20) == 1, work.said()
    assert "the run was cancelled by " in work.said()

    stranger = Machine(tmp_path / "stranger")
    line = place.here.call("cf-taskmanager", "invite", "--role", "client", cwd=place.folder).stdout.strip()
    stranger.majordomo("join", line, cwd=tmp_path)
    second = work.start(place.here)
    until(lambda: len(work.living()) == 4, "running tasks", work.said)
    identity = place.here.json("history", cwd=work.folder)["run"]
    refused = stranger.majordomo("cancel", "--run", identity, cwd=tmp_path, code=6)
    assert "belongs to somebody else" in refused
    assert len(work.living()) == 4
    work.gate.touch()
    assert second.wait(20) == 0, work.said()


def test_a_shared_run_is_cancelled_only_when_the_last_one_cancels(
    farm: MakeFarm, project: Callable[..., Any], until: Until
) -> None:
    place, one, two = farm(1, "shell", slots=2), project("one"), project("two")
    first, second = one.start(place.here), two.start(place.here)
    until(lambda: one.times() == 1, "running task", place.logs)
    until(lambda: sum(place.status()["tasks"].values()) == 2, "both submissions", place.logs)

    place.here.majordomo("cancel", cwd=one.folder)
    assert first.wait(20) == 1, one.said()
    assert second.poll() is None
    assert len(one.living()) == 2, "the other run's task goes on"
    place.here.majordomo("cancel", cwd=two.folder)
    assert second.wait(20) == 1, two.said()
    until(lambda: not one.living(), "end of the task", place.logs, 10)


# --- signals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_once_ends_it_cleanly_and_twice_at_once(
    times: int, place: Any, stubborn: Callable[..., Stubborn], until: Until
) -> None:
    work = stubborn()
    run = work.start(place, "-n", "4")
    until(work.busy, "running tasks", work.said)

    began = time.monotonic()
    for _ in range(times):
        run.send_signal(signal.SIGINT)
    assert run.wait(20) == 130
    if times == 1:
        until(lambda: not work.living(), "end of all processes", work.said, 10)
        took_s = time.monotonic() - began
        assert took_s < SOON_S, f"{took_s:.1f} s"
        said = work.said()
        assert "interrupted" in said
        assert "majordomo run" in said.split("interrupted")[-1], "it says how to go on"
        ended = {task["task"]: task["outcome"] for task in place.json("history", cwd=work.folder)["tasks"]}
        assert ended["first"] == "succeeded"
        assert ended["work:0"] == "cancelled"
    else:
        assert time.monotonic() - began < 2
        until(lambda: not work.living(), "end of all processes", work.said, 10)
        took_s = time.monotonic() - began
        assert took_s < SOON_S + 0.5, f"{took_s:.1f} s"
    work.gate.touch()
    if times == 1:
        assert "1 up to date" in place.majordomo("run", cwd=work.folder)


def test_the_tasks_of_a_killed_run_end_with_its_lease(
    quick_farm: Farm, stubborn: Callable[..., Stubborn], until: Until
) -> None:
    work = stubborn()
    run = work.start(quick_farm.here)
    until(work.busy, "running tasks", work.said)
    run.kill()
    run.wait()
    killed = time.monotonic()
    time.sleep(1.0)
    assert len(work.living()) == 4, "whoever comes back in time finds them running"
    until(lambda: not work.living(), "end of the tasks", quick_farm.logs, 20)
    assert time.monotonic() - killed < 15 * 0.3 + 2 * 0.3 + SOON_S


# --- going on -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("restart", [False, True], ids=["same manager", "manager restarted between"])
def test_a_killed_run_that_is_started_again_goes_on_with_what_runs(
    restart: bool, farm: MakeFarm, stubborn: Callable[..., Stubborn], until: Until
) -> None:
    place, work = farm(1, "shell", slots=2), stubborn(needs='needs("shell")')
    run = work.start(place.here)
    until(work.busy, "running tasks", work.said)
    before = work.written()
    run.kill()
    run.wait()
    if restart:
        place.manager.kill()
        place.manager.wait()
        place.manager = place.here.start("cf-taskmanager", "start", "--listen", place.address)
        until(lambda: len(place.status().get("workers", ())) == 1, "worker", place.logs)

    again = work.start(place.here)
    until(lambda: sum(place.status().get("tasks", {}).values()) >= 2, "submissions", place.logs)
    assert work.living() == before, "the very same processes go on"
    work.gate.touch()
    assert again.wait(30) == 0, work.said() + place.logs()
    assert work.written() == before, "no action ran twice"
    assert (work.folder / "all.txt").read_text() == "done\ndone\n"


def test_what_finished_while_the_run_was_dead_is_not_run_again(
    farm: MakeFarm, stubborn: Callable[..., Stubborn], until: Until
) -> None:
    place, work = farm(1, "shell", slots=2), stubborn(needs='needs("shell")')
    run = work.start(place.here)
    until(work.busy, "running tasks", work.said)
    before = work.written()
    run.kill()
    run.wait()
    work.gate.touch()
    until(lambda: not work.living(), "end of the tasks", place.logs)

    text = place.here.majordomo("run", cwd=work.folder)
    assert work.written() == before, "no action ran twice"
    assert "2 from cache" in text
    assert (work.folder / "all.txt").read_text() == "done\ndone\n"


def test_a_manager_that_is_gone_for_good_ends_the_run_in_time_and_successes_are_kept(
    farm: MakeFarm, stubborn: Callable[..., Stubborn], until: Until
) -> None:
    place, work = farm(1, "shell", slots=2), stubborn()
    run = work.start(place.here)
    until(work.busy, "running tasks", work.said)
    place.manager.kill()
    place.manager.wait()
    began = time.monotonic()
    assert run.wait(20) == 4, work.said()
    assert time.monotonic() - began < 12
    assert "TaskManager" in work.said()
    assert "--farm local" in work.said()
    work.gate.touch()
    text = place.here.majordomo("run", "--farm", "local", cwd=work.folder)
    assert "1 up to date" in text, "first.txt was remembered"
