"""Which processes of a CF_HOME run, told from files that crashes leave behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from computefarm.errors import Refused
from computefarm.home import Home
from computefarm.host.running import Running, end


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.find({"CF_HOME": str(tmp_path)})


CLAIM = """
import os, sys, time
from computefarm.home import Home
from computefarm.host.running import Running
Running(Home.find(os.environ)).claim("worker", "w1", "about")
print("in", flush=True)
time.sleep(60)
"""


def claimed_elsewhere(home: Home) -> subprocess.Popen[str]:
    environ = {"CF_HOME": str(home.config.parent), "PATH": "/usr/bin:/bin"}
    process = subprocess.Popen([sys.executable, "-c", CLAIM], env=environ, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    process.stdout.close()
    return process


def test_a_name_is_claimed_once(home: Home) -> None:
    process = claimed_elsewhere(home)
    try:
        [entry] = Running(home).alive("worker")
        assert (entry.name, entry.pid, entry.about) == ("w1", process.pid, "about")
        with pytest.raises(Refused, match=f"'w1' runs already here, as process {process.pid}"):
            Running(home).claim("worker", "w1")
    finally:
        process.kill()
        process.wait()


def test_what_a_killed_process_left_behind_does_not_count(home: Home) -> None:
    process = claimed_elsewhere(home)
    process.kill()
    process.wait()

    assert Running(home).alive("worker") == []
    Running(home).claim("worker", "w1")
    assert [entry.name for entry in Running(home).alive("worker")] == ["w1"]

    Running(home).release("worker", "w1")
    assert Running(home).alive("worker") == []


def test_the_end_of_a_process_is_waited_for(home: Home) -> None:
    process = claimed_elsewhere(home)
    [entry] = Running(home).alive("worker")
    process.terminate()
    process.wait()

    assert end(entry, patience_s=5.0)


def test_a_damaged_entry_is_no_process(home: Home) -> None:
    Running(home).claim("monitor", "host")
    next((home.state / "run").glob("monitor-*.json")).write_text("{")

    assert Running(home).alive("monitor") == []
