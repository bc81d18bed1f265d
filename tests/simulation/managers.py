"""The manager's process: its core, its connections, its disk, its store, its result cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from computefarm.core.commands import (
    Arrived,
    Command,
    Drop,
    Fact,
    Found,
    Gone,
    JournalFailed,
    JournalWorks,
    Keep,
    LookUp,
    NotFound,
    Pin,
    Record,
    Send,
    Unpin,
    Vanished,
)
from computefarm.core.manager import TaskManager
from computefarm.messages import Digest, Disconnect, Hello, Result, ToManager
from computefarm.testing.invariants import check

from .disk import Disk
from .lines import Line
from .nodes import Node

if TYPE_CHECKING:
    from .world import World

CHECK_EVERY = 16
"""The tables are compared with each other after every so many steps; after each one when a trace is kept."""


class ManagerNode(Node):
    """One manager after the other on one machine: blobs and cache stay, the journal mostly, the tables never."""

    def __init__(self, world: World) -> None:
        super().__init__(world, "manager")
        self.blobs: set[Digest] = set()
        self.cache: dict[Digest, Result] = {}
        self.fresh: list[tuple[Digest, bool]] = []
        """What came last into the store (True) or the cache: a power cut may take it."""
        self.disk = Disk(world)
        self.disk.on_synced = lambda number: self.do(lambda: self.release(number))
        self.disk.on_failed = lambda: self.do(self.journal_failed)
        self.epochs = 0
        self.lineages = 1
        self.pins: dict[Digest, int] = {}
        self.steps = 0
        self.stable_names = self.random.random() < 0.7
        """Whether a process that returns keeps the name of its peer."""
        self.journalled = self.random.random() < 0.8
        self.ordered = self.random.random() < 0.3
        """Whether free workers are kept in order as if there were many."""
        self.start()

    # --- life

    def start(self) -> None:
        """Begin with empty tables, then read the journal."""
        self.epochs += 1
        self.born()
        self.peers: dict[str, Line | None] = {}
        self.by_boot: dict[str, str] = {}
        self.boots: dict[str, str] = {}
        self.held: list[tuple[int, Line, Send]] = []
        self.synced = 0
        self.failed = False
        self.pins = {}
        self.core = TaskManager(
            "sim",
            "1",
            self.epoch,
            self.blobs,
            now=self.now,
            wall_offset=self.world.now - self.now,
            journalled=self.journalled,
            lineage=f"lineage{self.lineages}" if self.journalled else "",
        )
        if self.ordered:
            self.core._dispatch.many = 0
        if self.journalled:
            survived = self.disk.open()
            self.world.tell(self.name, "starts as epoch%d with %d entries", self.epochs, len(survived))
            restored = self.core.restore(survived, self.now)
            self.world.audit.restored(self, survived)
            self.obey(restored)
        else:
            self.lineages += 1
        self.arm()

    def crash(self) -> None:
        """Die with everything in memory; the disk keeps what it keeps."""
        if not self.alive:
            return
        faults = self.world.faults
        self.dies()
        lost = self.disk.crash()
        self.world.tell(self.name, "is killed; %d entries are lost", len(lost))
        self.world.audit.lost(self, lost)
        for line in self.peers.values():
            if line is not None:
                line.drop()
        if faults.happens("power", 0.5):
            self.lose_power()
        if faults.happens("disk-loss", 0.3):
            self.world.tell(self.name, "the journal is gone")
            self.disk.entries.clear()
            self.disk.synced = 0
            self.lineages += 1
        self.world.after(self.random.uniform(0.1, self.random.choice([1, 12])), self.start)

    def lose_power(self) -> None:
        """Lose some of the last blobs and cached results."""
        for digest, is_blob in self.fresh[-12:]:
            if self.random.random() < 0.5:
                if is_blob:
                    self.blobs.discard(digest)
                else:
                    self.cache.pop(digest, None)

    @property
    def epoch(self) -> str:
        """Return the name of the present manager."""
        return f"epoch{self.epochs}"

    # --- connections

    def hear(self, line: Line, messages: list[ToManager]) -> None:
        """Take what arrived on a connection."""
        for message in messages:
            if not line.open:
                return
            if isinstance(message, Hello):
                if not (line.peer and self.peers.get(line.peer) is line):  # else it is a copy
                    self.greet(line, message)
            elif not line.peer or self.peers.get(line.peer) is not line:
                line.down(Disconnect("protocol", "say Hello first"))
            else:
                self.world.audit.told_manager(line, message)
                self.obey(self.core.receive(line.peer, message, self.now))

    def greet(self, line: Line, hello: Hello) -> None:
        """Give a connection the name of its process, and forget the one it had before."""
        name = self.by_boot.get(hello.boot) if self.stable_names else line.peer or None
        if name is None:
            name = f"{hello.boot}-{self.world.count()}"
            self.by_boot[hello.boot] = name
            self.boots[name] = hello.boot
        old = self.peers.get(name)
        if old is not None and old is not line:
            old.drop()
        self.peers[name] = line
        line.peer = name
        self.held = [each for each in self.held if each[1].peer != name]  # it is told anew what still matters
        owner = "" if hello.role == "worker" else "k"
        self.obey(self.core.connect(name, hello.role, hello, self.now, owner=owner))

    def departed(self, line: Line) -> None:
        """The transport has noticed the end of a connection."""
        if line.peer and self.peers.get(line.peer) is line:
            self.peers[line.peer] = None
            self.learn(Gone(line.peer))

    # --- facts

    def learn(self, fact: Fact) -> None:
        """Hand a finding to the core."""
        self.obey(self.core.learn(fact, self.now))

    def arrived(self, digests: tuple[Digest, ...]) -> None:
        """Blobs have come in."""
        self.blobs.update(digests)
        self.fresh += [(digest, True) for digest in digests]
        self.learn(Arrived(digests))

    def vanish(self, digest: Digest) -> None:
        """A blob is found damaged."""
        if digest in self.blobs:
            self.blobs.discard(digest)
            self.do(lambda: self.learn(Vanished((digest,))))

    def look_up(self, command: LookUp) -> None:
        result = self.cache.get(command.digest)
        self.learn(NotFound(command.key) if result is None else Found(command.key, result))

    def journal_failed(self) -> None:
        if not self.failed:
            self.failed = True
            self.learn(JournalFailed("no space left on device"))
            self.let_go(lambda after, command: command.after <= self.synced)

    def journal_space(self) -> None:
        """There is room on the disk again."""
        self.disk.full = False
        if self.disk.synced == len(self.disk.entries):
            self.release(len(self.disk.entries) - self.disk.base)
        else:
            self.disk.sync()

    # --- the core

    def deadline(self) -> float | None:
        return self.core.next_deadline()

    def tick(self) -> None:
        self.obey(self.core.tick(self.now))

    def obey(self, commands: list[Command]) -> None:
        """Do as the core says, in order."""
        self.steps += 1
        if self.world.trace is not None or self.steps % CHECK_EVERY == 0:
            check(self.core)
        for command in commands:
            match command:
                case Send():
                    self.send(command)
                case Record():
                    self.world.audit.records(self, command)
                    self.disk.append(command)
                case Drop():
                    self.drop(command)
                case LookUp():
                    self.later(self.random.expovariate(100), lambda c=command: self.look_up(c))
                case Keep():
                    assert all(entry.digest in self.blobs for entry in command.result.outputs)
                    self.cache[command.digest] = command.result
                    self.fresh.append((command.digest, False))
                case Pin():
                    for digest in command.digests:
                        self.pins[digest] = self.pins.get(digest, 0) + 1
                case Unpin():
                    for digest in command.digests:
                        self.pins[digest] -= 1
                        if self.pins[digest] == 0:
                            del self.pins[digest]
        if self.alive:
            self.arm()

    def send(self, command: Send) -> None:
        """Send now, or when the journal has reached the mark the message waits for."""
        line = self.peers.get(command.peer)
        if line is None:
            return
        self.world.audit.decided(self, command)
        if command.after > self.synced:
            self.held.append((command.after, line, command))
        else:
            line.down(command.message)

    def release(self, number: int) -> None:
        """The journal is synced up to `number`: what waited for that may go."""
        self.synced = max(self.synced, number)
        if self.failed:
            self.failed = False
            self.learn(JournalWorks())
        self.let_go(lambda after, command: after <= self.synced)

    def let_go(self, may_go: Callable[[int, Send], bool]) -> None:
        """Send what may go, in order."""
        self.held.sort(key=lambda each: each[0])
        held, self.held = self.held, []
        for after, line, command in held:
            if not may_go(after, command):
                self.held.append((after, line, command))
            elif line.peer and self.peers.get(line.peer) is line:
                line.down(command.message)

    def drop(self, command: Drop) -> None:
        """Forget a process."""
        self.world.tell(self.name, "drops %s: %s", command.peer, command.reason)
        line = self.peers.pop(command.peer, None)
        if line is not None:
            line.drop()
        boot = self.boots.pop(command.peer, None)
        if boot is not None and self.by_boot.get(boot) == command.peer:
            del self.by_boot[boot]
