"""A farm against its peers, in one run: no-op shell tasks, and the Lua build.

    python tests/benchmarks/bench_farm.py [COUNT …]        (default 1000 10000)
    python tests/benchmarks/bench_farm.py lua

Manager, worker (2 slots) and majordomo are real processes on loopback; the peers have two jobs as well.
Rounds are interleaved and medians are compared, so that a machine that changes its speed harms all alike.
Nothing here asserts a time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
ROUNDS = 3

DODO = """
from computefarm import needs
def task_t():
    for number in range({count}):
        yield {{"name": str(number), "actions": ["true"], "meta": needs("shell", cache=False)}}
"""
PLAIN = """
def task_t():
    for number in range({count}):
        yield {{"name": str(number), "actions": ["true"]}}
"""


def plain_environment() -> dict[str, str]:
    """Return the environment of a user: without our settings, and with Python as it comes."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("CF_", "PYTHON"))}


class Farm:
    """A manager and one worker with two slots, in a home of their own."""

    def __init__(self, folder: Path, capabilities: tuple[str, ...] = ("shell",)) -> None:
        self.env = {
            **plain_environment(),
            "CF_HOME": str(folder / "home"),
            "CI": "true",
            "PATH": f"{BIN}:{os.environ['PATH']}",
        }
        self.log = (folder / "farm.log").open("wb")
        self.manager = self._start("cf-taskmanager", "start", "--listen", "tcp://127.0.0.1:0")
        self._wait('"farm"')
        offered = [word for name in capabilities for word in ("--capability", name)]
        self.worker = self._start("cf-worker", *offered, "--slots", "2", "--nice", "0", "--no-monitor")
        self._wait(f'"{capabilities[-1]}"')

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, env=self.env, stdout=self.log, stderr=self.log, cwd="/")

    def _wait(self, text: str) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            asked = subprocess.run(
                ["majordomo", "status", "--json"], env=self.env, capture_output=True, text=True, cwd="/"
            )
            if text in asked.stdout:
                return
            time.sleep(0.1)
        raise RuntimeError(f"no {text} in the farm's status; see {self.log.name}")

    def cpu(self) -> tuple[float, float]:
        """Return CPU seconds so far of the manager, and of worker and spawner (tasks left out)."""
        worker = psutil.Process(self.worker.pid)
        own = [worker, *worker.children()]
        return _cpu(psutil.Process(self.manager.pid)), sum(_cpu(process) for process in own)

    def close(self) -> None:
        for process in (self.worker, self.manager):
            process.send_signal(signal.SIGTERM)
            process.wait(20)
        self.log.close()


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _timed(command: list[str], cwd: Path, env: dict[str, str] | None = None) -> tuple[float, float]:
    """Return wall and CPU seconds of a command and all its descendants."""
    before = time.perf_counter()
    with (cwd / "peer.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=cwd, env=env or plain_environment(), stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - before
    if process.returncode:
        raise RuntimeError(f"{command} gave {process.returncode}; see {cwd / 'peer.log'}")
    return wall, usage.ru_utime + usage.ru_stime


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="cf-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _floor(folder: Path) -> Path | None:
    if shutil.which("gcc") is None:
        return None
    program = folder / "floor"
    subprocess.run(["gcc", "-O2", "-o", program, Path(__file__).with_name("floor.c")], check=True)
    return program


def noop(count: int, rounds: int = ROUNDS) -> dict[str, float]:
    """Print µs per no-op shell task, ours and the peers'; return the medians."""
    with scratch() as folder:
        for name, text in (("ours", DODO), ("doit", PLAIN)):
            (folder / name).mkdir()
            (folder / name / "dodo.py").write_text(text.format(count=count))
        peers: dict[str, Callable[[], float]] = {}
        floor = _floor(folder)
        if floor is not None:
            peers["C posix_spawn"] = lambda: _timed(
                [str(floor), str(count), "2", "/bin/sh", "-c", "true"], folder
            )[0]
        if shutil.which("ninja"):
            (folder / "ninja").mkdir()
            rules = "rule t\n command = true\n" + "".join(f"build t{n}: t\n" for n in range(count))
            (folder / "ninja" / "build.ninja").write_text(rules)

            def ninja() -> float:
                (folder / "ninja" / ".ninja_log").unlink(missing_ok=True)
                return _timed(["ninja", "-j2", "--quiet"], folder / "ninja")[0]

            peers["ninja -j2"] = ninja
        doit = [sys.executable, "-m", "doit", "-n", "2", "-P", "thread", "-v", "0"]
        if count <= 1000:
            peers["doit -n2"] = lambda: _timed(doit, folder / "doit")[0]
        return _compare_noop(folder, count, rounds, peers)


def _compare_noop(
    folder: Path, count: int, rounds: int, peers: dict[str, Callable[[], float]]
) -> dict[str, float]:
    walls: dict[str, list[float]] = {name: [] for name in (*peers, "farm", "embedded")}
    shares: dict[str, list[float]] = {"majordomo": [], "manager": [], "worker": []}
    farm = Farm(folder)
    try:
        for _ in range(rounds):
            for name, peer in peers.items():
                walls[name].append(peer())
            manager, worker = farm.cpu()
            wall, own = _timed(["majordomo", "run", "-a"], folder / "ours", farm.env)
            walls["farm"].append(wall)
            after_manager, after_worker = farm.cpu()
            shares["majordomo"].append(own)
            shares["manager"].append(after_manager - manager)
            shares["worker"].append(after_worker - worker)
            local = {**farm.env, "CF_FARM": "local"}
            walls["embedded"].append(_timed(["majordomo", "run", "-a", "-n", "2"], folder / "ours", local)[0])
    finally:
        farm.close()
    medians = {name: statistics.median(values) / count * 1e6 for name, values in walls.items()}
    print(f"\n{count} no-op shell tasks, 2 slots, median of {rounds}: µs of wall per task")
    base = medians.get("ninja -j2")
    for name, value in medians.items():
        ratio = f"   {value / base:5.2f} x ninja" if base else ""
        print(f"  {name:16} {value:8.0f}{ratio}")
    print("µs of CPU per task (start-up included):")
    for name, values in shares.items():
        print(f"  {name:16} {statistics.median(values) / count * 1e6:8.0f}")
    return medians


def lua(rounds: int = ROUNDS) -> None:
    """Print the Lua build through the farm against `make -j2`."""
    with scratch() as folder:
        project = folder / "lua"
        shutil.copytree(
            ROOT / "examples" / "lua", project, ignore=shutil.ignore_patterns("build", ".majordomo*")
        )
        farm = Farm(folder, ("shell", "gcc"))
        try:
            _timed(["majordomo", "run", "fetch"], project, farm.env)
            (folder / "make").mkdir()
            shutil.copytree(project / "lua54", folder / "make" / "lua54")
            (folder / "make" / "Makefile").write_text(MAKEFILE)
            walls: dict[str, list[float]] = {"make -j2": [], "farm": [], "embedded": []}
            # Downloaded and scanned beforehand; another -D in each round, so that every file is compiled.
            dodo = (project / "dodo.py").read_text()
            _timed(["majordomo", "run"], project, farm.env)
            for number in range(rounds):
                _timed(["make", "clean"], folder / "make")
                walls["make -j2"].append(_timed(["make", "-j2"], folder / "make")[0])
                for name, farm_name in (("farm", "default"), ("embedded", "local")):
                    shutil.rmtree(project / "build", ignore_errors=True)
                    (project / "dodo.py").write_text(dodo.replace("-O2", f"-O2 -DROUND_{name}={number}"))
                    env = {**farm.env, "CF_FARM": farm_name}
                    walls[name].append(_timed(["majordomo", "run", "-n", "2", "link"], project, env)[0])
        finally:
            farm.close()
    print(f"\nLua 5.4 from nothing, 2 slots, median of {rounds} (seconds of wall)")
    base = statistics.median(walls["make -j2"])
    for name, values in walls.items():
        value = statistics.median(values)
        print(f"  {name:10} {value:6.2f}   {value / base:5.2f} x make")


MAKEFILE = """
CFLAGS = -std=gnu99 -O2 -Wall -DLUA_USE_POSIX
SOURCES = $(filter-out lua54/ltests.c lua54/onelua.c,$(wildcard lua54/*.c))
OBJECTS = $(patsubst lua54/%.c,build/%.o,$(SOURCES))
build/lua: build/lua.o build/liblua.a
\tgcc -o $@ $^ -lm
build/liblua.a: $(filter-out build/lua.o,$(OBJECTS))
\tar rcs $@ $^
build/%.o: lua54/%.c
\t@mkdir -p build
\tgcc $(CFLAGS) -c $< -o $@
clean:
\trm -rf build
"""


@pytest.mark.benchmark
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("count", [1000, 10000])
def test_noop_tasks_against_ninja_doit_and_the_floor(count: int) -> None:
    medians = noop(count)

    assert medians["farm"] > 0


@pytest.mark.benchmark
@pytest.mark.timeout(600)
def test_lua_build_against_make() -> None:
    lua()


if __name__ == "__main__":
    os.environ["PATH"] = f"{BIN}:{os.environ['PATH']}"
    if sys.argv[1:] == ["lua"]:
        lua()
    else:
        for argument in sys.argv[1:] or ["1000", "10000"]:
            noop(int(argument))
