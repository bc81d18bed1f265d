"""`majordomo logs`: live and after, here and from another machine, and never in the way."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from .conftest import Farm, Machine

Make = Callable[..., Farm]
Until = Callable[..., None]

TALK = "echo first; while [ ! -e {gate} ]; do sleep 0.05; done; echo 'a.c:3:5: warning: unused' >&2; echo last >&2"


class Follower:
    """A `majordomo logs -f` in the background."""

    def __init__(self, machine: Machine, folder: Path, *args: str) -> None:
        self.path = folder / f"{machine.home.name}-{time.monotonic_ns()}.txt"
        with self.path.open("wb") as out:
            self.process = subprocess.Popen(
                ["majordomo", "logs", "-f", *args],
                cwd=folder, env=machine.environ, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip

    @property
    def text(self) -> str:
        return self.path.read_text()

    def end(self, patience_s: float = 30) -> int:
        return self.process.wait(patience_s)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


@pytest.fixture
def follow() -> Iterator[Callable[..., Follower]]:
    made: list[Follower] = []

    def start(machine: Machine, folder: Path, *args: str) -> Follower:
        made.append(Follower(machine, folder, *args))
        return made[-1]

    yield start
    for one in made:
        one.kill()


def project(folder: Path, tasks: dict[str, str]) -> Path:
    """Write a dodo file of shell tasks."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = [
        f"def task_{name}():\n    return {{'actions': [{action!r}], 'meta': needs('shell')}}\n"
        for name, action in tasks.items()
    ]
    (folder / "dodo.py").write_text("from computefarm import needs\n" + "\n".join(texts))
    return folder


def run_in_background(machine: Machine, folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "run.log").open("wb") as log:
        return subprocess.Popen(
            ["majordomo", "run", "-a"], cwd=folder, env=machine.environ, stdout=log, stderr=log
        )


def joined(farm: Farm, role: str, name: str) -> Machine:
    """Return another machine that has joined the farm."""
    invited = farm.here.call("cf-taskmanager", "invite", "--role", role, cwd=farm.folder)
    machine = Machine(farm.folder / name)
    done = machine.call("majordomo", "join", invited.stdout.split()[-1], cwd=farm.folder)
    assert done.returncode == 0, done.stderr
    return machine


