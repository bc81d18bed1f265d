"""Machines that compute `test.sleep`, a kernel of these tests: it sleeps or burns, as long as it is told."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

KERNEL = """
import os
import signal
import subprocess
import time

from computefarm.worker_api.kernel import Cost, Result, whole


class Sleep:
    name, version, devices = "test.sleep", 1, frozenset({"cpu"})

    def parse(self, raw):
        flags = {key: bool(raw.get(key)) for key in ("deaf", "burn", "die", "child")}
        memory = whole(raw, "memory", 0, 1 << 50, default=0)
        return {"ms": whole(raw, "ms", 0, 600_000), "n": raw.get("n"), "memory": memory, **flags}

    def cost(self, request):
        return Cost(memory=request["memory"], cpu_s=request["ms"] / 1000)

    def split(self, request, parts):
        return [request]

    def run(self, request, context):
        if request["die"]:
            os.kill(os.getpid(), signal.SIGSEGV)
        if request["child"]:
            subprocess.Popen(["sleep", "1000"])
        clock = time.process_time if request["burn"] else time.monotonic
        until = clock() + request["ms"] / 1000
        while clock() < until:
            if not request["deaf"]:
                context.check()
            if not request["burn"]:
                time.sleep(0.002)
        return {"pid": os.getpid(), "n": request["n"]}

    def merge(self, request, partials):
        return Result("ok", partials[0])

    def verify(self, request, result):
        return True

    def warmup(self, context):
        pass

    selftest = warmup

    def tags(self):
        return {}
"""


def install_kernel(folder: Path) -> None:
    """Make a folder for PYTHONPATH in which the kernel is installed."""
    about = folder / "sleep_kernel-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / "sleep_kernel.py").write_text(KERNEL)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: sleep-kernel\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[computefarm.kernels]\ntest.sleep = sleep_kernel:Sleep\n")


class Servers:
    """A TaskManager and workers of one home; every worker is known by a name of its own."""

    def __init__(self, machine: Any, folder: Path, address: str) -> None:
        self.machine = machine
        self.folder = folder
        self.address = address
        kernels = folder / "kernels"
        if not kernels.exists():
            install_kernel(kernels)
        machine.environ |= {"PYTHONPATH": str(kernels), "CF_RECOMPUTE_KERNELS": "test.sleep"}
        self.workers: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        """Start the manager."""
        process: subprocess.Popen[bytes] = self.machine.start(
            "cf-taskmanager", "start", "--listen", self.address, *options
        )
        return process

    @property
    def host(self) -> str:
        """Return where the manager is, as lists of hosts spell it."""
        return self.address.removeprefix("tcp://")

    def let_in(self, machine: Any) -> None:
        """Have a machine join as a client."""
        invited = self.machine.call("cf-taskmanager", "invite", "--role", "client", cwd=self.folder)
        assert invited.returncode == 0, invited.stderr
        machine.majordomo("join", invited.stdout.split()[-1], cwd=self.folder)

    def worker(self, name: str, *options: str, slots: int = 1) -> None:
        """Start a worker; it offers its kernels when it is warm."""
        self.workers[name] = self.machine.start(
            *("cf-worker", "--capability", "recompute", "--no-monitor"),
            *("--name", name, "--slots", str(slots), *options),
        )

    def status(self) -> dict[str, dict[str, Any]]:
        """Return the workers that answer requests, by name."""
        done = self.machine.call("cf-taskmanager", "status", "--json", cwd=self.folder)
        if done.returncode != 0:
            return {}
        return {one["worker"]: one for one in json.loads(done.stdout)["requests"]["servers"]}

    def ready(self, *names: str) -> bool:
        """Return whether these can be asked."""
        status = self.status()
        return all(status.get(name, {}).get("state") == "up" for name in names)

    def file(self, requests: Iterable[dict[str, object]]) -> Path:
        """Write requests; each is made different from all others."""
        path = self.folder / f"requests{len(list(self.folder.glob('requests*')))}.jsonl"
        lines = [json.dumps({"kernel": "test.sleep", "n": n, **raw}) for n, raw in enumerate(requests)]
        path.write_text("\n".join(lines) + "\n")
        return path

    def begin(self, path: Path, *options: str) -> subprocess.Popen[str]:
        """Ask the requests of a file, beside the test."""
        return subprocess.Popen(
            ["cf-recompute", "run", str(path), *options],
            cwd=self.folder,
            env=self.machine.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, requests: Iterable[dict[str, object]], *options: str) -> list[dict[str, Any]]:
        """Ask these requests and return the answers."""
        return answers(self.begin(self.file(requests), *options))

    def logs(self) -> str:
        """Return what the services have printed."""
        return str(self.machine.logs())


def free_address() -> str:
    """Return an address of this machine where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def answers(running: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """Wait for a client and return its answers."""
    out, errors = running.communicate(timeout=120)
    assert not errors, errors
    return [json.loads(line) for line in out.splitlines()]


def shares(replies: Iterable[dict[str, Any]]) -> Counter[str]:
    """Return how many answers each worker gave."""
    return Counter(reply["worker"] for reply in replies)


def alive(pid: int) -> bool:
    """Return whether a process runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
