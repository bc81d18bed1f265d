"""Ctrl-C, SIGTERM, SIGKILL and two runs at once: what had finished is remembered, and nothing is left running."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from .front_end import MAJORDOMO, WITH_DOUBLE, environment, run

LOCAL = """
def task_done():
    for i in range(3):
        yield {"name": str(i), "actions": [f"echo {i} > done{i}"], "targets": [f"done{i}"], "file_dep": ["in.txt"]}
def task_slow():
    return {"actions": ["touch started; sleep 987"], "task_dep": ["done"], "teardown": ["touch torn"]}
"""

PYTHON = """
import time
def slow():
    open("started", "w").close()
    time.sleep(987)
def task_slow():
    return {"actions": [slow]}
"""

FARM = """
from computefarm import needs
def task_done():
    for i in range(3):
        yield {"name": str(i), "actions": [f"echo {i} > done{i}"], "targets": [f"done{i}"], "file_dep": ["in.txt"],
               "meta": needs("shell")}
def task_slow():
    return {"actions": [f"touch %s/started; sleep 987"], "task_dep": ["done"], "meta": needs("shell")}
def task_local():
    return {"actions": ["sleep 986"], "task_dep": ["done"]}
def task_many():
    for i in range(50):
        yield {"name": str(i), "actions": ["touch %s/started; sleep 985"], "task_dep": ["done"], "meta": needs("shell")}
"""


def project(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "in.txt").write_text("in\n")
    (folder / "dodo.py").write_text(text.replace("%s", str(folder)))
    return folder


@contextmanager
def started(program: tuple[str, ...], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run until the file `started` appears; end everything afterwards, whatever the test did."""
    process = subprocess.Popen(
        [*program, "run", "-n", "2"],
        cwd=folder,
        env=environment(folder.parent / "home"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        until(lambda: (folder / "started").exists(), process)
        yield process
    finally:
        for each in sleepers(folder):
            each.kill()
        if process.poll() is None:
            process.kill()
        process.communicate()


def until(condition: object, process: subprocess.Popen[str], patience: float = 30.0) -> None:
    deadline = time.monotonic() + patience
    while not condition():  # type: ignore[operator]
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def sleepers(folder: Path) -> list[psutil.Process]:
    """Return the processes that a run in `folder` has left: they carry its home in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.name() in ("sleep", "sh") and any(
                f"98{n}" in process.cmdline()[-1] for n in (5, 6, 7)
            ):
                ancestors = [process, *process.parents()]
                if any(_belongs(each, folder) for each in ancestors):
                    found.append(process)
        except (psutil.Error, IndexError):
            continue
    return found


def _belongs(process: psutil.Process, folder: Path) -> bool:
    try:
        return str(folder.parent) in process.environ().get("CF_HOME", "") or process.cwd().startswith(
            str(folder.parent)
        )
    except psutil.Error:
        return False


def remembered(folder: Path) -> set[str]:
    connection = sqlite3.connect(folder / ".majordomo.db")
    try:
        return {row[0] for row in connection.execute("select task from tasks")}
    finally:
        connection.close()


DONE = {"done:0", "done:1", "done:2"}
CASES = [
    pytest.param(MAJORDOMO, LOCAL, id="local command"),
    pytest.param(MAJORDOMO, PYTHON, id="local python"),
    pytest.param(WITH_DOUBLE, FARM, id="farm"),
    pytest.param(MAJORDOMO, FARM, id="embedded farm"),
]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(("program", "text"), CASES)
def test_a_signal_stops_the_run_cleanly(
    program: tuple[str, ...], text: str, number: signal.Signals, code: int, tmp_path: Path
) -> None:
    folder = project(tmp_path / "project", text)
    with started(program, folder) as process:
        os.kill(process.pid, number)
        _, err = process.communicate(timeout=30)

        assert process.returncode == code
        assert "Traceback" not in err
        assert not sleepers(folder)
        if text is not PYTHON:
            assert remembered(folder) >= DONE
        if text is LOCAL:
            assert (folder / "torn").exists()


@pytest.mark.parametrize(("program", "text"), [CASES[0], CASES[3]])
def test_a_second_signal_ends_the_run_at_once(program: tuple[str, ...], text: str, tmp_path: Path) -> None:
    folder = project(tmp_path / "project", text)
    with started(program, folder) as process:
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)

        assert process.returncode in (130, -signal.SIGINT)
        until_gone(folder)


def until_gone(folder: Path) -> None:
    """The spawner ends its tasks when its parent is gone; that is soon, not at once."""
    deadline = time.monotonic() + 10
    while sleepers(folder):
        assert time.monotonic() < deadline, [p.cmdline() for p in sleepers(folder)]
        time.sleep(0.05)


@pytest.mark.parametrize(("program", "text"), [CASES[0], CASES[3]])
def test_a_killed_run_remembers_what_had_finished(
    program: tuple[str, ...], text: str, tmp_path: Path
) -> None:
    folder = project(tmp_path / "project", text)
    with started(program, folder) as process:
        deadline = time.monotonic() + 10
        while not (folder / ".majordomo.db").exists() or not remembered(folder) >= DONE:
            assert time.monotonic() < deadline, "a success must be written soon after the task's end"
            time.sleep(0.01)
        process.kill()
        process.communicate(timeout=10)

    again = run(program, "run", "done", folder=folder)
    assert again.code == 0
    assert "3 up to date" in again.out, again.out


def test_a_second_run_in_the_folder_is_refused(tmp_path: Path) -> None:
    folder = project(tmp_path / "project", LOCAL)
    with started(MAJORDOMO, folder) as process:
        second = run(MAJORDOMO, "run", folder=folder)
        forget = run(MAJORDOMO, "forget", "-a", folder=folder)
        listed = run(MAJORDOMO, "list", "-s", folder=folder)

        assert second.code == forget.code == 6
        assert str(process.pid) in second.err
        assert "Traceback" not in second.err
        assert listed.code == 0
