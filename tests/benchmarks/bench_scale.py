"""The manager's core with a thousand hosts and a million tasks: time and memory per task, and the morning after.

What is real: `TaskManager`, the codec, the journal on this machine's disk. What is not: sockets, encryption, workers,
clients, blobs; a fake worker answers from a table. So these are the costs of deciding, encoding and writing down;
`docs/explanation/scale.md` says what comes on top.

As a script: `python tests/benchmarks/bench_scale.py [--tasks 10000 100000 1000000] [--hosts 1000] [--slots 16]`.
With pytest (`-m benchmark -s`) the million is left out.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from computefarm.codec import decode_action, decode_from_manager, decode_to_manager, encode, encode_action
from computefarm.core.commands import Command, JournalFailed, LookUp, NotFound, Record, Send
from computefarm.core.manager import TaskManager
from computefarm.journal.tasks import TaskJournal
from computefarm.journal.writer import Synced
from computefarm.messages import (
    PROTOCOL,
    Action,
    Ask,
    FileEntry,
    Finished,
    Hello,
    Need,
    Offer,
    Outcome,
    Register,
    Result,
    Run,
    Running,
    Submit,
    Taken,
    TaskSpec,
)

pytestmark = pytest.mark.benchmark

INPUTS = 64
"""Different input files; all of them are in the store."""
BATCH = 1000
FINISHES = 20_000
MADE = bytes([255]) * 32
"""The one output that everybody makes."""


def spec(number: int) -> TaskSpec:
    """Return a compilation with two inputs and one output, as `majordomo` submits it."""
    files = tuple(FileEntry(f"src/module{n}.c", bytes([n % INPUTS]) * 32, 9000) for n in (number, number + 1))
    command = f"gcc -O2 -Iinclude -c src/file{number}.c -o build/file{number}.o"
    action = encode_action(Action("gcc", (command,), files, (f"build/file{number}.o",), timeout_s=600.0))
    return TaskSpec(number, f"compile:file{number}", 0, action, float(number % 7), kind="compile")


def resident() -> int:
    """Return the bytes of memory this process has now."""
    gc.collect()
    return psutil.Process().memory_info().rss


class Stopwatch:
    """CPU seconds of this thread in the calls of the core, the codec and the journal's queue."""

    def __init__(self) -> None:
        self.spent = 0.0

    def __call__(self, call: Callable[..., Any], *arguments: Any) -> Any:
        start = time.thread_time()
        answer = call(*arguments)
        self.spent += time.thread_time() - start
        return answer

    def take(self) -> float:
        spent, self.spent = self.spent, 0.0
        return spent


