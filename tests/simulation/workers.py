"""Workers of the world: the real session, and a shell that fetches, runs and fails in virtual time."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from computefarm.codec import decode_action
from computefarm.core import worker as core
from computefarm.core.worker import WorkerSession
from computefarm.messages import Absent, Action, FileEntry, LoadReport, Offer, Outcome, Register, Result, Run

from .lines import Process

if TYPE_CHECKING:
    from .world import World

GIB = 1 << 30

SHORT_S = 0.002
LONG_S = (3.0, 3.0, 20.0)


def digest_of(*parts: object) -> bytes:
    """Return a digest that nothing else has."""
    return hashlib.sha256(repr(parts).encode()).digest()


class Execution(msgspec.Struct, eq=False):
    """One attempt in the shell's hands: being made ready, waiting for a slot, or running."""

    run: Run
    action: Action
    ready: bool = False
    running: bool = False
    recalled: str = ""
    halted: str = ""


class WorkerNode(Process):
    """One worker after the other under one name."""

    role = "worker"
    more_offers: tuple[Offer, ...] = ()

    def __init__(self, world: World, name: str, host: str, *, able: bool) -> None:
        super().__init__(world, name)
        self.host = host
        self.able = able
        """It can run everything, so that every task can end."""
        self.hands: dict[tuple[int, int], Execution] = {}
        self.sick_until = 0.0

    # --- life

    def start(self) -> None:
        """Begin with nothing in hand."""
        self.born()
        rng = self.random
        self.slots = 2 if self.able else rng.choice([1, 2, 3])
        self.memory = 16 * GIB if self.able else rng.choice([2, 4]) * GIB
        self.hands.clear()
        ahead = rng.choice([0, self.slots, 2 * self.slots])
        hold_s = rng.choice([15.0, 3600.0])
        self.session = WorkerSession(self.name, self.slots, now=self.now, ahead=ahead, result_hold_s=hold_s)
        offers = (Offer("shell", "1"), Offer("gcc", "12"))[: 2 if self.able or rng.random() < 0.8 else 1]
        offers += self.more_offers
        register = Register(
            self.name, self.host, self.name, "sim", self.slots, offers, cpus=4, memory=self.memory,
            tier=rng.choice([0, 0, 1]), weight=rng.choice([0.5, 1.0, 2.0]),
        )  # fmt: skip
        self.world.tell(self.name, "starts with %d slots, %d ahead", self.slots, ahead)
        self.obey(self.session.offer(register, self.now))
        self.dial()

    def crash(self) -> None:
        """Be killed, with every task."""
        if self.alive:
            self.world.tell(self.name, "is killed")
            self.end_life()
            self.world.after(self.random.uniform(0.1, 10), self.start)

    def end_life(self) -> None:
        self.dies()
        self.hands.clear()
        if self.line is not None:
            self.line.cut()
            self.line = None

    def drain(self) -> None:
        """Leave when all that is in hand has ended."""
        self.world.tell(self.name, "is told to drain")
        self.obey(self.session.leave(self.now))

    # --- the session

    def obey(self, commands: list) -> None:
        for command in commands:
            if not self.alive:
                return
            match command:
                case core.Say():
                    self.say(command.message)
                case core.Start():
                    self.begin(command.run)
                case core.Stop():
                    took = self.random.expovariate(self.random.choice([0.15, 1, 10]))
                    self.later(took, lambda c=command: self.halt(c))
                case core.Recall():
                    self.recall((command.key, command.attempt), command.reason)
                case core.Upload():
                    self.later(self.random.expovariate(2), lambda c=command: self.upload(c.digests))
                case core.Reconnect():
                    self.world.tell(self.name, "connects again: %s", command.reason)
                    self.redial()
                case core.Quit():
                    self.world.tell(self.name, "quits: %s %s", command.code, command.reason)
                    assert command.code or not self.hands, "a drained worker quits with tasks in hand"
                    if self.line is not None:
                        self.line.close()
                    self.end_life()
                    self.world.after(1 + self.random.expovariate(1), self.start)

    def upload(self, digests: tuple[bytes, ...]) -> None:
        """Deliver outputs, or turn out not to have one of them."""
        if self.world.faults.happens("absent", 0.03):
            self.say(Absent(digests[:1]))
            digests = digests[1:]
        manager = self.world.manager
        manager.do(lambda: manager.arrived(digests))

    # --- attempts

    def begin(self, run: Run) -> None:
        """Take an attempt in hand."""
        name = (run.key, run.attempt)
        assert name not in self.hands, "the same attempt was started twice"
        self.world.audit.takes(self, run)
        execution = self.hands[name] = Execution(run, decode_action(run.action))
        if self.random.random() < 0.5:
            self.prepare(execution)
        else:
            self.later(self.random.expovariate(50), lambda: self.prepare(execution))

    def prepare(self, execution: Execution) -> None:
        """Fetch the inputs; give the attempt back when one cannot be had."""
        if not self.holds(execution):
            return
        if execution.halted or execution.recalled:
            self.give_back(execution, execution.halted or execution.recalled)
            return
        blobs = self.world.manager.blobs
        absent = tuple(entry.digest for entry in execution.action.inputs if entry.digest not in blobs)
        if absent:
            self.give_back(execution, "inputs absent", absent)
        elif self.sick and self.random.random() < 0.3:
            self.give_back(execution, "the disk is full", (), "disk-full")
        else:
            execution.ready = True
            self.spawn()

    def spawn(self) -> None:
        """Run what is ready, first come first served: as many tasks as there are slots, however wide they are."""
        for execution in list(self.hands.values()):
            if sum(each.running for each in self.hands.values()) >= self.slots:
                return
            if execution.ready and not execution.running:
                self.launch(execution)

    def launch(self, execution: Execution) -> None:
        """Start the command; the shell's report of that may be left out when it ends at once."""
        execution.running = True
        run = execution.run
        self.world.audit.begins(self, run)
        if self.random.random() < 0.7:
            self.obey(self.session.begun(run.key, run.attempt, self.now))
        what = execution.action.commands[0]
        if what.startswith("poison") and "poison" in self.world.faults.kinds and self.random.random() < 0.8:
            self.later(self.random.expovariate(2), lambda: self.holds(execution) and self.crash())
            return
        took = SHORT_S if what.startswith("short") or self.sick else self.random.choice(LONG_S)
        took = self.random.expovariate(1 / took)
        self.later(took, lambda: self.ended(execution, self.result(execution, took)))

    def result(self, execution: Execution, took: float) -> Result:
        """Return what a command makes: outputs that carry the number of the attempt."""
        run, faults = execution.run, self.world.faults
        said = f"attempt {run.attempt}"
        what = execution.action.commands[0]
        if self.sick:
            return Result(
                Outcome.FAILED, exit_code=127, reason=f"{said}: sick worker", run_s=took, kind="exit"
            )
        if faults.happens("timeout", 0.04):
            return Result(Outcome.TIMEOUT, reason=said, run_s=took, kind="timeout")
        if what.startswith("memory") and self.memory <= 4 * GIB and "memory" in faults.kinds:
            kind = "out-of-memory"
            return Result(
                Outcome.FAILED, signal=9, reason=said, run_s=took, kind=kind, peak_memory=self.memory
            )
        if what.startswith("failing") or faults.happens("fail", 0.1):
            return Result(Outcome.FAILED, exit_code=1, reason=said, run_s=took, kind="exit")
        outputs = tuple(
            FileEntry(path, digest_of(run.epoch, run.key, run.attempt, self.boot, path), 1)
            for path in execution.action.outputs
        )
        return Result(Outcome.SUCCEEDED, exit_code=0, outputs=outputs, run_s=took)

    def ended(self, execution: Execution, result: Result) -> None:
        """The command's processes are gone."""
        if self.holds(execution):
            run = execution.run
            del self.hands[run.key, run.attempt]
            self.world.audit.ran(self, run, result)
            self.obey(self.session.ended(run.key, run.attempt, result, self.now))
            self.spawn()

    def give_back(
        self, execution: Execution, reason: str, absent: tuple[bytes, ...] = (), kind: str = ""
    ) -> None:
        run = execution.run
        del self.hands[run.key, run.attempt]
        self.obey(self.session.decline(run.key, run.attempt, reason, self.now, absent, kind))
        self.spawn()

    def halt(self, command: core.Stop) -> None:
        """End an attempt's processes; one that has none yet is given back."""
        execution = self.hands.get((command.key, command.attempt))
        if execution is None:
            return
        execution.halted = command.reason
        if execution.running:
            self.ended(execution, Result(Outcome.CANCELLED, reason=command.reason, kind="cancelled"))
        elif execution.ready:
            self.give_back(execution, command.reason)

    def recall(self, name: tuple[int, int], reason: str) -> None:
        """Give back an attempt whose command has not been started."""
        execution = self.hands.get(name)
        if execution is None or execution.running:
            return
        execution.recalled = reason
        if execution.ready:
            self.give_back(execution, reason)

    def holds(self, execution: Execution) -> bool:
        return self.hands.get((execution.run.key, execution.run.attempt)) is execution

    # --- faults of its own

    @property
    def sick(self) -> bool:
        return self.world.now < self.sick_until

    def report(self) -> None:
        """Report the host's load, as a monitor would."""
        rng = self.world.faults.streams["load"]
        limit = rng.choice([None, None, 0.8])
        load = rng.random() * 2
        report = LoadReport(self.host, self.host, load, 4, 16 * GIB, rng.choice([2, 8]) * GIB, max_load=limit)
        self.say(report)
