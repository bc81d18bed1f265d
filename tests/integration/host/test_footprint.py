"""How much memory real processes take together."""

from __future__ import annotations

import subprocess
import sys

import pytest

from computefarm.host.footprint import proportional, resident, tree

MIB = 1024 * 1024
FORKS = """
import os, sys
block = bytearray(os.urandom(1024)) * 65536
for _ in range(3):
    if os.fork() == 0:
        break
else:
    print("ready", flush=True)
sys.stdin.read()
"""


def test_what_forks_share_is_counted_once() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        pids = tree(process.pid)
        together, once = resident(pids), proportional(pids)
        process.communicate("")

    assert len(pids) == 4
    assert together > 4 * 64 * MIB
    if not sys.platform.startswith("linux"):
        pytest.skip("NOT TESTED: only Linux tells what processes share")
    assert 64 * MIB < once < 128 * MIB


def test_a_process_that_is_gone_takes_nothing() -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()

    assert tree(done.pid) == {done.pid}
    assert resident([done.pid]) == proportional([done.pid]) == 0
