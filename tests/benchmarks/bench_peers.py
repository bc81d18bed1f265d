"""Other systems for the same users, beside ours in one run on this machine, two slots each.

    python tests/benchmarks/bench_peers.py [noop|latency|nothing|lua] …        (default: all)

The peers are installed from PyPI into build/peers once (Dask, HyperQueue, Snakemake: 300 MB);
distcc is used where it is installed. What is absent is said and left out.
Rounds are interleaved and medians compared. Nothing here asserts a time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from computefarm.backends.choice import choose
from computefarm.home import Home
from computefarm.settings import load_settings

sys.path.insert(0, str(Path(__file__).parent))

from bench_farm import BIN, DODO, MAKEFILE, PLAIN, ROOT, Farm, _timed, plain_environment, scratch
from bench_latency import farm_latencies

PEERS = ROOT / "build" / "peers"
PACKAGES = ("distributed==2026.8.0", "hyperqueue==0.27.0", "snakemake==9.27.1")
ROUNDS = 3
COUNT = 1000
FEW = 100
"""Tasks for Snakemake, which needs 20 ms for each."""

Peer = Callable[[], float]
"""Does the work once; returns seconds of wall."""

DASK = """
import subprocess, sys, time
from distributed import Client, LocalCluster

def task(number):
    return subprocess.run(["/bin/sh", "-c", "true"], check=True).returncode

if __name__ == "__main__":
    count = int(sys.argv[1])
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        client.gather(client.map(task, range(-8, 0), pure=False))
        for line in sys.stdin:
            began = time.perf_counter()
            client.gather(client.map(task, range(count), pure=False))
            print("took", time.perf_counter() - began, flush=True)
"""
HYPERQUEUE = """
import sys, tempfile, time
from hyperqueue import Job
from hyperqueue.cluster import LocalCluster, WorkerConfig

count = int(sys.argv[1])
with LocalCluster(tempfile.mkdtemp(dir=sys.argv[2]), WorkerConfig(cores=2)) as cluster:
    client = cluster.client()
    def run(many):
        job = Job()
        for _ in range(many):
            job.program(["/bin/sh", "-c", "true"], stdout=None, stderr=None)
        client.wait_for_jobs([client.submit(job)])
    run(8)
    for line in sys.stdin:
        began = time.perf_counter()
        run(count)
        print("took", time.perf_counter() - began, flush=True)
"""
SNAKEFILE = """
rule all:
    input: expand("out/{{n}}", n=range({count}))
rule one:
    input: "Snakefile"
    output: "out/{{n}}"
    shell: "touch {{output}}"
"""
FILES = """
from computefarm import needs
def task_t():
    for number in range({count}):
        yield {{
            "name": str(number), "actions": [f"touch out/{{number}}"], "file_dep": ["dodo.py"],
            "targets": [f"out/{{number}}"], "meta": needs("shell"),
        }}
