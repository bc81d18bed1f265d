"""Machines, farms and projects for the acceptance tests: the installed commands in homes of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from computefarm.host.processes import read_process

from .clocks import wrong_clock as wrong_clock

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
BIN = Path(sys.executable).parent


class Machine:
    """One CF_HOME: a machine as far as the farm is concerned."""

    def __init__(self, home: Path) -> None:
        self.home = home
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("CF_", "CHIAPOS_"))}
        self.environ = {
            **kept,
            "CF_HOME": str(home),
            "CI": "true",
            "PATH": f"{BIN}{os.pathsep}{kept['PATH']}",
        }
        self.started: list[subprocess.Popen[bytes]] = []

    def call(self, *command: str, cwd: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            command, cwd=cwd, env=self.environ, capture_output=True, text=True, timeout=timeout, check=False
        )

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a service; its output goes to a file in the home."""
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / f"{command[0]}.{len(self.started)}.log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=self.home, env=self.environ, stdout=log, stderr=log, start_new_session=True
            )
        self.started.append(process)
        return process

    def majordomo(self, *args: str, cwd: Path, code: int | None = 0, timeout: float = 120) -> str:
        """Run majordomo; return both of its streams together."""
        done = self.call("majordomo", *args, cwd=cwd, timeout=timeout)
        text = done.stdout + done.stderr
        assert code is None or done.returncode == code, f"exit {done.returncode}, not {code}:\n{text}"
        return text

    def json(self, *args: str, cwd: Path) -> Any:
        """Run a read command with --json and return what it printed."""
        done = self.call("majordomo", *args, "--json", cwd=cwd)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def logs(self) -> str:
        """Return what the services here have printed."""
        return "\n".join(f"== {path}\n{path.read_text()}" for path in sorted(self.home.glob("*.log")))

    def stop(self) -> None:
        """End every service: the worker's monitor and tasks end with it."""
        for process in reversed(self.started):
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """TERM, then KILL, a service and its group."""
    for sign, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        if process.poll() is not None:
            return
        os.killpg(process.pid, sign)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue


class Farm:
    """A TaskManager and workers, each with a home that shares nothing with the others."""

    def __init__(self, folder: Path, *capabilities: str, slots: int = 1) -> None:
        self.folder = folder
        self.capabilities = capabilities
        self.slots = slots
        self.here = Machine(folder / "here")
        self.machines = [self.here]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
        self.workers: list[subprocess.Popen[bytes]] = []

    def start(self, workers: int) -> None:
        """Start the manager and so many workers, and wait until they are there."""
        self.manager = self.here.start("cf-taskmanager", "start", "--listen", self.address)
        wait_for(lambda: self.status().get("address") == self.address, "the manager", self.logs)
        self.workers = [self.add_worker() for _ in range(workers)]
        wait_for(lambda: len(self.status()["workers"]) == workers, f"{workers} workers", self.logs)

    def add_worker(self) -> subprocess.Popen[bytes]:
        """Invite one more machine and start its worker."""
        invited = self.here.call("cf-taskmanager", "invite", "--role", "worker", cwd=self.folder)
        assert invited.returncode == 0, invited.stderr
        machine = Machine(self.folder / f"worker{len(self.machines)}")
        self.machines.append(machine)
        offered = [word for name in self.capabilities for word in ("--capability", name)]
        return machine.start(
            "cf-worker", *offered, "--slots", str(self.slots), "--join", invited.stdout.split()[-1]
        )

    def status(self) -> dict[str, Any]:
        """Return the farm's status; empty while nobody answers."""
        done = self.here.call("majordomo", "status", "--json", cwd=self.folder)
        return dict(json.loads(done.stdout)) if done.returncode == 0 else {}

    def logs(self) -> str:
        """Return what all services have printed."""
        return "\n".join(machine.logs() for machine in self.machines)

    def stop(self) -> None:
        """End everything."""
        for machine in reversed(self.machines):
            machine.stop()


