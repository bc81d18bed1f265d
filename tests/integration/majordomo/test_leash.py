"""majordomo is killed with -9: what its local tasks have started ends too, and only then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from computefarm.host.processes import read_process
from computefarm.sandbox.kin import processes

from .front_end import MAJORDOMO, environment, run

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="NOT TESTED: the leash of local tasks is Linux's"
)

DODO = """
import os, subprocess, time
def task_command():
    return {"actions": ["echo $$ > pid.a; setsid sh -c 'trap \\"\\" TERM HUP; echo $$ > pid.b; sleep 987; :' & sleep 987; :"]}
def python():
    if os.fork() == 0:
        time.sleep(987)
    subprocess.run("echo $$ > pid.a; setsid sleep 987 & echo $! > pid.b; sleep 987; :", shell=True)
def task_python():
    return {"actions": [python]}
def task_daemon():
    return {"actions": ["setsid -f sh -c 'echo $$ > pid.a; sleep 987' >/dev/null 2>&1 </dev/null"]}
def task_stdin():
    return {"actions": ["cat > copy; test -z \\"$(ps -o pgid= -p $$ | grep -v $(ps -o pgid= -p $PPID))\\""], "verbosity": 2}
"""


def until(true: Callable[[], object], what: str, patience_s: float = 20) -> None:
    deadline = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < deadline, f"no {what}"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    process = read_process(pid)
    return process is not None and not process.ended


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "dodo.py").write_text(DODO)
    yield folder
    for pid in left(folder):
        os.kill(pid, signal.SIGKILL)


def left(folder: Path) -> list[int]:
    """Return the processes that work in the project, and guards of its runs."""
    home = f"CF_HOME={folder.parent / 'home'}".encode()
    found = []
    for pid in processes():
        try:
            at = os.path.realpath(f"/proc/{pid}/cwd")
            if at == str(folder) or home in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid)
        except OSError:
            continue
    return [pid for pid in found if alive(pid)]


def guards() -> set[int]:
    found = set()
    for pid in processes():
        try:
            if b"\0cf-leash\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.add(pid)
        except OSError:
            continue
    return found


def start(folder: Path, task: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*MAJORDOMO, "run", task],
        cwd=folder,
        env=environment(folder.parent / "home"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def pids(folder: Path) -> list[int]:
    return [int(text) for file in folder.glob("pid.*") if (text := file.read_text().strip())]


@pytest.mark.parametrize("task", ["command", "python"])
def test_a_killed_majordomo_leaves_nothing_behind(folder: Path, task: str) -> None:
    before = guards()
    process = start(folder, task)
    until(lambda: len(pids(folder)) == 2, "running task")
    [guard] = guards() - before
    process.kill()
    process.wait()
    killed_at = time.monotonic()

    until(lambda: not any(alive(pid) for pid in pids(folder)), "end of the processes", 2)
    until(lambda: not alive(guard), "end of the guard", 2)
    assert time.monotonic() - killed_at < 2
    # What was forked without a program of its own has majordomo's first environment, and no mark.
    assert len(left(folder)) == (1 if task == "python" else 0)


def test_what_a_task_left_on_purpose_stays_as_under_doit(folder: Path) -> None:
    before = guards()
    done = run(MAJORDOMO, "run", "daemon", folder=folder)

    assert done.code == 0, done.err
    until(lambda: pids(folder), "daemon")
    assert alive(pids(folder)[0])
    assert guards() <= before


def test_a_task_keeps_its_standard_input_and_its_group(folder: Path) -> None:
    done = subprocess.run(
        [*MAJORDOMO, "run", "stdin"],
        cwd=folder,
        env=environment(folder.parent / "home"),
        input="typed\n",
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "copy").read_text() == "typed\n"


def test_a_run_without_local_tasks_needs_no_guard(folder: Path) -> None:
    (folder / "dodo.py").write_text(
        "from computefarm import needs\n\n\n"
        "def task_work():\n"
        "    return {'actions': ['echo $CF_LEASH > out; sleep 987'], 'meta': needs('shell', timeout=0.5)}\n"
    )
    before = guards()
    process = start(folder, "work")
    seen = set()
    while process.poll() is None:
        seen |= guards() - before
        time.sleep(0.01)

    assert process.returncode == 1
    assert seen == set()
