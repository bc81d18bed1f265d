"""Strangers, missing capabilities, owners who return: rows 22 to 24 (25 has a file of its own)."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import zmq

from tests.acceptance.conftest import Farm, Machine, wait_for

from .conftest import LEASE_S, Build

MakeBuild = Callable[..., Build]
MakeFarm = Callable[..., Farm]
Files = dict[str, str]


class Nuisance:
    """Connects to the farm's port with what does not belong there, again and again."""

    def __init__(self, address: str) -> None:
        host, port = address.removeprefix("tcp://").split(":")
        self._place = (host, int(port))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.connections = 0

    def _run(self) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        plain = context.socket(zmq.DEALER)  # speaks ZeroMQ, and has no key
        plain.setsockopt(zmq.LINGER, 0)
        plain.connect(f"tcp://{self._place[0]}:{self._place[1]}")
        silent = []
        while not self._stop.wait(0.01):
            with socket.create_connection(self._place, 5) as link:
                link.sendall(os.urandom(64) if self.connections % 2 else b"GET / HTTP/1.0\r\n\r\n")
            if len(silent) < 50:
                silent.append(socket.create_connection(self._place, 5))
            self.connections += 1
        for link in silent:
            link.close()
        plain.close()
        context.destroy(linger=0)

    def __enter__(self) -> Nuisance:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def test_22_strangers_at_the_port(
    standing_farm: Farm, build: MakeBuild, undisturbed: Files, machine: Machine
) -> None:
    """Junk, silence and a revoked key: refused with what to do, and the build beside them goes on."""
    invited = standing_farm.here.call(
        "cf-taskmanager", "invite", "--role", "client", cwd=standing_farm.folder
    )
    stranger = build("stranger")
    machine.majordomo("join", invited.stdout.strip(), cwd=stranger.folder)
    [key_file] = machine.home.glob("config/farms/*/keys/client.key")
    standing_farm.here.call(
        "cf-taskmanager", "revoke", key_file.read_text().split()[0], cwd=standing_farm.folder
    )
    work = build(pause_s=0.1)
    with Nuisance(standing_farm.address) as nuisance:
        work.start(standing_farm.here)
        text = machine.majordomo("run", cwd=stranger.folder, code=6)
        work.finish(standing_farm.logs)
    assert nuisance.connections > 20
    assert "does not know this machine's key" in text
    assert "cf-taskmanager allow" in text
    assert stranger.begun() == {}
    assert work.files() == undisturbed
    assert set(work.begun().values()) == {1}


def test_23_nobody_offers_it(standing_farm: Farm, build: MakeBuild, undisturbed: Files) -> None:
    work = build(pause_s=0)
    dodo = (work.folder / "dodo.py").read_text()
    (work.folder / "dodo.py").write_text(dodo.replace('needs("shell"', 'needs("shell>=99"'))
    wait_for(lambda: standing_farm.status()["uptime_s"] > LEASE_S + 1, "settled farm", standing_farm.logs)
    began = time.monotonic()
    text = standing_farm.here.majordomo("run", cwd=work.folder, code=5)
    assert time.monotonic() - began < 8
    assert "no worker offers shell>=99" in text
    (work.folder / "dodo.py").write_text(dodo)
    standing_farm.here.majordomo("run", cwd=work.folder)
    assert work.files() == undisturbed


@contextmanager
def owner_at_work() -> Iterator[None]:
    """The machine's owner needs all of it."""
    burners = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4 * (os.cpu_count() or 1))
    ]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def test_24_the_owner_comes_back(own_farm: MakeFarm, build: MakeBuild, undisturbed: Files) -> None:
    """With the owner's limit nothing is started while the owner works, it is said, and no task is lost."""
    place = own_farm(0)
    place.here.start("cf-worker", "--capability", "shell", "--slots", "1", "--no-monitor")
    place.here.start("cf-monitor", "--interval", "0.5", "--max-load", "1.5")

    def reported() -> bool:
        hosts = place.status()["hosts"]
        return bool(hosts) and hosts[0]["last_report_s"] is not None

    wait_for(reported, "worker and load report", place.logs)
    work = build(pause_s=0.3)
    work.start(place.here)
    work.wait_for(3, place.logs)
    with owner_at_work():
        wait_for(lambda: place.status()["workers"][0]["state"] == "held", "held worker", place.logs)
        wait_for(lambda: place.status()["tasks"]["running"] == 0, "end of what had been begun", place.logs)
        held = sum(work.begun().values())
        wait_for(
            lambda: "the owner's limit" in work.said(), "word about it", lambda: work.said() + place.logs()
        )
        assert sum(work.begun().values()) == held
    work.finish(place.logs)
    assert work.files() == undisturbed
    assert set(work.begun().values()) == {1}


def test_a_monitor_that_reports_seldom_is_not_taken_for_dead(own_farm: MakeFarm) -> None:
    """Its reports are rarer than a lease; it says in between that it lives."""
    place = own_farm(0)
    place.here.start("cf-monitor", "--interval", "10")
    wait_for(lambda: place.status()["hosts"], "first report", place.logs)
    began = place.status()["uptime_s"]
    wait_for(lambda: place.status()["uptime_s"] > began + 3 * LEASE_S, "three leases", place.logs)
    assert "silent" not in place.logs()
    [host] = place.status()["hosts"]
    assert host["online"], host
