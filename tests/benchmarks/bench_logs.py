"""A task that floods the farm with output: how many lines arrive, and what that does to everybody else.

    python tests/benchmarks/bench_logs.py [MEGABYTES]        (default 2000)

A TaskManager and a worker with two slots on loopback. In one slot no-op tasks run one after the other, first
alone, then beside a task that prints MEGABYTES; meanwhile a viewer asks the manager for its status on a
control connection of its own. Prints latencies, lines a second, and what manager and worker take in memory and
processor time. Nothing here asserts a time.
"""

from __future__ import annotations

import os
import queue
import sys
import tempfile
import threading
import time
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


class Pings:
    """Asks the manager for its status, over and over."""

    def __init__(self, home: Home) -> None:
        viewer = connect(home=home, settings=load_settings({}, {}, home), session="ping")
        assert viewer is not None
        self._viewer = viewer
        self._end = threading.Event()
        self.times: list[float] = []
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        while not self._end.is_set():
            before = time.perf_counter()
            self._viewer.status()
            self.times.append(time.perf_counter() - before)
            self._end.wait(0.005)

    def close(self) -> list[float]:
        """Return what was measured."""
        self._end.set()
        self._thread.join()
        self._viewer.close()
        return self.times


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

    with tempfile.TemporaryDirectory(prefix="cf-bench-") as name:
        folder = Path(name)
        farm = Farm(folder)
        try:
            home = Home.find(farm.env)
            client = Client(
                choose(home=home, settings=load_settings({}, {}, home), session="flood", project=folder),
                folder,
            )
            client.no_ops(until=time.monotonic() + 1)
            pings = Pings(home)
            alone = client.no_ops(until=time.monotonic() + 4)
            print(f"alone:      no-op task  {spread(alone)}")
            print(f"            status      {spread(pings.close())}")
            ours = {
                "taskmanager": psutil.Process(farm.manager.pid),
                "worker": psutil.Process(farm.worker.pid),
            }
            before = {name: cpu(process) for name, process in ours.items()}
            pings, began = Pings(home), time.monotonic()
            flood = client.submit(f"yes '{LINE}' | head -c {megabytes * 1_000_000}")
            beside = client.no_ops(beside=flood)
            took = time.monotonic() - began
            print(f"in a flood: no-op task  {spread(beside)}")
            print(f"            status      {spread(pings.close())}")
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
    measure(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
    os._exit(0)