"""


def peers_python() -> Path | None:
    """Return the Python that has the peers, installed if need be; None where they cannot be had."""
    python = PEERS / "bin" / "python"
    if not (PEERS / "bin" / "snakemake").exists():
        print("installing the peers into build/peers", file=sys.stderr)
        venv.create(PEERS, with_pip=True, clear=True)
        done = subprocess.run([str(python), "-m", "pip", "install", "-q", *PACKAGES], env=plain_environment())
        if done.returncode:
            print("left out: Dask, HyperQueue and Snakemake cannot be installed", file=sys.stderr)
            return None
    return python


class Standing:
    """A peer's script that is started once and does the work for each line it is given."""

    def __init__(self, python: Path, script: str, folder: Path, count: int) -> None:
        path = folder / f"standing{time.monotonic_ns()}.py"
        path.write_text(script)
        self._process = subprocess.Popen(
            [str(python), str(path), str(count), str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=plain_environment(), cwd=folder,
        )  # fmt: skip

    def __call__(self) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        for line in self._process.stdout:  # HyperQueue prints tables there
            if line.startswith("took "):
                return float(line.split()[1])
        raise RuntimeError("a peer has ended early")

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def standing(python: Path | None, folder: Path, count: int) -> Iterator[dict[str, Peer]]:
    """Have Dask and HyperQueue ready."""
    made: dict[str, Standing] = {}
    if python is not None:
        made = {
            name: Standing(python, script, folder, count)
            for name, script in (("Dask", DASK), ("HyperQueue", HYPERQUEUE))
        }
    try:
        yield dict(made)
    finally:
        for each in made.values():
            each.close()


def project(folder: Path, name: str, dodo: str, count: int) -> Path:
    """Return a folder with a dodo file."""
    (folder / name).mkdir()
    (folder / name / "dodo.py").write_text(dodo.format(count=count))
    return folder / name


def measured(peers: Mapping[str, Peer], rounds: int = ROUNDS) -> dict[str, float]:
    """Return each one's median; every round asks all of them."""
    walls: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(rounds):
        for name, peer in peers.items():
            walls[name].append(peer())
    return {name: statistics.median(values) for name, values in walls.items()}


def show(title: str, medians: Mapping[str, float], unit: str, scale: float, ours: str) -> None:
    print(f"\n{title}")
    for name, value in sorted(medians.items(), key=lambda item: item[1]):
        ratio = "" if name == ours else f"   {value / medians[ours]:6.2f} x ours"
        print(f"  {name:26} {value * scale:10.2f} {unit}{ratio}")


def noop(python: Path | None) -> None:
    """Print what a no-op shell task costs."""
    with scratch() as folder:
        ours = project(folder, "ours", DODO, COUNT)
        doit = project(folder, "doit", PLAIN, COUNT)
        farm = Farm(folder)
        with contextlib.ExitStack() as stack:
            stack.callback(farm.close)
            peers: dict[str, Peer] = {
                "majordomo, farm": lambda: _timed(["majordomo", "run", "-a"], ours, farm.env)[0],
                "majordomo, embedded": lambda: _timed(
                    ["majordomo", "run", "-a", "-n", "2"], ours, {**farm.env, "CF_FARM": "local"}
                )[0],
                "doit -n 2": lambda: _timed(
                    [sys.executable, "-m", "doit", "-n", "2", "-P", "thread", "-v", "0"], doit
                )[0],
                **stack.enter_context(standing(python, folder, COUNT)),
            }
            medians = {name: value / COUNT for name, value in measured(peers).items()}
        if python is not None:
            medians["Snakemake -j 2"] = snakemake(python, folder) / FEW
    show(
        f"{COUNT} no-op shell tasks (Snakemake: {FEW}); Dask and HyperQueue without their start-up",
        medians, "µs a task", 1e6, "majordomo, farm",
    )  # fmt: skip


def snakemake(python: Path, folder: Path) -> float:
    """Return the seconds that Snakemake needs for a few tasks."""
    place = folder / "snakemake"
    place.mkdir()
    (place / "Snakefile").write_text(SNAKEFILE.format(count=FEW))
    return _timed([str(python.parent / "snakemake"), "-j2", "-q", "all"], place)[0]


def latency(python: Path | None) -> None:
    """Print how long one task takes from the submission to the result, when nothing else is to be done."""
    with scratch() as folder, contextlib.ExitStack() as stack:
        farm = Farm(folder)
        stack.callback(farm.close)
        home = Home.find(farm.env)
        backend = choose(
            home=home, settings=load_settings({"farm": "default"}, {}, home), session="bench", project=folder, slots=2
        )
        medians = {"a client of the farm": statistics.median(farm_latencies(backend, folder, 100))}
        medians |= measured(stack.enter_context(standing(python, folder, 1)), rounds=50)
    show("one task on an idle farm, submission to result", medians, "ms", 1e3, "a client of the farm")


def nothing(python: Path | None) -> None:
    """Print the second run of a project in which nothing changed; Dask and HyperQueue would do all again."""
    with scratch() as folder:
        ours = project(folder, "ours", FILES, COUNT)
        env = {**plain_environment(), "CF_HOME": str(folder / "home"), "CI": "true", "PATH": os.environ["PATH"]}
        _timed(["majordomo", "run", "--farm", "local"], ours, env)
        peers: dict[str, Peer] = {
            "majordomo": lambda: _timed(["majordomo", "run", "--farm", "local"], ours, env)[0]
        }
        if python is not None:
            (folder / "snakemake" / "out").mkdir(parents=True)
            (folder / "snakemake" / "Snakefile").write_text(SNAKEFILE.format(count=COUNT))
            for number in range(COUNT):
                (folder / "snakemake" / "out" / str(number)).touch()
            command = [str(python.parent / "snakemake"), "-j2", "-q", "all"]
            _timed(command, folder / "snakemake")
            peers["Snakemake"] = lambda: _timed(command, folder / "snakemake")[0]
        medians = measured(peers)
    show(f"nothing to do, {COUNT} tasks with a target each", medians, "s", 1, "majordomo")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def daemon(*command: str) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(1)
        if process.poll() is not None:
            raise RuntimeError(f"{command[0]} has ended with {process.returncode}")
        yield
    finally:
        process.terminate()
        process.wait(20)


def compilers(stack: contextlib.ExitStack, folder: Path) -> dict[str, tuple[str, dict[str, str]]]:
    """Start what distributes compilers; return how `make` uses each: a compiler and an environment."""
    found = {"make -j2": ("gcc", plain_environment())}
    if distccd := shutil.which("distccd"):
        port = free_port()
        stack.enter_context(
            daemon(
                distccd, "--no-detach", "--daemon", "--listen", "127.0.0.1", "--port", str(port), "--jobs", "2",
                "--allow", "127.0.0.1", "--log-file", str(folder / "distccd.log"),
            )
        )
        hosts = {"DISTCC_HOSTS": f"127.0.0.1:{port}/2", "DISTCC_FALLBACK": "0", "DISTCC_DIR": str(folder)}
        found["distcc"] = ("distcc gcc", {**plain_environment(), **hosts})
    else:
        print("left out: distcc (apt install distcc)", file=sys.stderr)
    return found


def lua() -> None:
    """Print the Lua build from nothing."""
    with scratch() as folder, contextlib.ExitStack() as stack:
        place = folder / "lua"
        shutil.copytree(
            ROOT / "examples" / "lua", place, ignore=shutil.ignore_patterns("build", ".majordomo*", "lua54")
        )
        farm = Farm(folder, ("shell", "gcc"))
        stack.callback(farm.close)
        _timed(["majordomo", "run"], place, farm.env)  # fetched and scanned beforehand
        make = folder / "make"
        make.mkdir()
        shutil.copytree(place / "lua54", make / "lua54")
        (make / "Makefile").write_text(MAKEFILE.replace("gcc $(CFLAGS) -c", "$(COMPILE) $(CFLAGS) -c"))
        rounds = iter(range(1_000_000))
        dodo = (place / "dodo.py").read_text()

        def ours(name: str) -> Peer:
            def build() -> float:
                shutil.rmtree(place / "build", ignore_errors=True)
                # Another -D each time, so that no result cache answers.
                (place / "dodo.py").write_text(dodo.replace("-O2", f"-O2 -DROUND={next(rounds)}"))
                env = {**farm.env, "CF_FARM": name}
                return _timed(["majordomo", "run", "-n", "2", "link"], place, env)[0]

            return build

        def theirs(compiler: str, env: dict[str, str]) -> Peer:
            def build() -> float:
                _timed(["make", "clean"], make)
                return _timed(["make", "-j2", f"COMPILE={compiler}"], make, env)[0]

            return build

        peers = {"majordomo, farm": ours("default"), "majordomo, embedded": ours("local")}
        peers |= {name: theirs(*how) for name, how in compilers(stack, folder).items()}
        medians = measured(peers)
    show("Lua 5.4 from nothing (distcc over loopback)", medians, "s", 1, "majordomo, farm")


PARTS = {"noop": noop, "latency": latency, "nothing": nothing, "lua": lambda python: lua()}


@pytest.mark.benchmark
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("part", PARTS)
def test_peers(part: str) -> None:
    PARTS[part](peers_python())


if __name__ == "__main__":
    os.environ["PATH"] = f"{BIN}:{os.environ['PATH']}"
    for part in sys.argv[1:] or PARTS:
        if part not in PARTS:
            sys.exit(f"bench_peers.py: no part {part!r}; there are: {', '.join(PARTS)}")
        PARTS[part](None if part == "lua" else peers_python())
