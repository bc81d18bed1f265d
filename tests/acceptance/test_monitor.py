"""The monitor beside the workers: who starts and ends it, and what the farm makes of its reports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def dodo(project: Path, text: str) -> None:
    (project / "dodo.py").write_text("from computefarm import needs\n" + textwrap.dedent(text))


def monitor_of(home: Path) -> int | None:
    """The process that is this home's monitor."""
    for path in (home / "state/run").glob("monitor-*.json"):
        pid = json.loads(path.read_text())["pid"]
        if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            return int(pid)
    return None


def hosts(farm: Any) -> list[dict[str, Any]]:
    return list(farm.status()["hosts"])


def one_host(farm: Any) -> dict[str, Any]:
    [host] = hosts(farm)
    return host


@contextmanager
def burning(threads: int) -> Iterator[None]:
    """Somebody else keeps this machine busy."""
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(threads)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def test_it_comes_with_the_first_worker_and_goes_with_the_last(
    farm: Callable[..., Any], until: Callable[..., None]
) -> None:
    made = farm(1, "shell")
    machine = made.machines[1]
    until(lambda: monitor_of(machine.home), "monitor", made.logs)
    pid = monitor_of(machine.home)
    assert pid is not None
    second = machine.start("cf-worker", "--capability", "shell", "--slots", "1")
    until(lambda: len(made.status()["workers"]) == 2, "second worker", made.logs)
    assert monitor_of(machine.home) == pid
    os.kill(second.pid, signal.SIGTERM)
    second.wait(20)
    assert monitor_of(machine.home) == pid
    os.kill(made.workers[0].pid, signal.SIGKILL)
    made.workers[0].wait(10)
    until(lambda: not psutil.pid_exists(pid), "end of the monitor", made.logs)


def test_one_without_is_asked_for(farm: Callable[..., Any], until: Callable[..., None]) -> None:
    made = farm(0, "shell")
    worker = made.here.start("cf-worker", "--capability", "shell", "--slots", "1", "--no-monitor")
    until(lambda: made.status()["workers"], "worker", made.logs)
    assert monitor_of(made.here.home) is None
    assert worker.poll() is None
    assert one_host(made)["load"] is None


def test_a_silent_monitor_makes_its_host_stale_until_it_speaks(
    farm: Callable[..., Any], until: Callable[..., None]
) -> None:
    made = farm(0, "shell")
    made.here.start("cf-worker", "--capability", "shell", "--slots", "1", "--no-monitor")
    monitor = made.here.start("cf-monitor", "--interval", "0.5")
    until(lambda: hosts(made) and one_host(made)["last_report_s"] is not None, "report", made.logs)
    assert one_host(made)["online"]
    os.kill(monitor.pid, signal.SIGSTOP)
    try:
        until(lambda: not one_host(made)["online"], "stale host", made.logs, 6)
        assert one_host(made)["last_report_s"] >= 1.5
    finally:
        os.kill(monitor.pid, signal.SIGCONT)
    until(lambda: one_host(made)["online"] and one_host(made)["last_report_s"] < 1.5, "return", made.logs, 10)


def test_a_strict_limit_holds_tasks_and_says_so(
    farm: Callable[..., Any], project: Path, until: Callable[..., None]
) -> None:
    dodo(project, 'def task_a():\n    return {"actions": ["true"], "meta": needs("shell", cache=False)}\n')
    cpus = os.cpu_count() or 1
    made = farm(0, "shell")
    made.here.start("cf-worker", "--capability", "shell", "--slots", "1", "--no-monitor")
    log = project / "run.log"
    with burning(6 * cpus):
        made.here.start("cf-monitor", "--interval", "0.5", "--max-load", "1.2")
        until(lambda: hosts(made) and (one_host(made)["load"] or 0) > 2.5, "load", made.logs)
        with log.open("wb") as out:
            run = subprocess.Popen(
                ["majordomo", "run"], cwd=project, env=made.here.environ, stdout=out, stderr=out
            )
        try:
            until(lambda: made.status()["tasks"]["waiting"] == 1, "waiting task", log.read_text)
            until(lambda: "the owner's limit of 1.2" in log.read_text(), "word about it", log.read_text, 15)
            why = made.here.json("why", "a", cwd=project)
            assert why["state"] == "waiting"
            assert "the owner's limit of 1.2" in json.dumps(why["waiting"])
            assert made.status()["tasks"] == {"waiting": 1, "running": 0}
            assert made.status()["workers"][0]["state"] == "held"
        except BaseException:
            run.kill()
            run.wait()
            raise
    try:
        assert run.wait(60) == 0, log.read_text()
    finally:
        run.kill()
        run.wait()


