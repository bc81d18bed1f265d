"""Clients of the world: the real session, and a user who submits, cancels, takes, dies and tries again."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import msgspec

from computefarm.codec import encode_action
from computefarm.core import client as core
from computefarm.core.client import ClientSession
from computefarm.messages import Absent, Action, Done, FileEntry, Need, Outcome, TaskSpec, Want

from .lines import Process
from .workers import GIB, digest_of

if TYPE_CHECKING:
    from .world import World

INPUTS = 6
COMMANDS = ("short", "short", "long", "long", "memory", "failing", "poison")
ANEW = 1000
"""Added to a task's number each time it is submitted anew."""


class Plan(msgspec.Struct, frozen=True):
    """One task a user wants."""

    spec: TaskSpec
    need: Need
    at: float


def planned(rng: random.Random, number: int, chaos_s: float) -> Plan:
    """Return a task; few distinct ones, so that clients want the same."""
    kind = rng.choice(COMMANDS)
    if kind in ("failing", "poison") and rng.random() < 0.5:
        kind = "short"
    numbers = sorted(rng.sample(range(INPUTS), rng.choice([0, 0, 1, 2])))
    inputs = tuple(FileEntry(f"i{n}", digest_of("input", n), 1) for n in numbers)
    capability = rng.choice(["shell", "gcc"])
    action = encode_action(Action(capability, (f"{kind} {rng.randrange(5)}",), inputs, ("out",)))
    cached = rng.random() < 0.7
    spec = TaskSpec(
        number, f"t{number}", 0, action, rng.random(), rng.choice([0, 0, 1, 3]),
        read_cache=cached, write_cache=cached, kind=kind,
        deadline_s=rng.uniform(1, 60) if rng.random() < 0.08 else 0.0,
    )  # fmt: skip
    need = Need(
        capability,
        version=rng.choice(["", ">=1"]),
        cpus=rng.choice([1, 1, 1, 2]),
        memory=GIB if kind == "memory" else 0,
        exclusive=rng.random() < 0.08,
    )
    return Plan(spec, need, rng.choice([rng.uniform(0, 0.7 * chaos_s), 2.0, 10.0]))


class ClientNode(Process):
    """One user's clients, one after the other, until everything is done."""

    role = "client"

    def __init__(self, world: World, name: str, tasks: int) -> None:
        super().__init__(world, name)
        self.plans = [planned(self.random, number, world.chaos_s) for number in range(tasks)]
        self.had: dict[int, Done] = {}
        """By number of the plan: what a client has told its user."""
        self.untaken: set[int] = set()
        self.anew = 0
        self.gone = False

    @property
    def content(self) -> bool:
        """Return whether the user has everything and the manager has been told so."""
        return (
            self.alive and len(self.had) == len(self.plans) and not self.untaken and not self.session._ended
        )

    # --- life

    def start(self) -> None:
        """Begin a session with everything that no earlier one has brought home."""
        self.born()
        self.session = ClientSession(self.boot, now=self.now, lease_s=self.random.choice([0.0, 0.0, 30.0]))
        self.untaken.clear()
        self.world.tell(self.name, "starts session %s", self.boot)
        self.dial()
        due: dict[float, list[int]] = {}
        for number, plan in enumerate(self.plans):
            if number not in self.had:
                due.setdefault(max(plan.at, self.world.now), []).append(number)
        for at, numbers in due.items():
            self.later(at - self.world.now, lambda numbers=numbers: self.submit(numbers))

    def crash(self) -> None:
        """Be killed; a new client with a session of its own follows."""
        if self.alive:
            self.world.tell(self.name, "is killed")
            self.dies()
            if self.line is not None:
                self.line.cut()
                self.line = None
            self.world.after(self.random.uniform(0.1, 20), self.start)

    def leave(self) -> None:
        """Say goodbye for good."""
        self.gone = True
        self.obey(self.session.leave(self.now))
        self.dies()

    # --- the user

    def submit(self, numbers: list[int], add: int = 0) -> None:
        tasks = []
        for number in numbers:
            plan = self.plans[number]
            spec = msgspec.structs.replace(plan.spec, task=number + add, name=f"t{number + add}")
            tasks.append((plan.need, spec))
            self.world.audit.submits(self, spec)
        self.obey(self.session.submit(tasks, self.now))
        self.arm()

    def cancel(self) -> None:
        """Give up one of the tasks that have not ended."""
        if self.session.unfinished:
            number = self.random.choice(sorted(self.session._open))
            self.world.audit.cancels(self.boot, number)
            self.obey(self.session.cancel([number], self.now))

    def deliver(self, want: Want) -> None:
        """Send inputs, or find that one is gone."""
        digests = want.digests
        if self.world.faults.happens("absent", 0.03):
            self.say(Absent(digests[:1]))
            digests = digests[1:]
        manager = self.world.manager
        delay = self.random.expovariate(5)
        self.later(delay, lambda: manager.do(lambda: manager.arrived(digests)))

    def take(self, done: Done) -> None:
        """Bring the outputs of a task home; have it made anew when the manager has lost them."""
        self.world.audit.tells(self, done)
        self.untaken.add(done.task)
        self.later(self.random.expovariate(2), lambda: self.fetched(done))

    def fetched(self, done: Done) -> None:
        number = done.task % ANEW
        lost = [e for e in done.result.outputs if e.digest not in self.world.manager.blobs]
        if done.result.outcome is Outcome.SUCCEEDED and lost:
            self.world.audit.lost_outputs(self, done)
            self.anew += 1
            self.submit([number], add=self.anew * ANEW)
        else:
            self.had[number] = done
        self.untaken.discard(done.task)
        self.obey(self.session.taken([done.task], self.now))

    # --- the session

    def obey(self, commands: list) -> None:
        for command in commands:
            match command:
                case core.Say():
                    self.say(command.message)
                case core.Tell(Done() as done):
                    self.take(done)
                case core.Tell(Want() as want):
                    self.deliver(want)
                case core.Reconnect():
                    self.world.tell(self.name, "connects again: %s", command.reason)
                    self.redial()
                case core.Tell(core.Rejected() as rejected):
                    raise AssertionError(rejected)
