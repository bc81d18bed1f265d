"""CPU of majordomo alone for farm tasks that do nothing: a backend that answers at once.

Budget: at most 150 µs a task, with the display and the history that a user has.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .programs import environment

TASKS = 10_000
BUDGET_US = 150

DODO = """
from computefarm import needs
META = needs("shell")
def task_noop():
    for i in range({tasks}):
        yield {{"name": str(i), "actions": ["true"]{more}, "meta": META}}
"""

PROGRAM = """
import sys, time
from computefarm.majordomo.app import MajorDomo
from computefarm.majordomo.command_run import Context, Run
from computefarm.testing.backend import ScriptedBackend

class Instant(Context):
    def backend(self, **options):
        backend = ScriptedBackend(name="local")
        def answer(backend, submission):
            backend.place(submission.task)
            backend.end(submission.task)
        backend.on_submit = answer
        return backend

Run.context = Instant()
code = MajorDomo().run(sys.argv[1:])
sys.stderr.write(str(time.process_time()))
sys.exit(code)
"""


def cpu(folder: Path, env: dict[str, str], *arguments: str) -> float:
    """Return the least CPU seconds of three runs, start-up left out."""
    times = []
    for _ in range(3):
        subprocess.run(
            [sys.executable, "-m", "computefarm.cli.majordomo", "forget", "-a"], cwd=folder, env=env, check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, "run", *arguments],
            cwd=folder,
            env=env,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        times.append(float(done.stderr))
    return min(times)


@pytest.mark.benchmark
@pytest.mark.parametrize(
    ("shape", "more"), [("bare", ""), ("one file_dep each", ', "file_dep": [f"in/{i}"]')]
)
def test_cpu_of_a_farm_task(shape: str, more: str, tmp_path: Path) -> None:
    env = environment(tmp_path / "home")
    folder = tmp_path / "project"
    (folder / "in").mkdir(parents=True)
    for i in range(TASKS):
        (folder / f"in/{i}").write_text(str(i))
    (folder / "dodo.py").write_text(DODO.format(tasks=TASKS, more=more))

    all_of_it = cpu(folder, env)
    (folder / "dodo.py").write_text(DODO.format(tasks=1, more=more))
    start = cpu(folder, env)

    each = (all_of_it - start) / TASKS * 1e6
    print(
        f"\nmajordomo, {shape}: {each:.0f} µs CPU per no-op farm task (budget {BUDGET_US}), start {start:.2f} s"
    )
    assert os.path.exists(folder / ".majordomo.db")