def test_tasks_of_the_farm_are_no_load_and_a_stranger_is(
    farm: Callable[..., Any], project: Path, until: Callable[..., None]
) -> None:
    burn = f"{sys.executable} -c 'while True: pass'"
    dodo(
        project,
        f"""
        def task_a():
            for n in range(2):
                yield {{
                    "name": str(n), "actions": ["timeout 6 {burn.replace('"', "")} || true"],
                    "meta": needs("shell", cache=False),
                }}
        """,
    )
    made = farm(0, "shell")
    made.here.start("cf-worker", "--capability", "shell", "--slots", "2", "--no-monitor")
    made.here.start("cf-monitor", "--interval", "0.5")
    until(lambda: hosts(made) and one_host(made)["load"] is not None, "report", made.logs)
    run = subprocess.Popen(
        ["majordomo", "run"], cwd=project, env=made.here.environ, stdout=subprocess.DEVNULL
    )
    seen = []
    while run.poll() is None:
        status = made.status()
        if status["tasks"]["running"] == 2:
            seen.append(status["hosts"][0]["load"])
    cpus = os.cpu_count() or 1
    # Everything on this machine but the two burners, whatever else the machine is doing: they want 2 cores.
    with burning(2 * cpus):
        until(lambda: one_host(made)["load"] > 0.7, "stranger's load", made.logs)
        busy = one_host(made)["load"]
    assert seen
    assert min(seen) < busy


def test_the_loaded_host_comes_last(
    farm: Callable[..., Any], project: Path, until: Callable[..., None]
) -> None:
    """Two homes are two hosts; one of them says that it is busy, as a wrapped monitor lets it."""
    dodo(
        project,
        """
        def task_a():
            for n in range(6):  # one after the other: both hosts are free each time
                yield {
                    "name": str(n), "actions": ["true"], "task_dep": [f"a:{n - 1}"] if n else [],
                    "meta": needs("shell", cache=False),
                }
        """,
    )
    made = farm(2, "shell")
    busy, idle = made.machines[1:]
    until(lambda: monitor_of(busy.home) and monitor_of(idle.home), "two monitors", made.logs)
    for machine, load in ((busy, 3.0), (idle, 0.0)):
        pid = monitor_of(machine.home)
        assert pid is not None
        os.kill(pid, signal.SIGTERM)
        until(lambda pid=pid: not psutil.pid_exists(pid), "end of a monitor", made.logs)
        machine.start(sys.executable, "-c", FAKE, str(load))

    def loads() -> dict[str, float]:
        return {host["host"]: host["load"] for host in hosts(made)}

    until(lambda: sorted(loads().values()) == [0.0, 3.0], "reports", made.logs)
    [calm] = [host for host, load in loads().items() if load == 0.0]
    [worker] = [w["worker"] for w in made.status()["workers"] if w["host"] == calm]
    made.here.majordomo("run", cwd=project)
    ran = {task["worker"] for task in made.here.json("history", cwd=project)["tasks"]}
    assert ran == {worker}


FAKE = """
import sys
import msgspec
from computefarm.host.load import LoadSampler
load = float(sys.argv.pop())
sample = LoadSampler.sample
LoadSampler.sample = lambda self, now: msgspec.structs.replace(sample(self, now), load=load)
sys.argv = ["cf-monitor", "--interval", "0.5"]
from computefarm.cli.monitor import main
sys.exit(main())
"""


def test_what_the_owner_allows(farm: Callable[..., Any], until: Callable[..., None], project: Path) -> None:
    """A policy that forbids holds tasks, saying so; when it changes, they run."""
    made = farm(0, "shell")
    machine = type(made.here)(made.folder / "owners")
    made.machines.append(machine)
    config = machine.home / "config"
    config.mkdir(parents=True)
    day = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"][(datetime.now().weekday() + 3) % 7]
    (config / "policy.toml").write_text(f'hours = ["{day}"]')
    line = made.here.call("cf-taskmanager", "invite", "--role", "worker", cwd=made.folder).stdout.strip()
    made.workers.append(machine.start("cf-worker", "--capability", "shell", "--join", line))
    only = f"its owner lends it only {day}"
    until(lambda: [host["policy"] for host in hosts(made)] == [only], "policy", made.logs)
    dodo(project, """
        def task_a():
            return {"actions": ["echo done > a"], "targets": ["a"], "meta": needs("shell")}
        """)
    run = subprocess.Popen(
        ["majordomo", "run"], cwd=project, env=made.here.environ, stdout=subprocess.PIPE, text=True
    )
    try:
        until(
            lambda: only in made.here.call("majordomo", "why", "a", cwd=project).stdout, "its reason", made.logs
        )
        assert run.poll() is None
        (config / "policy.toml").write_text("users = true")
        assert run.wait(30) == 0
    finally:
        run.kill()
        run.communicate()
    assert (project / "a").read_text() == "done\n"


def test_bad_policies(machine: Any, tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text("hour = []")
    for name, words in (("p.toml", "did you mean `hours`?"), ("none.toml", "there is no such file")):
        done = machine.call("cf-monitor", "--policy", name, cwd=tmp_path)
        assert done.returncode == 3, done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr
