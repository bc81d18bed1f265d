"""A farm of real processes, a build that runs meanwhile, and peers that mean no good."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from computefarm import __version__
from computefarm.codec import HEADER, decode_from_manager, encode
from computefarm.messages import PROTOCOL, Disconnect, FromManager, Hello, Offer, Register, Run, ToManager
from computefarm.transport.farms import Access, read_access
from computefarm.transport.keys import KeyPair, load_keys, spell

BIN = Path(sys.executable).parent
PATIENCE_S = 30.0


def wait_for(true: Callable[[], object], what: str, show: Callable[[], object] = str) -> None:
    """Ask again and again until it is true."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, f"no {what} within {PATIENCE_S:.0f} s\n{show()}"
        time.sleep(0.02)


class Evil:
    """A bare ZeroMQ peer with a key that the farm knows, and none of our own ends' manners."""

    def __init__(self, place: Place, keys: KeyPair, address: str = "", **options: object) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.heard: list[FromManager] = []
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.curve_serverkey = place.access.server_key.encode()
        self.socket.curve_publickey = keys.public.encode()
        self.socket.curve_secretkey = keys.secret.encode()
        for name, value in options.items():
            setattr(self.socket, name, value)
        self.socket.connect(address or place.address)

    def say(self, *messages: ToManager, data: bytes | None = None) -> None:
        """Send messages in one frame."""
        self.raw(encode(messages), data)

    def raw(self, body: bytes, data: bytes | None = None) -> None:
        """Send any body."""
        self.socket.send_multipart([HEADER, body] if data is None else [HEADER, body, data])

    def hello(
        self, role: str, *, protocol: int = PROTOCOL, channel: str = "control", boot: str = "evil"
    ) -> Evil:
        """Say who one pretends to be."""
        self.say(Hello(protocol, __version__, role, boot, channel, "evil-host", "evil"))
        return self

    def register(self, name: str = "evil", *offers: str, slots: int = 1) -> Evil:
        """Become a worker."""
        found = tuple(Offer(one, "1.0") for one in offers or ("evil",))
        self.say(Register(name, "evil-host", "evil", "linux-x86_64", slots, found))
        return self

    def listen(self, wait_s: float = 0.1) -> None:
        """Take what came."""
        while self.socket.poll(int(wait_s * 1000)):
            self.heard += decode_from_manager(self.socket.recv_multipart()[1])
            wait_s = 0.0

    def until(self, kind: type[FromManager], patience_s: float = PATIENCE_S) -> FromManager:
        """Wait for a message of a kind."""
        deadline = time.monotonic() + patience_s
        while not (found := [one for one in self.heard if isinstance(one, kind)]):
            assert time.monotonic() < deadline, f"no {kind.__name__}, only {self.heard}"
            self.listen()
        return found[0]

    def refusal(self) -> Disconnect:
        """Wait to be told off."""
        found = self.until(Disconnect)
        assert isinstance(found, Disconnect)
        return found

    def task(self) -> Run:
        """Wait to be given a task."""
        found = self.until(Run)
        assert isinstance(found, Run)
        return found

    def close(self) -> None:
        """Hang up."""
        self._context.destroy(linger=0)


class Build:
    """A project that is built over and over beside what happens."""

    def __init__(self, place: Place, folder: Path, tasks: int) -> None:
        self._place = place
        self.folder = folder
        self._stop = threading.Event()
        self.runs: list[tuple[int, float, str]] = []
        """Exit code, seconds and output of each round."""
        folder.mkdir(parents=True)
        (folder / "in.txt").write_text("in\n")
        (folder / "dodo.py").write_text(
            "from computefarm import needs\n\n\ndef task_work():\n"
            f"    for n in range({tasks}):\n"
            "        yield {'name': str(n), 'actions': [f'cat in.txt > out.{n}'], 'file_dep': ['in.txt'],\n"
            "               'targets': [f'out.{n}'], 'meta': needs('shell', cache=False)}\n"
        )
        self.beside: list[str] = []
        """Tests that ran beside it, when several did."""
        self._thread = threading.Thread(target=self._loop)
        self._thread.start()

    def _loop(self) -> None:
        while not self._stop.is_set() or not self.runs:
            began = time.monotonic()
            done = self._place.call("majordomo", "run", "-a", cwd=self.folder)
            self.runs.append((done.returncode, time.monotonic() - began, done.stdout + done.stderr))

    def last_round(self) -> None:
        """Begin no further round."""
        self._stop.set()

    @property
    def goes_on(self) -> bool:
        return self._thread.is_alive()

    def end(self) -> None:
        """Let the present round end; every round must have been green."""
        self._stop.set()
        self._thread.join()
        for code, _, text in self.runs:
            assert code == 0, "\n".join([text, self._place.log(), *self.beside])
            assert "0 failed" in text, self.beside


