"""Nothing to do: 10 000 tasks, flat and with 20 shared headers each, against stock doit in the same run.

Budget: at most half of stock doit's time flat, a third with headers.
"""

from __future__ import annotations

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


def best(command: list[str], folder: Path, env: dict[str, str]) -> float:
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        subprocess.run(command, cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - begun)
    return min(times)


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
    theirs = best([*stock, "run", "--backend", "sqlite3"], folder, env)
    mine = best([*ours, "run"], folder, env)
    bare = best([sys.executable, "-c", "import doit.doit_cmd"], folder, env)
    print(
        f"\nnull build of {TASKS} tasks, {shape}: stock doit {theirs:.2f} s, majordomo {mine:.2f} s, "
        f"ratio {mine / theirs:.2f} (budget {budget}); importing doit alone {bare:.2f} s"
    )
