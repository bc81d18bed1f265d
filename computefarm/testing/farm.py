"""A task manager in a box: builds a farm step by step and checks that no command goes unseen.

Time is a number the test sets; blobs are a set; nothing waits and nothing runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from computefarm.codec import encode_action
from computefarm.core.commands import (
    Arrived,
    Command,
    Drop,
    Fact,
    Found,
    Keep,
    LookUp,
    NotFound,
    Pin,
    Record,
    Send,
    Unpin,
)
from computefarm.core.entries import JournalEntry
from computefarm.core.manager import TaskManager
from computefarm.messages import (
    PROTOCOL,
    Action,
    Digest,
    Done,
    FileEntry,
    Finished,
    FromManager,
    Heartbeat,
    Hello,
    LoadReport,
    Message,
    Need,
    Offer,
    Outcome,
    Register,
    Result,
    Run,
    Submit,
    TaskSpec,
    ToManager,
)

M = TypeVar("M", bound=Message)


def action(text: str = "true", capability: str = "shell", **fields: object) -> bytes:
    """Return an encoded action that runs `text` and may make any file."""
    return encode_action(msgspec.structs.replace(Action(capability, (text,), outputs=("*",)), **fields))


def spec(number: int, name: str = "", **fields: object) -> TaskSpec:
    """Return a task; its command is its name, so that no two are merged by accident."""
    name = name or f"t{number}"
    start = TaskSpec(number, name, 0, action(name), read_cache=False)
    return msgspec.structs.replace(start, **fields)


def success(*outputs: FileEntry, run_s: float = 1.0) -> Result:
    """Return the result of a command that did what it should."""
    return Result(Outcome.SUCCEEDED, exit_code=0, outputs=outputs, run_s=run_s)


def failure(exit_code: int = 1) -> Result:
    """Return the result of a command that failed."""
    return Result(Outcome.FAILED, exit_code=exit_code, reason=f"exit status {exit_code}")


SHELL = Need("shell")


class Farm:
    """One task manager, its peers by name, and everything it decided that the test has not looked at yet."""

    def __init__(
        self, *, now: float = 0.0, settled: bool = True, cache: bool = False, journalled: bool = False
    ) -> None:
        self.now = now
        self._settle_s = 0.0 if settled else None
        self._journalled = journalled
        self._lives = 1
        self.journal: list[JournalEntry] = []
        self.synced: int | None = None
        """How many records of this life count as synced; None syncs all at once."""
        self.held: list[Send] = []
        """Not sent yet: the journal is behind."""
        self.blobs: set[Digest] = set()
        self.pins: dict[Digest, int] = {}
        self.cache: dict[Digest, Result] | None = {} if cache else None
        """With a cache, `LookUp` and `Keep` are carried out at once."""
        self.manager = self._new_manager("epoch")
        self.sent: list[tuple[str, FromManager]] = []
        self.others: list[LookUp | Keep | Drop] = []

    # --- building -------------------------------------------------------------------------------------------

    def peer(self, name: str, role: str, *, owner: str = "", boot: str = "") -> Farm:
        """Connect a process; its Welcome is not kept."""
        hello = Hello(PROTOCOL, "1.0", role, boot or name, host=f"host-{name}", hostname=f"{name}.lan")
        self.obey(self.manager.connect(name, role, hello, self.now, owner=owner))
        self.sent = [(to, message) for to, message in self.sent if to != name]
        return self

    def client(self, name: str = "c1", *, owner: str = "") -> Farm:
        """Connect a client."""
        return self.peer(name, "client", owner=owner)

    def worker(
        self,
        name: str = "w1",
        slots: int = 1,
        *offers: Offer,
        owner: str = "",
        boot: str = "",
        peer: str = "",
        host: str = "",
        **fields: object,
    ) -> Farm:
        """Connect and register a worker; it offers `shell` when nothing is said."""
        peer = peer or name
        self.peer(peer, "worker", owner=owner, boot=boot)
        register = Register(
            name,
            host or f"host-{name}",
            f"{name}.lan",
            "linux",
            slots,
            offers or (Offer("shell", "1.0"),),
            cpus=4,
        )
        return self.say(peer, msgspec.structs.replace(register, **fields))

    def load(self, host: str, load: float, **fields: object) -> Farm:
        """Report the load of a host, from its monitor."""
        if f"m-{host}" not in self.manager._tables.peers:
            self.peer(f"m-{host}", "monitor")
        report = LoadReport(host, f"{host}.lan", load, 4, 8 << 30, 8 << 30)
        return self.say(f"m-{host}", msgspec.structs.replace(report, **fields))

    def submit(
        self, *specs: TaskSpec | int, need: Need = SHELL, session: str = "s1", client: str = "c1"
    ) -> Farm:
        """Submit tasks, by number where nothing else matters."""
        tasks = tuple(spec(each) if isinstance(each, int) else each for each in specs)
        return self.say(client, Submit(session, (need,), tasks))

    # --- the journal ----------------------------------------------------------------------------------------

    def _new_manager(self, epoch: str) -> TaskManager:
        lineage = "lineage" if self._journalled else ""
        self._recorded = 0
        return TaskManager(
            "test",
            "1.0",
            epoch,
            self.blobs,
            now=self.now,
            settle_s=self._settle_s,
            journalled=self._journalled,
            lineage=lineage,
        )

    def sync(self, records: int | None = None) -> Farm:
        """Sync so many records of this life (all that will ever come, when nothing is said)."""
        self.synced = records
        held, self.held = self.held, []
        return self.obey(held)

    def restart(self, journal: list[JournalEntry] | None = None, epoch: str = "") -> Farm:
        """Kill the manager and start another one from what is left of the journal; nobody is connected."""
        self._lives += 1
        self.journal = list(self.journal if journal is None else journal)
        self.pins.clear()
        self.sent.clear()
        self.others.clear()
        self.held.clear()
        self.manager = self._new_manager(epoch or f"epoch{self._lives}")
        return self.obey(self.manager.restore(list(self.journal), self.now))

    # --- acting ---------------------------------------------------------------------------------------------

    def say(self, peer: str, message: ToManager) -> Farm:
        """Let a peer say something."""
        return self.obey(self.manager.receive(peer, message, self.now))

    def learn(self, fact: Fact) -> Farm:
        """Let the manager know a fact."""
        return self.obey(self.manager.learn(fact, self.now))

    def arrive(self, *digests: Digest) -> Farm:
        """Put blobs into the store."""
        self.blobs.update(digests)
        return self.learn(Arrived(digests))

    def at(self, now: float) -> Farm:
        """Let time pass until `now`, waking the manager whenever it wants to be woken."""
        while (deadline := self.manager.next_deadline()) is not None and deadline <= now:
            self.now = max(self.now, deadline)
            self.obey(self.manager.tick(self.now))
        self.now = now
        return self

    def alive(self, *peers: str) -> Farm:
        """Let some peers give a sign of life."""
        for peer in peers:
            self.say(peer, Heartbeat())
        return self

    def finish(self, run: Run, result: Result | None = None, *, worker: str = "w1") -> Farm:
        """Let a worker end an attempt."""
        return self.say(worker, Finished(run.key, run.attempt, result or success(), run.epoch))

    def obey(self, commands: Iterable[Command]) -> Farm:
        """Carry out what the manager decided."""
        for command in commands:
            match command:
                case Record():
                    self._recorded += 1
                    assert command.number == self._recorded
                    self.journal.append(command.entry)
                case Send() if self.synced is not None and command.after > self.synced:
                    self.held.append(command)
                case Send():
                    self.sent.append((command.peer, command.message))
                case Pin():
                    for digest in command.digests:
                        self.pins[digest] = self.pins.get(digest, 0) + 1
                case Unpin():
                    for digest in command.digests:
                        self.pins[digest] -= 1
                        if not self.pins[digest]:
                            del self.pins[digest]
                case LookUp() if self.cache is not None:
                    result = self.cache.get(command.digest)
                    self.learn(NotFound(command.key) if result is None else Found(command.key, result))
                case Keep() if self.cache is not None:
                    self.cache[command.digest] = command.result
                case LookUp() | Keep() | Drop():
                    self.others.append(command)
        return self

    # --- looking --------------------------------------------------------------------------------------------

    def told(self, peer: str, kind: type[M]) -> list[M]:
        """Return and forget what a peer was told of one kind."""
        found: list[M] = [message for to, message in self.sent if to == peer and isinstance(message, kind)]
        self.sent = [
            (to, message) for to, message in self.sent if not (to == peer and isinstance(message, kind))
        ]
        return found

    def run(self, peer: str = "w1") -> Run:
        """Return the one attempt a worker has been given since the last look."""
        (run,) = self.told(peer, Run)
        return run

    def done(self, peer: str = "c1") -> Done:
        """Return the one task whose end a client has been told since the last look."""
        (done,) = self.told(peer, Done)
        return done
