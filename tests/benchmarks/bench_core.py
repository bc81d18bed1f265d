"""What one decision of the task manager's core costs, and what one queued task weighs.

Run with `pytest -m benchmark -s tests/benchmarks/bench_core.py`, or as a script.
"""

from __future__ import annotations

import gc
import time
import tracemalloc

import pytest

from computefarm.codec import encode_action
from computefarm.core.commands import Command, LookUp, NotFound, Send
from computefarm.core.entries import Submitted
from computefarm.core.manager import TaskManager
from computefarm.messages import (
    PROTOCOL,
    Action,
    Done,
    FileEntry,
    Finished,
    Hello,
    Need,
    Offer,
    Outcome,
    Register,
    Result,
    Run,
    Submit,
    Taken,
    TaskSpec,
)

pytestmark = pytest.mark.benchmark

SIZES = ((500, 20), (2000, 20), (4000, 50))
RESULT = Result(Outcome.SUCCEEDED, exit_code=0, run_s=2.0)


def spec(number: int, inputs: int = 2) -> TaskSpec:
    files = tuple(FileEntry(f"src/file{number}_{n}.c", bytes([n]) * 32, 1000) for n in range(inputs))
    command = f"gcc -O2 -Iinclude -c src/file{number}.c -o build/file{number}.o"
    action = encode_action(Action("gcc", (command,), files, (f"build/file{number}.o",), timeout_s=600.0))
    return TaskSpec(number, f"compile:file{number}", 0, action, float(number % 7), kind="compile")


class Load:
    """A manager with workers and tasks, and the messages that keep it busy."""

    def __init__(self, workers: int, run_s: float = 2.0, slots: int = 2, *, journalled: bool = False) -> None:
        self.blobs = {bytes([n]) * 32 for n in range(40)}
        self.manager = TaskManager(
            "bench", "1", "e", self.blobs, now=0.0, settle_s=0.0, journalled=journalled, lineage="l"
        )
        self.result = Result(Outcome.SUCCEEDED, exit_code=0, run_s=run_s)
        self.runs: list[tuple[str, Run]] = []
        self.ended: list[int] = []
        self.messages = 0
        self.spent = 0.0
        self.connect("client", "client")
        for n in range(workers):
            name = f"w{n}"
            self.connect(name, "worker")
            register = Register(name, f"h{n}", name, "linux", slots, (Offer("gcc", "12.2.0"),), cpus=slots)
            self.obey(self.manager.receive(name, register, 0.0))

    def connect(self, name: str, role: str) -> None:
        self.obey(self.manager.connect(name, role, Hello(PROTOCOL, "1", role, name), 0.0))

    def obey(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Send):
                if isinstance(command.message, Run):
                    self.runs.append((command.peer, command.message))
                elif isinstance(command.message, Done):
                    self.ended.append(command.message.task)
            elif isinstance(command, LookUp):
                self.timed(self.manager.learn, NotFound(command.key), 0.0)

    def timed(self, call, *arguments) -> None:  # type: ignore[no-untyped-def]
        self.messages += 1
        start = time.process_time()
        commands = call(*arguments)
        self.spent += time.process_time() - start
        self.obey(commands)

    def submit(self, tasks: int, batch: int = 500) -> None:
        needs = (Need("gcc", ">=9", load=1.0),)
        specs = [spec(n) for n in range(tasks)]
        for start in range(0, tasks, batch):
            self.timed(
                self.manager.receive, "client", Submit("s", needs, tuple(specs[start : start + batch])), 0.0
            )

    def drain(self, limit: int) -> None:
        """Let workers finish attempts, one message at a time."""
        number = 0
        while self.runs and number < limit:
            peer, run = self.runs.pop(0)
            number += 1
            done = Finished(run.key, run.attempt, self.result, "e")
            self.timed(self.manager.receive, peer, done, float(number) / 1000)
            if number % 64 == 0:
                taken, self.ended = Taken("s", tuple(self.ended)), []
                self.timed(self.manager.receive, "client", taken, number / 1000)


def measure(tasks: int, workers: int, run_s: float = 2.0, *, journalled: bool = False) -> tuple[float, float]:
    """Return µs per submitted task and µs per message while `tasks` wait."""
    load = Load(workers, run_s, journalled=journalled)
    load.submit(tasks + 2 * workers)
    submit = load.spent / (tasks + 2 * workers) * 1e6
    load.messages, load.spent = 0, 0.0
    load.drain(400)
    return submit, load.spent / load.messages * 1e6


def weigh(tasks: int) -> float:
    """Return bytes per queued task, the action included."""
    load = Load(1)
    load.submit(100)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    needs = (Need("gcc", ">=9", load=1.0),)
    for number in range(1000, 1000 + tasks):
        load.obey(load.manager.receive("client", Submit("s", needs, (spec(number),)), 0.0))
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return (after - before) / tasks


def restore(tasks: int) -> float:
    """Return µs per waiting task, of a manager that is started again."""
    entries = [Submitted(n, "s", "", spec(n), Need("gcc", ">=9"), 0.0) for n in range(1, tasks + 1)]
    manager = TaskManager("bench", "1", "e2", Load(0).blobs, now=0.0, journalled=True, lineage="l")
    start = time.process_time()
    manager.restore(entries, 0.0)
    return (time.process_time() - start) / tasks * 1e6


def report() -> None:
    """Print all figures."""
    print("\n waiting  workers   µs/submitted task   µs/message   µs/message, short tasks")
    for tasks, workers in SIZES:
        submit, message = min(measure(tasks, workers) for _ in range(3))
        _, short = min(measure(tasks, workers, 0.001) for _ in range(3))
        print(f"{tasks:8} {workers:8} {submit:19.1f} {message:12.1f} {short:25.1f}")
    tasks, workers = SIZES[-1]
    submit, message = min(measure(tasks, workers, journalled=True) for _ in range(3))
    print(f"{tasks:8} {workers:8} {submit:19.1f} {message:12.1f}   with a journal (its writing not counted)")
    print(f"µs per task restored from the journal: {restore(20_000):.1f}")
    print(f"bytes per queued task (of which {len(spec(1000).action)} action): {weigh(10_000):.0f}")


def test_core_costs() -> None:
    report()


if __name__ == "__main__":
    report()
