"""Nothing to do: 10 000 tasks, flat and with 20 shared headers each, against stock doit in the same run.

Budget: at most half of stock doit's time flat, a third with headers.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .programs import environment

TASKS = 10_000
HEADERS = 20
ROUNDS = 5

DODO = """
from pathlib import Path
HEADERS = [f"h/{{i}}.h" for i in range({headers})]
def task_copy():
    for i in range({tasks}):
        yield {{"name": str(i), "actions": [f"cp in/{{i}}.c out/{{i}}.o"], "file_dep": [f"in/{{i}}.c", *HEADERS],
               "targets": [f"out/{{i}}.o"]{meta}}}
"""


def project(folder: Path, headers: int, meta: str = "") -> Path:
    for name in ("in", "out", "h"):
        (folder / name).mkdir(parents=True)
    for i in range(TASKS):
        (folder / f"in/{i}.c").write_text(str(i))
        (folder / f"out/{i}.o").write_text(str(i))
    for i in range(headers):
        (folder / f"h/{i}.h").write_text(f"header {i}" * 200)
    (folder / "dodo.py").write_text(DODO.format(headers=headers, tasks=TASKS, meta=meta))
    return folder


def best(commands: list[list[str]], folder: Path, env: dict[str, str]) -> list[tuple[float, float]]:
    """Return the least wall and CPU seconds of each command; they take turns, so that all meet the same load."""
    least = [(float("inf"), float("inf"))] * len(commands)
    for _ in range(ROUNDS):
        for index, command in enumerate(commands):
            begun = time.perf_counter()
            process = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - begun
            process.returncode = os.waitstatus_to_exitcode(status)
            assert process.returncode == 0
            least[index] = (min(least[index][0], wall), min(least[index][1], usage.ru_utime + usage.ru_stime))
    return least


@pytest.mark.benchmark
@pytest.mark.parametrize(
    ("shape", "headers", "budget"), [("flat", 0, 0.5), ("20 headers each", HEADERS, 0.33)]
)
def test_null_build(shape: str, headers: int, budget: float, tmp_path: Path) -> None:
    env = environment(tmp_path / "home")
    folder = project(tmp_path / "project", headers)
    stock, ours = [sys.executable, "-m", "doit"], [sys.executable, "-m", "computefarm.cli.majordomo"]
    # `reset-dep` remembers the files as they are, without running anything.
    for program in (stock, ours):
        command = [*program, "reset-dep", "--backend", "sqlite3"]
        subprocess.run(command, cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL)
    doit_run, our_run = [*stock, "run", "--backend", "sqlite3"], [*ours, "run"]
    bare = [sys.executable, "-c", "import doit.doit_cmd"]
    (wall, cpu), (our_wall, our_cpu), (start, _) = best([doit_run, our_run, bare], folder, env)
    print(
        f"\nnull build of {TASKS} tasks, {shape}: stock doit {wall:.2f} s, majordomo {our_wall:.2f} s, "
        f"ratio {our_wall / wall:.2f} (budget {budget}); CPU {cpu:.2f} and {our_cpu:.2f} s, "
        f"ratio {our_cpu / cpu:.2f}; importing doit alone {start:.2f} s"
    )
