"""A seeded world in which managers, workers and clients talk over bad lines, in virtual time.

Chaos in the first part, then everything heals and quiet is demanded: every task of a living client ended, nothing
left at the manager, the workers or on the disk. Outputs contain the attempt's number, so that a result taken
from the wrong attempt is seen.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Collection

from computefarm.messages import Cancel
from computefarm.testing.invariants import check

from .audit import Audit, Violation
from .clients import INPUTS, ClientNode
from .faults import Faults
from .lines import Process
from .managers import ManagerNode
from .nodes import Node
from .workers import WorkerNode, digest_of

HEALED_S = 600.0
"""How long after the chaos everything may take to come to its end."""

QUIET_S = 60.0
"""How long the manager may take to forget what nobody wants any more."""


class World:
    """Everything there is, from one seed."""

    worker_type = WorkerNode
    manager_type = ManagerNode

    def __init__(
        self, seed: int, *, without: Collection[str] = (), trace: bool = False, scale: int = 1
    ) -> None:
        self.seed = seed
        self.faults = Faults(seed, without)
        self.trace: list[str] | None = [] if trace else None
        self.random = self.stream("world")
        self.now = 0.0
        self.events: list[tuple[float, int, Callable[[], object]]] = []
        self.order = itertools.count()
        self.names = itertools.count()
        self.audit = Audit(self)
        rng = self.random
        self.chaos_s = rng.choice([15.0, 15.0, 30.0, 60.0]) * scale
        self.workers: list[WorkerNode] = []
        self.clients: list[ClientNode] = []
        self.manager = self.manager_type(self)
        for n in range(rng.choice([1, 2, 3, 3, 4]) * scale):
            self.workers.append(self.worker_type(self, f"w{n}", f"host{n % 2}", able=n == 0))
        for n in range(rng.choice([1, 2, 2, 3]) * scale):
            self.clients.append(ClientNode(self, f"c{n}", rng.choice([3, 6, 9, 20])))
        self.at(self.chaos_s, self.heal)
        self.plan_mischief()
        for process in (*self.workers, *self.clients):
            self.after(rng.expovariate(1), process.start)

    def stream(self, name: str) -> random.Random:
        """Return a node's own random numbers."""
        return random.Random(f"{self.seed}/{name}")

    def count(self) -> int:
        """Return the next of a row of numbers."""
        return next(self.names)

    def tell(self, who: str, text: str, *values: object) -> None:
        """Put a line into the trace, if one is kept."""
        if self.trace is not None:
            self.trace.append(f"{self.now:10.4f}  {who:<8} {text % values if values else text}")

    # --- time

    def at(self, when: float, what: Callable[[], object]) -> None:
        heapq.heappush(self.events, (when, next(self.order), what))

    def after(self, delay: float, what: Callable[[], object]) -> None:
        heapq.heappush(self.events, (self.now + delay, next(self.order), what))

    def live(self, until: float, done: Callable[[], bool]) -> bool:
        """Let the world go on until it is `done`; return whether it is."""
        events = self.events
        while events and events[0][0] <= until:
            self.now, _, what = heapq.heappop(events)
            what()
            if not self.faults.on and done():
                return True
        return False

    # --- the whole story

    def run(self) -> None:
        """Live through chaos, healing and farewell; raise `AssertionError` when a promise is broken."""
        if not self.live(self.chaos_s + HEALED_S, lambda: all(client.content for client in self.clients)):
            raise Violation(f"not every task has ended: {self.story()}")
        check(self.manager.core)
        for client in self.clients:
            client.leave()
        if not self.live(self.now + QUIET_S, self.empty):
            raise Violation(f"left at the end: {self.leftovers()}")

    def story(self) -> str:
        """Tell why it is not over."""
        core = self.manager.core
        waits = [
            core.explain(client.boot, f"t{number}")
            for client in self.clients
            for number in sorted(client.session._open)
        ]
        missing = {c.name: sorted(set(range(len(c.plans))) - set(c.had)) for c in self.clients}
        return f"{missing} {waits} {core.status(self.manager.now)}"

    def empty(self) -> bool:
        """Return whether nothing is held any more; most often something is, so what costs little is asked first."""
        tables = self.manager.core._tables
        return not (tables.tasks or tables.sessions or self.manager.held or self.leftovers())

    def leftovers(self) -> list[str]:
        """Name everything that is still held for nobody."""
        core = self.manager.core
        tables = core._tables
        held = {
            "tasks": tables.tasks,
            "sessions": tables.sessions,
            "actions": tables.by_action,
            "pins": self.manager.pins,
            "busy queues": tables.queues.busy,
            "wanted": core._wants._wanted,
            "sent ahead": core._dispatch._ahead,
            "slots taken": {w.name: w.used for w in tables.workers.values() if w.used},
            "slots taken at workers": {w.name: 1 for w in self.workers if w.alive and w.session._room.used},
            "live charges": {h.host: 1 for h in tables.hosts.values() if h.ledger.live},
            "held messages": self.manager.held,
            "attempts": {w.name: 1 for w in self.workers if w.hands},
            "unsettled results": {w.name: 1 for w in self.workers if w.alive and w.session.unsettled},
            "journal": self.manager.disk.owed(),
        }
        return [f"{name}: {list(what)[:5]}" for name, what in held.items() if what]

    # --- mischief

    def plan_mischief(self) -> None:
        """Let each kind of fault that is drawn at random times strike again and again."""
        workers, clients, lines = self.workers, self.clients, self.lines
        strikes: tuple[tuple[str, float, Callable[[random.Random], object]], ...] = (
            ("crash", 10, lambda rng: rng.choice(workers).crash()),
            ("client-crash", 25, lambda rng: rng.choice(clients).crash()),
            ("restart", 10, lambda rng: self.manager.crash()),
            ("cut", 5, lambda rng: [line.cut() for line in lines(rng)]),
            ("one-way", 15, lambda rng: [line.swallows.add(rng.choice(["up", "down"])) for line in lines(rng)]),
            ("stall", 10, lambda rng: [line.stall(rng.choice(["up", "down"]), rng.uniform(1, 12)) for line in lines(rng)]),
            ("freeze", 8, lambda rng: rng.choice(self.nodes()).freeze(rng.choice([2, 8, 20]) * rng.random())),
            ("disk-full", 30, self.fill_disk),
            ("slow-disk", 20, self.slow_disk),
            ("blobs", 8, self.lose_blob),
            ("sick", 20, self.sicken),
            ("drain", 15, lambda rng: self.drain(rng.choice(workers))),
            ("cancel", 8, lambda rng: self.cancel(rng.choice(clients))),
            ("load", 3, lambda rng: self.report(rng.choice(workers))),
        )  # fmt: skip
        for kind, mean_s, strike in strikes:
            if kind in self.faults.kinds:
                self.strike_again(self.faults.streams[kind], 1 / mean_s, strike)

    def strike_again(
        self, rng: random.Random, rate: float, strike: Callable[[random.Random], object]
    ) -> None:
        def struck() -> None:
            if self.faults.on:
                strike(rng)
                self.strike_again(rng, rate, strike)

        self.after(rng.expovariate(rate), struck)

    def heal(self) -> None:
        """The end of all mischief."""
        self.tell("world", "heals")
        self.faults.on = False
        self.manager.disk.slow = False
        if self.manager.disk.full:
            self.manager.do(self.manager.journal_space)
        for node in self.nodes():
            node.thaw()

    def nodes(self) -> list[Node]:
        return [self.manager, *self.workers, *self.clients]

    def lines(self, rng: random.Random) -> list:
        """Return the line of somebody, if there is one."""
        process: Process = rng.choice([*self.workers, *self.clients])
        if process.line is None:
            return []
        self.tell("world", "something happens to the line of %s", process.name)
        return [process.line]

    def fill_disk(self, rng: random.Random) -> None:
        manager, life = self.manager, self.manager.life
        if manager.alive and not manager.disk.full:
            self.tell("world", "the disk is full")
            manager.disk.full = True
            self.after(
                rng.uniform(1, 15),
                lambda: manager.life == life and manager.disk.full and manager.do(manager.journal_space),
            )

    def slow_disk(self, rng: random.Random) -> None:
        disk = self.manager.disk
        disk.slow = True
        self.after(rng.uniform(2, 10), lambda: setattr(disk, "slow", False))

    def lose_blob(self, rng: random.Random) -> None:
        blobs = [digest_of("input", n) for n in range(INPUTS)]
        if rng.random() < 0.3:
            blobs = sorted(self.manager.blobs)
        if blobs and self.manager.alive:
            self.manager.vanish(rng.choice(blobs))

    def sicken(self, rng: random.Random) -> None:
        worker = rng.choice(self.workers)
        self.tell(worker.name, "fails everything from now on")
        worker.sick_until = self.now + rng.uniform(3, 15)

    def drain(self, worker: WorkerNode) -> None:
        worker.do(worker.drain)

    def cancel(self, client: ClientNode) -> None:
        """Let a client cancel a task of its own, or another of the same owner do so by its name."""
        rng = self.faults.streams["cancel"]
        others = [other for other in self.clients if other is not client]
        if others and rng.random() < 0.3:
            if client.alive and client.session.unfinished:
                number = rng.choice(sorted(client.session._open))
                self.audit.cancels(client.boot, number)
                other, message = rng.choice(others), Cancel(client.boot, names=(f"t{number}",), number=7)
                other.do(lambda: other.say(message))
        else:
            client.do(client.cancel)

    def report(self, worker: WorkerNode) -> None:
        worker.do(worker.report)
