"""A seeded world in which one manager, workers and clients talk over bad lines, in virtual time.

Lines are first-in first-out and may be cut at any moment, losing what is in flight; each end finds out later, or never.
Copies of messages arrive late. Processes crash and come back. Blobs get damaged. Outputs contain the attempt number,
so that a result taken from the wrong attempt is seen.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable

from computefarm.codec import encode
from computefarm.core.commands import (
    Arrived,
    Command,
    Drop,
    Found,
    Gone,
    Keep,
    LookUp,
    NotFound,
    Pin,
    Send,
    Unpin,
    Vanished,
)
from computefarm.core.manager import TaskManager
from computefarm.messages import Halt, LoadReport, Result, Run
from computefarm.testing.invariants import check

from .processes import LOSSY, ClientProcess, Line, WorkerProcess, digest_of


class World:
    def __init__(
        self, seed: int, *, workers: int = 3, clients: int = 2, tasks: int = 12, chaos_s: float = 60.0
    ) -> None:
        self.random = random.Random(seed)
        self.stable_names = seed % 2 == 0
        self.now = 0.0
        self.chaos_s = chaos_s
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.order = itertools.count()
        self.names = itertools.count()
        self.blobs: set[bytes] = set()
        self.cache: dict[bytes, Result] = {}
        self.lines: dict[str, Line] = {}
        self.up = True
        self.epochs = 0
        self.start_manager()
        self.workers = [WorkerProcess(self, f"w{i}", f"host{i % 2}") for i in range(workers)]
        self.clients = [ClientProcess(self, f"c{i}", tasks) for i in range(clients)]
        for process in (*self.workers, *self.clients):
            process.start()
        self.after(self.random.expovariate(1 / 5), self.mischief)

    @property
    def chaos(self) -> bool:
        return self.now < self.chaos_s

    # --- time

    def after(self, delay: float, what: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.now + delay, next(self.order), what))

    def live(self, until: float) -> bool:
        """Let the world go on until every client is content; return whether they are."""
        while self.events and self.events[0][0] <= until:
            self.now, _, what = heapq.heappop(self.events)
            what()
            if not self.chaos and all(client.content for client in self.clients):
                return True
        return False

    # --- the manager and its shell

    def start_manager(self) -> None:
        self.epochs += 1
        self.halted: set[tuple[int, int]] = set()
        self.pins: dict[bytes, int] = {}
        self.manager = TaskManager("sim", "1", f"epoch{self.epochs}", self.blobs, now=self.now)
        self.up = True
        self.wake_manager(self.manager)

    def wake_manager(self, manager: TaskManager) -> None:
        def ring() -> None:
            if manager is not self.manager or not self.up:
                return
            deadline = manager.next_deadline()
            if deadline is not None and deadline <= self.now:
                self.obey(manager.tick(self.now))
            self.wake_manager(manager)

        deadline = manager.next_deadline()
        self.after(min(1.0, max(0.001, (deadline or self.now + 1) - self.now)), ring)

    def obey(self, commands: list[Command]) -> None:
        check(self.manager)
        for command in commands:
            match command:
                case Send():
                    self.witness(command)
                    line = self.lines.get(command.peer)
                    if line is not None:
                        line.down(encode([command.message]), isinstance(command.message, LOSSY))
                case Drop():
                    self.lines.pop(command.peer, None)
                case LookUp():
                    self.after(
                        self.random.expovariate(100), lambda c=command, m=self.manager: self.look_up(m, c)
                    )
                case Keep():
                    assert all(entry.digest in self.blobs for entry in command.result.outputs)
                    self.cache[command.digest] = command.result
                case Pin():
                    for digest in command.digests:
                        self.pins[digest] = self.pins.get(digest, 0) + 1
                case Unpin():
                    for digest in command.digests:
                        self.pins[digest] -= 1
                        if self.pins[digest] == 0:
                            del self.pins[digest]

    def witness(self, command: Send) -> None:
        """Complain when a second attempt is begun while the first runs on a worker the manager is in touch with."""
        message = command.message
        if isinstance(message, Halt):
            self.halted.add((message.key, message.attempt))
        if not isinstance(message, Run):
            return
        for process in self.workers:
            worker = self.manager._tables.workers.get(process.name)
            if (
                worker is None
                or process.line is None
                or worker.peer != process.line.peer
                or not process.alive
            ):
                continue
            for (key, attempt), run in process.running.items():
                if key == message.key and run.epoch == message.epoch:
                    assert (key, attempt) in self.halted, (
                        f"{process.name} still runs attempt {attempt} of {key}"
                    )

    def look_up(self, manager: TaskManager, command: LookUp) -> None:
        if manager is self.manager and self.up:
            result = self.cache.get(command.digest)
            fact = NotFound(command.key) if result is None else Found(command.key, result)
            self.obey(manager.learn(fact, self.now))

    def upload(self, digests: tuple[bytes, ...]) -> None:
        if self.up:
            self.blobs.update(digests)
            self.obey(self.manager.learn(Arrived(digests), self.now))

    def fact(self, fact: Gone | Vanished) -> None:
        if self.up:
            self.obey(self.manager.learn(fact, self.now))

    # --- the end

    def story(self) -> str:
        """Tell why it is not over."""
        open_tasks = [
            self.manager.explain(client.name, str(number))
            for client in self.clients
            for number in client.session._open
        ]
        return f"{open_tasks} {self.manager.status(self.now)}"

    def say_goodbye(self) -> None:
        """Let all clients leave, and what is in flight arrive."""
        for client in self.clients:
            client.obey(client.session.leave(self.now))
            client.alive = False
        until = self.now + 60
        while self.events and self.events[0][0] <= until:
            self.now, _, what = heapq.heappop(self.events)
            what()

    def leftovers(self) -> list[str]:
        """Name everything the manager still holds for nobody."""
        tables = self.manager._tables
        held = {
            "tasks": tables.tasks,
            "sessions": tables.sessions,
            "actions": tables.by_action,
            "pins": self.pins,
            "busy queues": tables.queues.busy,
            "wanted": self.manager._wants._wanted,
            "sent ahead": self.manager._dispatch._ahead,
            "live charges": {h.host: 1 for h in tables.hosts.values() if h.ledger.live},
            "unsettled results": {w.name: 1 for w in self.workers if w.session.unsettled},
        }
        return [f"{name}: {list(what)[:5]}" for name, what in held.items() if what]

    # --- mischief

    def mischief(self) -> None:
        if not self.chaos:
            return
        self.after(self.random.expovariate(1 / 4), self.mischief)
        match self.random.randrange(9):
            case 0 | 1:
                self.random.choice(self.workers).crash()
            case 2 | 3:
                line = self.random.choice([p.line for p in (*self.workers, *self.clients)])
                if line is not None:
                    line.cut()
            case 4:
                process = self.random.choice(self.workers)
                if process.alive:
                    process.obey(process.session.leave(self.now))
            case 5:
                damaged = digest_of("input", self.random.randrange(6))
                if damaged in self.blobs:
                    self.blobs.discard(damaged)
                    self.fact(Vanished((damaged,)))
            case 6:
                client = self.random.choice(self.clients)
                if client.session.unfinished:
                    client.obey(
                        client.session.cancel([self.random.choice(sorted(client.session._open))], self.now)
                    )
            case 7 if self.random.random() < 0.3:
                self.up = False
                self.lines.clear()
                self.after(self.random.uniform(0.1, 12), self.start_manager)
            case _:
                process = self.random.choice(self.workers)
                if process.line is not None:
                    report = LoadReport(
                        process.host, process.host, self.random.random() * 2, 4, 8 << 30, 8 << 30
                    )
                    process.line.send(report)
