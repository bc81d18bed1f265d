"""Machines that compute `test.sleep`, a kernel of these tests: it sleeps or burns, as long as it is told."""

from __future__ import annotations

import os
import socket
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from computefarm.backends.choice import connect
from computefarm.errors import FarmError
from computefarm.home import Home
from computefarm.recompute import Answer, Client
from computefarm.settings import load_settings

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
        began, child = time.time(), 0
        if request["child"]:
            child = subprocess.Popen(["sleep", "1000"]).pid
        clock = time.process_time if request["burn"] else time.monotonic
        until = clock() + request["ms"] / 1000
        while clock() < until:
            if not request["deaf"]:
                context.check()
            if not request["burn"]:
                time.sleep(0.002)
        told = {"pid": os.getpid(), "n": request["n"], "child": child}
        return {**told, "began": began, "ended": time.time()}

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

    def __init__(self, machine: Any, folder: Path, address: str, farm: str = "default") -> None:
        self.machine = machine
        self.farm = farm
        self.home = Home.find(machine.environ)
        self.settings = load_settings({}, {}, self.home)
        self.asked = 0
        self.folder = folder
        self.address = address
        kernels = folder / "kernels"
        if not kernels.exists():
            install_kernel(kernels)
        machine.environ |= {"PYTHONPATH": str(kernels), "CF_RECOMPUTE_KERNELS": "test.sleep"}
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.manager: subprocess.Popen[bytes]

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
        """Return the workers that answer requests, by name; none while nobody answers."""
        settings = msgspec.structs.replace(self.settings, farm=self.farm)
        try:
            backend = connect(home=self.home, settings=settings, session="look")
        except FarmError:
            return {}
        assert backend is not None
        try:
            return {one.worker: msgspec.structs.asdict(one) for one in backend.status().servers}
        except FarmError:
            return {}
        finally:
            backend.close()

    def ready(self, *names: str) -> bool:
        """Return whether these can be asked."""
        status = self.status()
        return all(status.get(name, {}).get("state") == "up" for name in names)

    def client(self, hosts: str = "", *, connect_timeout_ms: int = 2000, **more: Any) -> Client:
        """Return a client of this machine; it asks the manager here when nothing is said."""
        settings = msgspec.structs.replace(self.settings, recompute_connect_timeout=connect_timeout_ms)
        return Client(hosts or self.host, home=self.home, settings=settings, **more)

    def requests(self, count: int, **fields: object) -> list[dict[str, object]]:
        """Return requests that are different from all others; half a minute is enough for each."""
        self.asked += count
        numbers = range(self.asked - count, self.asked)
        return [{"kernel": "test.sleep", "deadline_ms": 30_000, **fields, "n": n} for n in numbers]

    def ask(self, count: int, *, in_flight: int | None = None, **fields: object) -> list[Answer]:
        """Ask so many requests, and see that each answer is that of its own."""
        requests = self.requests(count, **fields)
        with self.client(max_in_flight=in_flight) as client:
            answers = list(client.map(requests))
        assert right(requests, answers), answers
        return answers

    def logs(self) -> str:
        """Return what the services have printed."""
        return str(self.machine.logs())


def free_address() -> str:
    """Return an address of this machine where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def right(requests: Sequence[dict[str, object]], answers: Sequence[Answer]) -> bool:
    """Return whether every request has its own answer."""
    return [("ok", one["n"]) for one in requests] == [(a.status, a.values.get("n")) for a in answers]


def shares(answers: Iterable[Answer]) -> Counter[str]:
    """Return how many answers each worker gave."""
    return Counter(answer.worker for answer in answers)


def alive(pid: int) -> bool:
    """Return whether a process runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
