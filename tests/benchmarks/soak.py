"""A long run through one manager: its memory must not grow with the number of tasks that have ended.

    python tests/benchmarks/soak.py [TASKS]        (default 200000)

Two slots, real processes, no-op shell tasks in runs of 5 000, one after the other. Prints the manager's and the
worker's resident memory, open files and threads, the size of the journal and the manager's CPU at every tenth. Nothing
here asserts.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parent))

from bench_farm import DODO, Farm

RUN = 5_000
"""Tasks of one majordomo."""


def resident(process: subprocess.Popen[bytes]) -> float:
    """Return MiB."""
    return float(psutil.Process(process.pid).memory_info().rss) / 2**20


def handles(process: subprocess.Popen[bytes]) -> str:
    """Return the number of open files and of threads."""
    known = psutil.Process(process.pid)
    return f"{known.num_fds()}/{known.num_threads()}"


def journal_size(home: Path) -> float:
    """Return MiB."""
    return sum(path.stat().st_size for path in home.rglob("*.journal")) / 2**20


def cpu_s(process: subprocess.Popen[bytes]) -> float:
    """Return the CPU seconds of a process itself."""
    times = psutil.Process(process.pid).cpu_times()
    return float(times.user + times.system)


def soak(tasks: int) -> None:
    """Run `tasks` tasks, and print a line at each tenth."""
    with tempfile.TemporaryDirectory(prefix="cf-soak-") as name:
        folder = Path(name)
        farm = Farm(folder)
        try:
            project = folder / "project"
            project.mkdir()
            (project / "dodo.py").write_text(DODO.format(count=RUN))
            print(
                f"{'tasks':>9} {'manager MiB':>12} {'files/threads':>14} {'worker MiB':>11} {'files/threads':>14}"
                f" {'journal MiB':>12} {'µs/task CPU':>12}"
            )
            done, began, said = 0, time.monotonic(), 0
            while True:
                if done * 10 >= said * tasks:
                    said = done * 10 // tasks + 1
                    cpu = cpu_s(farm.manager) / done * 1e6 if done else 0.0
                    print(
                        f"{done:9} {resident(farm.manager):12.1f} {handles(farm.manager):>14}"
                        f" {resident(farm.worker):11.1f} {handles(farm.worker):>14}"
                        f" {journal_size(folder / 'home'):12.2f} {cpu:12.0f}",
                        flush=True,
                    )
                if done >= tasks:
                    break
                subprocess.run(
                    ["majordomo", "run"], cwd=project, env=farm.env, check=True, stdout=subprocess.DEVNULL
                )
                done += RUN
            print(f"{(time.monotonic() - began) / tasks * 1e6:.0f} µs per task")
        finally:
            for process in (farm.worker, farm.manager):
                process.terminate()
                process.wait(20)


if __name__ == "__main__":
    soak(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000)
