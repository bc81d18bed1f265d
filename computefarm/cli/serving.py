"""`cf-worker … --serve`: a TaskManager of this machine's own, for as long as the worker runs."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator

from computefarm.errors import FarmError, UsageError
from computefarm.home import Home
from computefarm.host.running import Running
from computefarm.transport.addresses import parse_address
from computefarm.transport.farms import ACCESS, farms_folder

START_S = 20.0
STOP_S = 10.0


@contextlib.contextmanager
def own_manager(home: Home, where: str, port: int, farm: str) -> Iterator[str]:
    """Start a TaskManager that listens at `where`, `HOST[:PORT]` or empty; yield its farm's name; stop it."""
    name = farm or "default"
    if "/" in name or name == "local":
        raise UsageError(f"--farm {name}: with --serve it is the name of the farm that is started")
    address = parse_address(where or "127.0.0.1", default_port=port)
    if any(entry.name == name for entry in Running(home).alive("taskmanager")):
        raise UsageError(
            f"a TaskManager of the farm {name!r} runs here already",
            hint="cf-worker --capability recompute    # without --serve joins it",
        )
    command = [sys.executable, "-m", "computefarm.cli.taskmanager", "start", "--name", name]
    command += ["--listen", str(address), "--lifeline"]
    # The pipe closes when this process ends, be it killed: then the manager ends too.
    manager = subprocess.Popen(command, stdin=subprocess.PIPE)
    try:
        _wait(home, name, manager)
        yield name
    finally:
        manager.terminate()
        try:
            manager.wait(STOP_S)
        except subprocess.TimeoutExpired:
            manager.kill()
            manager.wait()
        assert manager.stdin is not None
        manager.stdin.close()


def _wait(home: Home, name: str, manager: subprocess.Popen[bytes]) -> None:
    """Return when it answers; it says itself what went wrong else."""
    until = time.monotonic() + START_S
    access = farms_folder(home) / name / ACCESS
    while not access.exists():
        code = manager.poll()
        if code is not None:
            error = FarmError("the TaskManager of this server did not start; it says why above")
            error.exit_code = code or 1
            raise error
        if time.monotonic() >= until:
            raise FarmError(f"the TaskManager of this server is not there after {START_S:.0f} s")
        time.sleep(0.02)