def records(machine: Machine, folder: Path, *args: str) -> list[dict[str, Any]]:
    done = machine.call("majordomo", "logs", "--json", *args, cwd=folder)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def farm_records(farm: Farm) -> list[dict[str, Any]]:
    paths = sorted((farm.here.home / "state" / "farm-logs" / "default").glob("farm*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]


def test_another_terminal_follows_a_run_of_the_embedded_farm(
    machine: Machine, tmp_path: Path, follow: Callable[..., Follower], until: Until
) -> None:
    gate = tmp_path / "gate"
    folder = project(tmp_path / "p", {"talk": TALK.format(gate=gate), "other": "echo aside"})
    run = run_in_background(machine, folder)
    log = (folder / "run.log").read_text
    until(lambda: "run" in machine.call("majordomo", "history", "--list", cwd=folder).stdout, "a run", log)
    viewers = [follow(machine, folder), follow(machine, folder, "talk"), follow(machine, folder, "--json")]
    until(lambda: all("first" in viewer.text for viewer in viewers), "first line", log)
    assert not any("last" in viewer.text for viewer in viewers)
    gate.touch()
    assert [viewer.end() for viewer in viewers] == [0, 0, 0]
    assert run.wait(30) == 0
    assert "talk" in viewers[0].text and "aside" in viewers[0].text  # noqa: PT018
    assert viewers[1].text.splitlines()[0] == "first"
    assert "aside" not in viewers[1].text
    live = [json.loads(line) for line in viewers[2].text.splitlines()]
    assert records(machine, folder) == live
    assert [r["seq"] for r in live if r["task"] == "talk"] == [0, 1, 2]
    assert {"created", "level", "name", "msg", "task", "attempt", "host", "stream", "seq"} <= set(live[0])
    assert machine.majordomo("logs", "talk", cwd=folder).splitlines()[0] == "first"


def test_viewers_on_other_machines_follow_a_run_and_read_it_later(
    farm: Make, tmp_path: Path, follow: Callable[..., Follower], until: Until
) -> None:
    made = farm(1, "shell", slots=2)
    gate = tmp_path / "gate"
    folder = project(tmp_path / "p", {"talk": TALK.format(gate=gate)})
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    viewer, other = joined(made, "viewer", "viewer"), joined(made, "client", "other")
    run = run_in_background(made.here, folder)
    until(lambda: any(r["msg"] == "first" for r in farm_records(made)), "first line", made.logs)
    viewers = [follow(viewer, elsewhere), follow(viewer, elsewhere, "--run", "last", "talk")]
    everything = follow(viewer, elsewhere, "--run", "all")
    until(lambda: all("first" in one.text for one in viewers), "first line", made.logs)
    gate.touch()
    assert run.wait(30) == 0
    assert [one.end() for one in viewers] == [0, 0]
    assert all("last" in one.text for one in viewers)
    until(lambda: "last" in everything.text, "last line", made.logs)
    assert everything.process.poll() is None  # nobody's end is its own
    everything.process.send_signal(signal.SIGINT)
    assert everything.end() == 130

    own = records(made.here, folder, "talk")
    there = records(viewer, elsewhere, "talk")
    assert [(r["msg"], r["seq"], r["stream"], r["host"]) for r in there] == [
        (r["msg"], r["seq"], r["stream"], r["host"]) for r in own
    ]
    said = records(viewer, elsewhere, "--run", "all")
    assert {"worker", "taskmanager", "monitor"} <= {r["name"].split(".")[-1] for r in said}

    denied = other.call("majordomo", "logs", cwd=elsewhere)
    assert denied.returncode == 3
    assert "no run that this key may see" in denied.stderr
    assert records(other, elsewhere, "--run", "all") == []


def test_a_viewer_that_is_frozen_holds_nothing_up_and_misses_nothing(
    farm: Make, tmp_path: Path, follow: Callable[..., Follower], until: Until
) -> None:
    made = farm(1, "shell")
    viewer = joined(made, "viewer", "viewer")
    folder = project(tmp_path / "p", {"warm": "echo warm", "talk": "seq 1 20000"})
    watching = follow(viewer, tmp_path, "--run", "all", "--json")
    until(
        lambda: made.here.call("majordomo", "run", "-a", "warm", cwd=folder).returncode == 0, "run", made.logs
    )
    until(lambda: "warm" in watching.text, "a line", made.logs)
    os.killpg(watching.process.pid, signal.SIGSTOP)
    made.here.majordomo("run", "-a", cwd=folder, timeout=60)
    os.killpg(watching.process.pid, signal.SIGCONT)
    until(lambda: '"20000"' in watching.text, "the last line", made.logs)
    lines = [json.loads(line) for line in watching.text.splitlines()]
    assert [r["seq"] for r in lines if r["task"] == "talk"] == list(range(20000))


def test_a_flood_fills_nobodys_memory_and_its_end_arrives(farm: Make, tmp_path: Path) -> None:
    made = farm(1, "shell", slots=2)
    line = "x" * 60
    flood = f"echo the beginning; yes {line} | head -c 200000000; echo; echo the end"
    folder = project(tmp_path / "p", {"flood": flood, "quiet": "echo quiet"})
    manager = psutil.Process(made.manager.pid)
    before = manager.memory_info().rss
    out = made.here.majordomo("run", "-a", cwd=folder, timeout=240)
    assert manager.memory_info().rss - before < 100e6
    assert "flood" in out
    stored = made.here.majordomo("logs", "flood", cwd=folder).splitlines()
    assert stored[0] == "the beginning"
    assert stored[-1] == "the end"
    assert any("lines left out here; " in text for text in stored)
    assert sum(map(len, stored)) < 6e6
    kept = [r for r in farm_records(made) if r["task"] == "flood"]
    assert kept[-1]["msg"] == "the end"
    assert [r["seq"] for r in kept] == sorted(r["seq"] for r in kept)
    assert kept[-1]["seq"] >= 200000000 // 61  # the lines that were left out have their numbers
    spilled = list((made.machines[1].home / "state" / "output").rglob("flood~1.txt*"))
    assert sum(path.stat().st_size for path in spilled) <= 64 << 20
    # All of it that its worker keeps comes through the one port: here, and to a viewer elsewhere.
    viewer = joined(made, "viewer", "v")
    for who, where in ((made.here, folder), (viewer, tmp_path)):
        full = who.call("majordomo", "logs", "flood", "--full", cwd=where)
        assert full.returncode == 0, full.stderr
        assert len(full.stdout) == sum(path.stat().st_size for path in spilled)
        assert full.stdout.startswith("the beginning\n")
        assert full.stdout.endswith("the end\n")
        assert "bytes are missing here" in full.stderr
        assert who.call("majordomo", "logs", "quiet", "--full", cwd=where).stdout == "quiet\n"
    for path in spilled:
        path.unlink()
    gone = viewer.call("majordomo", "logs", "flood", "--full", cwd=tmp_path)
    assert (gone.returncode, gone.stdout) == (2, "")
    assert "kept for a while only" in gone.stderr
    made.machines[1].stop()
    gone = viewer.call("majordomo", "logs", "flood", "--full", cwd=tmp_path)
    assert gone.returncode == 2
    assert "no worker on" in gone.stderr


def test_all_that_a_task_of_the_embedded_farm_printed_is_there(machine: Machine, tmp_path: Path) -> None:
    folder = project(tmp_path / "p", {"much": "seq 1 1000000", "little": "echo little"})
    machine.majordomo("run", cwd=folder)
    done = machine.call("majordomo", "logs", "much", "--full", cwd=folder)
    assert done.stdout == "".join(f"{n}\n" for n in range(1, 1_000_001))
    assert machine.majordomo("logs", "little", "--full", cwd=folder) == "little\n"


def test_a_log_that_cannot_be_written_fails_no_run_and_is_said_once(tmp_path: Path, until: Until) -> None:
    made = Farm(tmp_path / "farm", "shell")
    try:
        state = made.here.home / "state"
        state.mkdir(parents=True, mode=0o700)
        (state / "farm-logs").write_text("in the way")
        made.start(1)
        folder = project(tmp_path / "p", {"a": "echo one", "b": "echo two"})
        made.here.majordomo("run", "-a", cwd=folder)
        made.here.majordomo("run", "-a", cwd=folder)
        assert made.logs().count("the farm's log is not kept") == 1
    finally:
        made.stop()


def test_lines_keep_their_numbers_when_the_manager_is_killed(
    farm: Make, tmp_path: Path, until: Until
) -> None:
    made = farm(1, "shell")
    gate = tmp_path / "gate"
    folder = project(tmp_path / "p", {"talk": TALK.format(gate=gate)})
    run = run_in_background(made.here, folder)
    until(lambda: any(r["msg"] == "first" for r in farm_records(made)), "first line", made.logs)
    made.manager.kill()
    made.manager.wait(10)
    made.manager = made.here.start("cf-taskmanager", "start", "--listen", made.address)
    until(lambda: len(made.status().get("workers", ())) == 1, "the worker", made.logs)
    gate.touch()
    assert run.wait(60) == 0
    talk = [(r["seq"], r["msg"]) for r in farm_records(made) if r["task"] == "talk"]
    assert talk == [(0, "first"), (1, "unused"), (2, "last")]


def test_a_worker_whose_clock_is_wrong_logs_the_farms_time(farm: Make, tmp_path: Path, until: Until) -> None:
    made = farm(0)
    invited = made.here.call("cf-taskmanager", "invite", "--role", "worker", cwd=tmp_path)
    wrong = Machine(made.folder / "wrong")
    made.machines.append(wrong)
    shifted = made.folder / "shifted"
    shifted.mkdir()
    (shifted / "sitecustomize.py").write_text(
        "import time\nright = time.time\ntime.time = lambda: right() + 3 * 3600\n"
    )
    wrong.environ["PYTHONPATH"] = str(shifted)
    wrong.start("cf-worker", "--capability", "shell", "--join", invited.stdout.split()[-1])
    until(lambda: len(made.status().get("workers", ())) == 1, "the worker", made.logs)
    until(
        lambda: any((host["clock_offset_s"] or 0) > 10000 for host in made.status()["hosts"]),
        "offset",
        made.logs,
    )
    folder = project(tmp_path / "p", {"talk": "echo now"})
    before = time.time()
    made.here.majordomo("run", "-a", cwd=folder)
    (line,) = [r for r in farm_records(made) if r["task"] == "talk"]
    assert before - 1 <= line["created"] <= time.time() + 1
    assert re.search(r"its clock is .* fast", made.here.majordomo("status", cwd=folder))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--level", "warn"), "did you mean warning?"),
        (("nothing",), "had no task 'nothing'"),
        (("--run", "1999"), "majordomo history --list"),
        (("--full",), "majordomo logs TASK --full"),
        (("--run", "all"), "no farm is configured"),
    ],
)
def test_what_makes_no_sense_is_said_with_what_to_type(
    machine: Machine, tmp_path: Path, args: tuple[str, ...], said: str
) -> None:
    folder = project(tmp_path / "p", {"a": "echo a"})
    machine.majordomo("run", cwd=folder)
    text = machine.majordomo("logs", *args, cwd=folder, code=3)
    assert said in text
    assert "Traceback" not in text