class Farm:
    """One manager with all its workers, and the messages between them."""

    def __init__(self, journal: TaskJournal, hosts: int, slots: int, epoch: str = "e1") -> None:
        self.journal = journal
        self.hosts, self.slots = hosts, slots
        self.epoch = epoch
        self.core = TaskManager(
            "scale", "1", epoch, {bytes([n]) * 32 for n in range(256)},
            now=0.0, settle_s=0.0, journalled=True, lineage="lineage",
        )  # fmt: skip
        self.watch = Stopwatch()
        self.wire = Stopwatch()
        self.runs: dict[str, list[Run]] = {}
        self.sent_bytes = 0
        self.sent = 0
        self.now = 0.0

    # --- in and out

    def hand_in(self, peer: str, message: Any) -> None:
        """Bring a message to the core over the real codec, and its answers back."""
        body = encode([message])
        decoded = self.wire(decode_to_manager, body)
        self.obey(self.watch(self.core.receive, peer, decoded[0], self.now))

    def connect(self, name: str, role: str, boot: str = "1") -> None:
        self.obey(
            self.watch(self.core.connect, name, role, Hello(PROTOCOL, "1", role, name + boot), self.now)
        )

    def obey(self, commands: list[Command]) -> None:
        records = []
        for command in commands:
            if isinstance(command, Send):
                body = self.wire(encode, [command.message])
                self.sent_bytes += len(body)
                self.sent += 1
                if isinstance(command.message, Run):
                    (run,) = decode_from_manager(body)
                    self.runs.setdefault(command.peer, []).append(run)
            elif isinstance(command, Record):
                records.append(command)
            elif isinstance(command, LookUp):
                self.obey(self.watch(self.core.learn, NotFound(command.key), self.now))
        if records:
            self.wire(self.journal.append, records, any(record.urgent for record in records))

    # --- the story

    def register(self, number: int, running: tuple[Running, ...] = (), boot: str = "1") -> None:
        name = f"w{number}"
        self.connect(name, "worker", boot)
        offers = (Offer("gcc", "12.2.0", "f" * 64),)
        self.hand_in(
            name,
            Register(name, f"h{number}", name, "linux", self.slots, offers, cpus=self.slots, running=running),
        )

    def submit(self, first: int, last: int) -> None:
        need = (Need("gcc", ">=9"),)
        for start in range(first, last, BATCH):
            batch = tuple(spec(n) for n in range(start, min(last, start + BATCH)))
            self.hand_in("client", Submit("s", need, batch))

    def finish(self, count: int) -> None:
        """Let workers finish one task after the other, round and round."""
        done = 0
        while done < count:
            for peer in list(self.runs):
                if not self.runs[peer]:
                    continue
                run = self.runs[peer].pop(0)
                self.now += 0.0001
                outputs = tuple(FileEntry(path, MADE, 5000) for path in decode_action(run.action).outputs)
                result = Result(Outcome.SUCCEEDED, exit_code=0, outputs=outputs, run_s=2.0, cpu_s=1.9)
                self.hand_in(peer, Finished(run.key, run.attempt, result, self.epoch))
                done += 1
                if done % BATCH == 0:
                    self.hand_in("client", Taken("s", tuple(range(done - BATCH, done))))
                if done == count:
                    return


def synced(journal: TaskJournal) -> tuple[Callable[[Any], None], Callable[[int], None]]:
    """Return what the journal reports to, and what waits until everything up to a record is on the disk."""
    reached = threading.Condition()
    last = [0]

    def report(news: Any) -> None:
        if isinstance(news, JournalFailed):
            raise OSError(news.text)
        if isinstance(news, Synced):
            with reached:
                last[0] = news.number
                reached.notify_all()

    def wait(number: int) -> None:
        with reached:
            reached.wait_for(lambda: last[0] >= number, 600)

    return report, wait


