"""One small build for every fault: whatever happens to it, its files are those of an undisturbed run."""

from __future__ import annotations

import collections
import hashlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.acceptance.conftest import Farm, Machine, wait_for

PARTS = 24
HEARTBEAT_S = 1.0
"""Of these farms: a lease is 3 s."""
LEASE_S = 3 * HEARTBEAT_S

DODO = """
from pathlib import Path

from computefarm import needs

def task_part():
    for source in sorted(Path("src").glob("*.txt")):
        name, target = source.stem, f"build/{source.stem}"
        yield {
            "name": name,
            "actions": [f"echo {name} >> LOG; EXTRA sleep PAUSE; sort {source} > {target}"],
            "file_dep": [str(source)], "targets": [target], "meta": needs("shell", cache=False),
        }

def task_sum():
    parts = [f"build/{source.stem}" for source in sorted(Path("src").glob("*.txt"))]
    return {
        "actions": [f"echo sum >> LOG; cat {' '.join(parts)} | sha256sum > build/sum"],
        "file_dep": parts, "targets": ["build/sum"], "meta": needs("shell", cache=False),
    }
"""


class Build:
    """A project of some short tasks and one that needs them all, run beside the test."""

    def __init__(self, folder: Path, log: Path, *, pause_s: float = 0.1, extra: str = "") -> None:
        self.folder = folder
        self.log = log
        self.run: subprocess.Popen[bytes] | None = None
        (folder / "src").mkdir(parents=True)
        for number in range(PARTS):
            lines = sorted(hashlib.sha256(f"{number} {line}".encode()).hexdigest() for line in range(40))
            (folder / f"src/{number:02}.txt").write_text("\n".join(reversed(lines)) + "\n")
        self.write_dodo(pause_s, extra)

    def write_dodo(self, pause_s: float, extra: str = "") -> None:
        """Write the dodo file; `extra` is shell text that each task begins with."""
        text = DODO.replace("LOG", str(self.log)).replace("PAUSE", str(pause_s)).replace("EXTRA", extra)
        (self.folder / "dodo.py").write_text(text)

    def add(self, task: str) -> None:
        """Add a task to the dodo file."""
        with (self.folder / "dodo.py").open("a") as file:
            file.write(task.replace("LOG", str(self.log)))

    def start(self, machine: Machine, *options: str) -> subprocess.Popen[bytes]:
        """Begin a run."""
        command = ["majordomo", "run", *options]
        if (inside := getattr(machine, "inside", None)) is not None:
            command = inside(*command, cwd=self.folder)
        with (self.folder / "run.log").open("ab") as log:
            self.run = subprocess.Popen(
                command, cwd=self.folder, env=machine.environ, stdout=log, stderr=log, start_new_session=True
            )
        return self.run

    def begun(self) -> collections.Counter[str]:
        """Return how often each task was begun."""
        return collections.Counter(self.log.read_text().split() if self.log.exists() else ())

    def wait_for(self, tasks: int, logs: Callable[[], str]) -> None:
        """Wait until so many tasks have been begun."""
        wait_for(
            lambda: len(self.begun()) >= tasks or self.ended,
            f"{tasks} tasks",
            lambda: self.said() + logs(),
            60,
        )
        assert not self.ended, self.said()

    @property
    def ended(self) -> bool:
        """Whether the run is over."""
        return self.run is not None and self.run.poll() is not None

    def finish(self, logs: Callable[[], str], *, code: int = 0, patience_s: float = 60) -> str:
        """Wait for the end of the run and return what it printed."""
        assert self.run is not None
        wait_for(lambda: self.ended, "end of the run", lambda: self.said() + logs(), patience_s)
        assert self.run.returncode == code, f"exit {self.run.returncode}:\n{self.said()}\n{logs()}"
        return self.said()

    def said(self) -> str:
        """Return what the runs have printed."""
        path = self.folder / "run.log"
        return path.read_text() if path.exists() else ""

    def files(self) -> dict[str, str]:
        """Return the digests of all that was built; temporary files of the farm are none of it."""
        found = sorted(path for path in (self.folder / "build").rglob("*") if path.is_file())
        return {
            str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in found
        }

    def end(self) -> None:
        """End what still runs."""
        if self.run is not None and self.run.poll() is None:
            os.killpg(self.run.pid, signal.SIGCONT)
            os.killpg(self.run.pid, signal.SIGKILL)
            self.run.wait()


def tree(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return a process and all below it."""
    top = psutil.Process(process.pid)
    return [top, *top.children(recursive=True)]


def tell(processes: list[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to processes, those that have ended left out."""
    for process in processes:
        if process.is_running():
            process.send_signal(number)


def task_processes(build: Build) -> list[int]:
    """Return the processes that run a task of this build."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        if str(build.log) in line and process.pid != os.getpid() and "majordomo" not in line:
            found.append(process.pid)
    return found


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Callable[..., Build]]:
    """Make builds that end with the test."""
    made: list[Build] = []

    def make(name: str = "build", folder: Path | None = None, **more: Any) -> Build:
        made.append(one := Build((folder or tmp_path) / name, tmp_path / f"{name}.begun", **more))
        return one

    yield make
    for one in made:
        one.end()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the digests of the build's files after a run without a farm and without a fault."""
    folder = tmp_path_factory.mktemp("undisturbed")
    one = Build(folder / "build", folder / "begun", pause_s=0)
    one.start(Machine(folder / "home"), "--farm", "local")
    one.finish(str)
    files = one.files()
    assert len(files) == PARTS + 1
    return files


@pytest.fixture
def own_farm(tmp_path: Path) -> Iterator[Callable[..., Farm]]:
    """Make farms with a short heartbeat that end with the test, to do harm to."""
    made: list[Farm] = []

    def make(workers: int = 2, *, slots: int = 1, heartbeat_s: float = HEARTBEAT_S, **environ: str) -> Farm:
        made.append(farm := Farm(tmp_path / f"farm{len(made)}", "shell", slots=slots))
        farm.here.environ |= {"CF_HEARTBEAT": f"{heartbeat_s}s", **environ}
        farm.start(workers)
        return farm

    yield make
    for each in made:
        for machine in each.machines:
            for process in machine.started:
                if process.poll() is None:
                    tell(tree(process), signal.SIGCONT)
        each.stop()


@pytest.fixture(scope="session")
def standing_farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A farm of two workers for faults that harm tasks and not the farm."""
    farm = Farm(tmp_path_factory.mktemp("standing"), "shell")
    farm.here.environ["CF_HEARTBEAT"] = f"{HEARTBEAT_S}s"
    try:
        farm.start(2)
        yield farm
    finally:
        farm.stop()


def attempts(machine: Machine, build: Build) -> dict[str, list[dict[str, Any]]]:
    """Return all attempts of each task in the last run."""
    return {task["task"]: task["attempts"] for task in machine.json("history", cwd=build.folder)["tasks"]}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[Path, str], Path]]:
    """Put file systems of few bytes somewhere until the test has ended."""
    mounted: list[Path] = []

    def mount(place: Path, size: str) -> Path:
        place.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(place)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"DISK-FULL NOT TESTED: {' '.join(command)}: {done.stderr.strip()}")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)
