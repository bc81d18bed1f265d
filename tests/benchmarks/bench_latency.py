"""One no-op shell task at a time on an idle farm: from submit to result, in a client's own process.

    python tests/benchmarks/bench_latency.py [COUNT]        (default 300)

Prints p50, p90 and p99 of a TaskManager with a worker on loopback, of the embedded farm,
and of running the same command with `subprocess`, in one run. Nothing here asserts a time.
"""

from __future__ import annotations

import os
import queue
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from computefarm.backends.base import Backend, Ended, Event, Submission
from computefarm.backends.choice import choose
from computefarm.codec import encode_action
from computefarm.home import Home
from computefarm.messages import Action, Need
from computefarm.settings import load_settings

sys.path.insert(0, str(Path(__file__).parent))

COUNT = 300


def farm_latencies(backend: Backend, project: Path, count: int) -> list[float]:
    """Return the seconds that each of `count` tasks took, one after the other."""
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    backend.start(events.put)
    try:
        fingerprint = backend.offers("shell").pools[0].offer.fingerprint
        times = []
        for number in range(count + 20):
            action = Action("shell", ("true",), fingerprint=fingerprint, salt=f"{time.time_ns()}")
            one = Submission(
                task=number,
                name=f"t{number}",
                need=Need("shell", fingerprint=fingerprint),
                action=encode_action(action),
                sources={},
                project=project,
                read_cache=False,
                write_cache=False,
            )
            before = time.perf_counter()
            backend.submit([one])
            while not isinstance(event := events.get(timeout=30), Ended):
                pass
            times.append(time.perf_counter() - before)
            assert event.result.exit_code == 0, event.result.reason
        return times[20:]
    finally:
        backend.close()


def plain_latencies(count: int) -> list[float]:
    """Return the same for `subprocess`."""
    times = []
    for _ in range(count):
        before = time.perf_counter()
        subprocess.run(["/bin/sh", "-e", "-c", "true"], check=True, capture_output=True)
        times.append(time.perf_counter() - before)
    return times


def measure(count: int = COUNT) -> dict[str, float]:
    """Print the table and return the medians in microseconds."""
    from bench_farm import Farm

    with tempfile.TemporaryDirectory(prefix="cf-bench-") as name:
        folder = Path(name)
        farm = Farm(folder)
        try:
            home = Home.find(farm.env)
            rows = {"subprocess": plain_latencies(count)}
            for label, chosen in (("farm", "default"), ("embedded", "local")):
                settings = load_settings({"farm": chosen}, {}, home)
                backend = choose(home=home, settings=settings, session=label, project=folder, slots=2)
                rows[label] = farm_latencies(backend, folder, count)
        finally:
            farm.close()
    print(f"\none no-op shell task at a time, {count} of them (µs)")
    medians = {}
    for label, times in rows.items():
        cuts = statistics.quantiles(times, n=100)
        medians[label] = cuts[49] * 1e6
        print(f"  {label:11} p50 {cuts[49] * 1e6:7.0f}   p90 {cuts[89] * 1e6:7.0f}   p99 {cuts[98] * 1e6:7.0f}")
    return medians


@pytest.mark.benchmark
def test_latency_of_one_task() -> None:
    assert measure()["farm"] > 0


if __name__ == "__main__":
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    measure(int(sys.argv[1]) if sys.argv[1:] else COUNT)