def measure(tasks: int, hosts: int, slots: int, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield what it costs, name and figure."""
    journal = TaskJournal(folder, "scale")
    report, wait = synced(journal)
    journal.start(report)
    farm = Farm(journal, hosts, slots)
    farm.connect("client", "client")
    for number in range(hosts):
        farm.register(number)
    yield (
        f"{hosts} workers connect and register",
        f"{(farm.watch.take() + farm.wire.take()) * 1e6 / hosts:.0f} µs each",
    )
    before = resident()
    total = tasks + hosts * slots
    farm.submit(0, hosts * slots)
    spent = farm.watch.take() + farm.wire.take()
    yield (
        "submit to an idle farm, until it is full: core, codec",
        f"{spent * 1e6 / (hosts * slots):.0f} µs/task",
    )
    farm.submit(hosts * slots, total)
    core, wire = farm.watch.take(), farm.wire.take()
    yield "submit to a full farm: core", f"{core * 1e6 / tasks:.1f} µs/task"
    yield "submit: codec, queue of the journal", f"{wire * 1e6 / tasks:.1f} µs/task"
    wait(farm.core._tables._records)
    yield "memory", f"{(resident() - before) / total:.0f} B/task"
    finishes = min(FINISHES, tasks)
    farm.finish(finishes)
    core, wire = farm.watch.take(), farm.wire.take()
    yield f"run, {tasks:,} waiting: core", f"{core * 1e6 / finishes:.1f} µs/task"
    yield f"run, {tasks:,} waiting: codec, queue of the journal", f"{wire * 1e6 / finishes:.1f} µs/task"
    farm.watch(farm.core.tick, farm.now)
    yield "tick (every second)", f"{farm.watch.take() * 1e3:.1f} ms"
    farm.wire.take()
    sent = farm.sent_bytes
    farm.hand_in("client", Ask(1, "status"))
    yield "status: core, codec", f"{farm.watch.take() * 1e3:.1f} ms, {farm.wire.take() * 1e3:.1f} ms"
    yield "status: size", f"{(farm.sent_bytes - sent) / 1e3:.0f} kB"
    running = {
        int(peer[1:]): tuple(Running(run.key, run.attempt, "e1") for run in runs)
        for peer, runs in farm.runs.items()
    }
    count = farm.core._tables._records
    wait(count)
    journal.close()
    size = sum(file.stat().st_size for file in folder.iterdir())
    yield "journal on disk", f"{size / total:.0f} B/task, {size / 1e6:.0f} MB"
    del farm
    gc.collect()
    yield from restart(folder, hosts, slots, running, total)


def restart(
    folder: Path, hosts: int, slots: int, running: dict[int, tuple[Running, ...]], total: int
) -> Iterator[tuple[str, str]]:
    """Yield what it costs to start again with everything, and to take everybody back."""
    start = time.process_time()
    journal = TaskJournal(folder, "scale")
    entries = journal.entries
    yield f"read the journal ({len(entries):,} entries), CPU", f"{time.process_time() - start:.1f} s"
    report, _ = synced(journal)
    journal.start(report)
    farm = Farm(journal, hosts, slots, "e2")
    start = time.process_time()
    commands = farm.core.restore(entries, 0.0)
    yield "restore the tables, CPU", f"{time.process_time() - start:.1f} s"
    start = time.process_time()
    farm.obey(commands)
    yield "find in the result cache what waits, the cache not counted, CPU", f"{time.process_time() - start:.1f} s"
    del entries, commands
    journal.entries = []
    farm.watch.take()
    farm.wire.take()
    farm.sent_bytes = farm.sent = 0
    for number in range(hosts):
        farm.register(number, running[number])
    core, wire = farm.watch.take(), farm.wire.take()
    adopted = sum(len(attempts) for attempts in running.values())
    here = sum(len(worker.running) for worker in farm.core._tables.workers.values())
    yield (
        f"storm: {hosts} workers with {adopted:,} attempts",
        f"{core:.2f} s core, {wire:.2f} s codec; {here:,} adopted or placed",
    )
    yield "storm: told", f"{farm.sent:,} messages, {farm.sent_bytes / 1e6:.1f} MB"
    farm.connect("client", "client")
    start = time.monotonic()
    need = (Need("gcc", ">=9"),)
    again = min(total, 100_000)
    for first in range(total - again, total, BATCH):
        farm.hand_in("client", Submit("s", need, tuple(spec(n) for n in range(first, first + BATCH))))
    core, wire = farm.watch.take(), farm.wire.take()
    yield (
        "the client submits all again: core, codec",
        f"{core * 1e6 / again:.1f}, {wire * 1e6 / again:.1f} µs/task",
    )
    journal.close()


def show(tasks: int, hosts: int, slots: int, folder: str | None = None) -> None:
    """Print all figures for one size."""
    print(f"\n{tasks:,} tasks wait, {hosts * slots:,} run on {hosts:,} hosts of {slots} slots")
    with tempfile.TemporaryDirectory(dir=folder) as journal:
        for name, figure in measure(tasks, hosts, slots, Path(journal)):
            print(f"  {name:<72} {figure}", flush=True)


@pytest.mark.timeout(1200)
def test_scale() -> None:
    for tasks in (10_000, 100_000):
        show(tasks, 1000, 16)


def main() -> None:
    """Measure what the command line asks for, each size in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tasks", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--folder", help="where the journal is written")
    options = parser.parse_args()
    for tasks in options.tasks:
        child = os.fork()
        if child == 0:
            show(tasks, options.hosts, options.slots, options.folder)
            os._exit(0)
        if os.waitpid(child, 0)[1] != 0:
            raise SystemExit(f"measuring {tasks:,} tasks failed")


if __name__ == "__main__":
    main()