class Place:
    """A manager and a worker, each with a home of its own, and the log of the manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.processes: list[subprocess.Popen[bytes]] = []
        self._evils: list[Evil] = []
        self._builds: list[Build] = []
        self._small: Build | None = None
        self._numbers = itertools.count()
        self._logs = folder / "manager.log"
        self.manager = self.start("cf-taskmanager", "start", "--listen", self.address, log=self._logs)
        path = folder / "boss/config/farms/default/access.json"
        wait_for(path.exists, "manager", self.log)
        self.access: Access = read_access(path)
        line = self.call("cf-taskmanager", "invite", "--role", "worker").stdout.strip()
        self.start(
            "cf-worker", "--capability", "shell", "--slots", "2", "--name", "good", "--no-monitor", "--join", line,
            home="good", log=folder / "worker.log",
        )  # fmt: skip
        wait_for(lambda: "good" in self.call("majordomo", "status").stdout, "worker", self.log)
        self.keys = {role: self.enrol(role) for role in ("worker", "client", "viewer")}

    def environ(self, home: str = "boss") -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("CF_")}
        path = f"{BIN}{os.pathsep}{kept['PATH']}"
        return {**kept, "CF_HOME": str(self.folder / home), "CI": "true", "PATH": path}

    def start(self, *command: str, home: str = "boss", log: Path) -> subprocess.Popen[bytes]:
        """Start a service."""
        with log.open("ab") as out:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environ(home),
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def call(
        self, *command: str, cwd: Path | None = None, home: str = "boss"
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            command, cwd=cwd or self.folder, env=self.environ(home),
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def enrol(self, role: str, name: str = "") -> KeyPair:
        """Let in a new key, called `evil-ROLE`."""
        keys = KeyPair.make()
        name = name or f"evil-{role}"
        done = self.call("cf-taskmanager", "allow", spell(keys.public), "--role", role, "--as", name)
        assert done.returncode == 0, done.stderr
        return keys

    def evil(self, role: str = "", keys: KeyPair | None = None, address: str = "", **options: object) -> Evil:
        """Return a peer with the key of a role."""
        self._evils.append(made := Evil(self, keys or self.keys[role], address, **options))
        return made

    def own_keys(self, role: str) -> KeyPair:
        """Return the key of the manager's own user."""
        return load_keys(self.access.folder / "keys" / f"{role}.key")

    def build(self, tasks: int = 100) -> Build:
        """Start a build beside what happens."""
        self._builds.append(made := Build(self, self.folder / f"build{next(self._numbers)}", tasks))
        return made

    def small_build(self) -> None:
        """Have a few tasks built beside what happens: by a round that may have been begun for the test before."""
        if self._small is None or not self._small.goes_on:
            self.end_small_build()
            self._small = Build(self, self.folder / f"build{next(self._numbers)}", 20)
            self._small.last_round()
        self._small.beside.append(os.environ["PYTEST_CURRENT_TEST"])

    def end_small_build(self) -> None:
        """Wait for the round, which must be green."""
        small, self._small = self._small, None
        if small is not None:
            small.end()

    def log(self) -> str:
        """Return what the manager has logged."""
        return self._logs.read_text()

    def logged(self, pattern: str, since: int = 0) -> None:
        """Wait for a line of the manager's log, after so many letters of it."""
        wait_for(lambda: re.search(pattern, self.log()[since:]), f"{pattern!r} in the log", self.log)

    def memory(self) -> int:
        """Return the manager's resident bytes."""
        text = Path(f"/proc/{self.manager.pid}/status").read_text()
        return int(text.partition("VmRSS:")[2].split()[0]) * 1024

    def calm(self) -> None:
        """End what a test has left; the manager must have survived it."""
        for one in self._evils:
            one.close()
        self._evils.clear()
        with contextlib.suppress(IndexError):
            while True:
                self._builds.pop().end()
        if self._small is not None and not self._small.goes_on:
            self.end_small_build()
        assert self.manager.poll() is None, self.log()
        assert "Traceback" not in self.log(), self.log()

    def stop(self) -> None:
        """End everything."""
        for process in reversed(self.processes):
            for sign in (signal.SIGTERM, signal.SIGKILL):
                if process.poll() is None:
                    os.killpg(process.pid, sign)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(10)


@pytest.fixture(scope="session")
def shared_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("hostile"))
    yield made
    try:
        made.end_small_build()
    finally:
        made.stop()


@pytest.fixture
def place(shared_place: Place) -> Iterator[Place]:
    """The farm; a build that a test has started must be green in the end."""
    yield shared_place
    shared_place.calm()