def wait_for(true: Callable[[], object], what: str, logs: Callable[[], str], patience_s: float = 30) -> None:
    """Ask again and again until it is true; fail with the services' logs."""
    until = time.monotonic() + patience_s
    while not true():
        if time.monotonic() > until:
            pytest.fail(f"no {what} within {patience_s:.0f} s\n{logs()}")
        time.sleep(0.05)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine without a farm."""
    made = Machine(tmp_path / "home")
    yield made
    made.stop()


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Callable[..., Farm]]:
    """Make farms that end with the test."""
    made: list[Farm] = []

    def make(workers: int, *capabilities: str, slots: int = 1) -> Farm:
        made.append(farm := Farm(tmp_path / f"farm{len(made)}", *capabilities, slots=slots))
        farm.start(workers)
        return farm

    yield make
    for each in made:
        each.stop()


@pytest.fixture(scope="session")
def lua_with_sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fetch Lua's sources once, with the example's own task."""
    if shutil.which("gcc") is None:
        pytest.skip("NOT TESTED: the Lua example needs gcc, which is not installed")
    folder = tmp_path_factory.mktemp("lua")
    shutil.copytree(EXAMPLES / "lua", folder, dirs_exist_ok=True)
    done = Machine(folder / "home").call("majordomo", "run", "fetch", cwd=folder, timeout=250)
    if done.returncode != 0:
        pytest.skip(
            f"NOT TESTED: lupa's source distribution cannot be had: {(done.stdout + done.stderr)[-300:]}"
        )
    shutil.rmtree(folder / "home")
    for remembered in folder.glob(".majordomo.db*"):
        remembered.unlink()
    return folder


@pytest.fixture
def lua(lua_with_sources: Path, tmp_path: Path) -> Path:
    """A fresh copy of the Lua example, downloaded but not built."""
    folder = tmp_path / "lua"
    shutil.copytree(lua_with_sources, folder, ignore=shutil.ignore_patterns("build"))
    return folder


@pytest.fixture
def until() -> Callable[..., None]:
    """`wait_for`, for tests."""
    return wait_for


class Project:
    """A folder with one farm task, `work`, which tells that it runs and waits until it may end."""

    def __init__(self, folder: Path, shared: Path, needs: str = 'needs("shell")', last: str = "") -> None:
        self.folder = folder
        self.gate = shared / "gate"
        self.ran = shared / "ran"
        self.pids = shared / "pids"
        self.log = folder / "run.log"
        self.runs: list[subprocess.Popen[bytes]] = []
        folder.mkdir(parents=True, exist_ok=True)
        action = (
            f"echo x >> {self.ran}; echo working; echo $$ >> {self.pids};"
            f" setsid sleep 1000 & echo $! >> {self.pids};"
            f" while [ ! -e {self.gate} ]; do sleep 0.05; done; kill $!; {last or 'echo done > out.txt'}"
        )
        targets = [] if last else ["out.txt"]
        task = f"{{'actions': [{action!r}], 'targets': {targets!r}, 'meta': {needs}}}"
        (folder / "dodo.py").write_text(
            f"from computefarm import needs\n\n\ndef task_work():\n    return {task}\n"
        )

    def start(self, machine: Any, *options: str) -> subprocess.Popen[bytes]:
        """Run it beside the test."""
        with self.log.open("ab") as log:
            run = subprocess.Popen(
                ["majordomo", "run", *options],
                cwd=self.folder,
                env=machine.environ,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.runs.append(run)
        return run

    def open(self) -> None:
        """Let the task end."""
        self.gate.touch()

    def times(self) -> int:
        """Return how often the task was begun."""
        return len(self.ran.read_text().split()) if self.ran.exists() else 0

    def said(self) -> str:
        """Return what the runs beside the test have printed."""
        return self.log.read_text()

    def processes(self) -> list[int]:
        """Return the processes of all attempts, those in sessions of their own included."""
        return [int(pid) for pid in self.pids.read_text().split()] if self.pids.exists() else []

    def living(self) -> list[int]:
        """Return those that still run."""
        return [pid for pid in self.processes() if alive(pid)]


def alive(pid: int) -> bool:
    process = read_process(pid)
    return process is not None and not process.ended


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Callable[..., Project]]:
    """Make projects; what they started ends with the test."""
    made: list[Project] = []

    def make(name: str = "project", **more: str) -> Project:
        made.append(one := Project(tmp_path / name, tmp_path, **more))
        return one

    yield make
    for one in made:
        one.open()
        for run in one.runs:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
                run.wait()
        for pid in one.living():
            os.kill(pid, signal.SIGKILL)
