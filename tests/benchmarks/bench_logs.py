"""A task that floods the farm with output: how many lines arrive, and what that does to everybody else.

    python tests/benchmarks/bench_logs.py [MEGABYTES]        (default 2000)

A TaskManager and a worker with two slots on loopback. In one slot no-op tasks run one after the other, first
alone, then beside a task that prints MEGABYTES; meanwhile a viewer asks the manager for its status on a
control connection of its own. Prints latencies, lines a second, and what manager and worker take in memory and
processor time; "the machine" is what a byte takes to another process and back meanwhile, the farm aside.
Nothing here asserts a time.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from computefarm.backends.base import Backend, Ended, Event, Printed, Submission
from computefarm.backends.choice import choose, connect
from computefarm.codec import encode_action
from computefarm.home import Home
from computefarm.messages import Action, Need
from computefarm.settings import load_settings

sys.path.insert(0, str(Path(__file__).parent))

LINE = "a line of some forty-odd characters, as most"


PING_S = 0.005
"""Between two questions."""


class Pings:
    """A process of its own that asks the manager for its status over and over, or only the machine for its turn.

    In this process it would wait for the thread that takes the lines.
    """

    def __init__(self, home: Home | None) -> None:
        """Without a home, a byte is sent to another process and back: what any program waits for here."""
        asked = [] if home is None else [str(home.state)]
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--ping", *asked],
            env={**os.environ, **({} if home is None else {"CF_HOME": str(home.state.parent)})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def close(self) -> list[float]:
        """Return what was measured."""
        said, _ = self._process.communicate("", 60)
        return [float(word) for word in said.split()]


def ping(of_manager: bool) -> None:
    """Measure until stdin is closed, and print all times."""
    if of_manager:
        home = Home.find(os.environ)
        viewer = connect(home=home, settings=load_settings({}, {}, home), session="ping")
        assert viewer is not None
        ask: Callable[[], object] = viewer.status
    else:
        echo = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        assert echo.stdin is not None
        assert echo.stdout is not None
        there, back = echo.stdin, echo.stdout

        def ask() -> object:
            there.write(b".")
            return back.read(1)

    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    ask()
    print("asking", flush=True)
    times: list[float] = []
    while not ended.wait(PING_S):
        before = time.perf_counter()
        ask()
        times.append(time.perf_counter() - before)
    print(*times, flush=True)


class Client:
    """One run's tasks."""

    def __init__(self, backend: Backend, project: Path) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        backend.start(self.events.put)
        self._backend = backend
        self._project = project
        self._fingerprint = backend.offers("shell").pools[0].offer.fingerprint
        self._number = 0
        self.lines = 0

    def submit(self, command: str) -> int:
        """Submit one task."""
        self._number += 1
        action = Action("shell", (command,), fingerprint=self._fingerprint, salt=f"{time.time_ns()}")
        self._backend.submit(
            [
                Submission(
                    task=self._number,
                    name=f"t{self._number}",
                    need=Need("shell", fingerprint=self._fingerprint),
                    action=encode_action(action),
                    sources={},
                    project=self._project,
                    read_cache=False,
                    write_cache=False,
                )
            ]
        )
        return self._number

    def wait(self) -> int:
        """Return the number of a task that has ended."""
        while True:
            event = self.events.get(timeout=600)
            if isinstance(event, Printed):
                self.lines += sum(piece.text.count("\n") for piece in event.pieces)
            elif isinstance(event, Ended):
                assert event.result.exit_code == 0, event.result.reason
                return event.task

    def no_ops(self, until: float = 0.0, beside: int = 0) -> list[float]:
        """Return the time each of many no-op tasks took, until then or until the task `beside` ends."""
        times: list[float] = []
        while True:
            before = time.perf_counter()
            number = self.submit("true")
            ended = 0
            while ended != number:
                ended = self.wait()
                if ended == beside:
                    return times
            times.append(time.perf_counter() - before)
            if until and time.monotonic() > until:
                return times


def spread(times: list[float]) -> str:
    """Return p50, p99 and the worst in milliseconds."""
    ordered = sorted(times)
    p50, p99 = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    return (
        f"p50 {p50 * 1e3:6.2f} · p99 {p99 * 1e3:6.2f} · worst {ordered[-1] * 1e3:6.2f} ms of {len(ordered)}"
    )


def cpu(process: psutil.Process) -> float:
    """Return the processor seconds that a process has taken."""
    times = process.cpu_times()
    return times.user + times.system


def measure(megabytes: int = 2000) -> None:
    """Print the table."""
    from bench_farm import Farm

    class Usual(Farm):
        """A farm whose worker is as nice to its machine as workers are."""

        def _start(self, *command: str) -> subprocess.Popen[bytes]:
            words = list(command)
            if "--nice" in words:
                del words[words.index("--nice") : words.index("--nice") + 2]
            return super()._start(*words)

    with tempfile.TemporaryDirectory(prefix="cf-bench-") as name:
        folder = Path(name)
        farm = Usual(folder)
        try:
            home = Home.find(farm.env)
            client = Client(
                choose(home=home, settings=load_settings({}, {}, home), session="flood", project=folder),
                folder,
            )
            client.no_ops(until=time.monotonic() + 1)
            pings, machine = Pings(home), Pings(None)
            alone = client.no_ops(until=time.monotonic() + 4)
            print(f"alone:      no-op task  {spread(alone)}")
            print(f"            status      {spread(pings.close())}")
            print(f"            the machine {spread(machine.close())}")
            ours = {
                "taskmanager": psutil.Process(farm.manager.pid),
                "worker": psutil.Process(farm.worker.pid),
            }
            before = {name: cpu(process) for name, process in ours.items()}
            pings, machine, began = Pings(home), Pings(None), time.monotonic()
            flood = client.submit(f"yes '{LINE}' | head -c {megabytes * 1_000_000}")
            beside = client.no_ops(beside=flood)
            took = time.monotonic() - began
            print(f"in a flood: no-op task  {spread(beside)}")
            print(f"            status      {spread(pings.close())}")
            print(f"            the machine {spread(machine.close())}")
            printed = megabytes * 1_000_000 // (len(LINE) + 1)
            log = home.state / "farm-logs" / "default" / "farm.jsonl"
            time.sleep(1.0)
            kept = sum(path.read_bytes().count(b"\n") for path in log.parent.glob("farm*.jsonl"))
            print(
                f"{printed:,} lines printed in {took:.1f} s ({printed / took:,.0f}/s, {megabytes / took:.0f} MB/s)"
            )
            print(
                f"{client.lines:,} came to the client ({client.lines / took:,.0f}/s); the farm's log has {kept:,}"
            )
            for part, process in ours.items():
                rss = process.memory_info().rss / 1e6
                print(f"cf-{part}: {cpu(process) - before[part]:.2f} s of processor time, {rss:.0f} MB")
        finally:
            farm.close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ping"]:
        ping(len(sys.argv) > 2)
        os._exit(0)
    measure(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
    os._exit(0)
