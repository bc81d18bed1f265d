"""The world's lines and the processes at their far ends: workers and clients around their cores."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from computefarm.codec import decode_action, decode_from_manager, decode_to_manager, encode, encode_action
from computefarm.core import client as client_core
from computefarm.core import worker as worker_core
from computefarm.core.client import ClientSession
from computefarm.core.commands import Gone
from computefarm.core.worker import WorkerSession
from computefarm.messages import (
    PROTOCOL,
    Absent,
    Action,
    Begun,
    Done,
    FileEntry,
    Heartbeat,
    Hello,
    LoadReport,
    Need,
    Offer,
    Outcome,
    Register,
    Result,
    Run,
    TaskSpec,
    Want,
)

if TYPE_CHECKING:
    from .world import World

LOSSY = (Heartbeat, Begun, LoadReport)
"""Messages that the dialogue can do without, one by one."""


def digest_of(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


class Line:
    """One connection between a process and the manager."""

    def __init__(self, world: World, process: Process) -> None:
        self.world = world
        self.process = process
        # A shell may give a returning process its old name or a new one.
        self.peer = f"{process.name}.{process.life}" if world.stable_names else f"p{next(world.names)}"
        self.open = True
        self.last = {"up": world.now, "down": world.now}
        if world.up:
            world.lines[self.peer] = self

    def send(self, message: object) -> None:
        self.carry("up", encode([message]), isinstance(message, LOSSY), self.arrive)

    def down(self, body: bytes, lossy: bool) -> None:
        self.carry("down", body, lossy, self.deliver)

    def carry(self, way: str, body: bytes, lossy: bool, target: Callable[[bytes], None]) -> None:
        rng = self.world.random
        if self.world.chaos and lossy and rng.random() < 0.1:
            return
        at = max(self.last[way], self.world.now + rng.expovariate(50))
        self.last[way] = at
        self.world.after(at - self.world.now, lambda: target(body))
        if self.world.chaos and rng.random() < 0.05:
            self.world.after(at - self.world.now + rng.expovariate(1), lambda: target(body))

    def arrive(self, body: bytes) -> None:
        if not self.open or not self.world.up or not self.known():
            return
        for message in decode_to_manager(body):
            if isinstance(message, Hello):
                self.world.obey(
                    self.world.manager.connect(self.peer, message.role, message, self.world.now, owner="k")
                )
            else:
                self.world.obey(self.world.manager.receive(self.peer, message, self.world.now))

    def deliver(self, body: bytes) -> None:
        if self.open and self.process.line is self and self.process.alive:
            for message in decode_from_manager(body):
                self.process.hear(message)

    def known(self) -> bool:
        """Return whether the manager's end still exists."""
        return self.world.lines.get(self.peer) is self

    def cut(self) -> None:
        """Lose everything in flight; tell each end later, if at all."""
        self.open = False
        rng = self.world.random
        if rng.random() < 0.7:
            self.world.after(rng.expovariate(1), lambda: self.known() and self.world.fact(Gone(self.peer)))
        if rng.random() < 0.7:
            self.world.after(rng.expovariate(1), lambda: self.process.unplugged(self))


class Process:
    """What workers and clients have in common: a line, a session, a life."""

    session: WorkerSession | ClientSession
    role: str

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.alive = False
        self.line: Line | None = None
        self.life = 0

    def start(self) -> None:
        self.life += 1
        self.alive = True
        self.dial()
        self.wake(self.life)

    def dial(self) -> None:
        self.line = Line(self.world, self)
        self.session.connected(self.world.now)
        self.line.send(Hello(PROTOCOL, "1", self.role, f"{self.name}.{self.life}", host=self.name))

    def unplugged(self, line: Line) -> None:
        if self.alive and self.line is line:
            self.obey(self.session.disconnected(self.world.now))
            self.redial()

    def redial(self) -> None:
        if self.line is not None and self.line.open and self.world.random.random() < 0.5:
            self.line.known() and self.world.fact(Gone(self.line.peer))
        self.line = None
        life = self.life
        self.world.after(self.world.random.expovariate(1), lambda: self.redialled(life))

    def redialled(self, life: int) -> None:
        if self.alive and self.life == life and self.line is None:
            self.dial()

    def wake(self, life: int) -> None:
        def ring() -> None:
            if self.alive and self.life == life:
                deadline = self.session.next_deadline()
                if deadline is not None and deadline <= self.world.now:
                    self.obey(self.session.tick(self.world.now))
                if self.line is not None and not self.line.known() and not self.world.chaos:
                    self.unplugged(self.line)
                self.wake(life)

        self.world.after(0.5, ring)

    def hear(self, message: object) -> None:
        self.obey(self.session.receive(message, self.world.now))

    def obey(self, commands: list) -> None:
        raise NotImplementedError


class WorkerProcess(Process):
    role = "worker"

    def __init__(self, world: World, name: str, host: str) -> None:
        super().__init__(world, name)
        self.host = host
        self.running: dict[tuple[int, int], Run] = {}

    def start(self) -> None:
        rng = self.world.random
        first = self.name == "w0"  # can run everything, so that every task can end
        self.slots = 2 if first else rng.choice([1, 2, 3])
        self.running.clear()
        self.session = WorkerSession(self.name, self.slots, now=self.world.now)
        offers = (Offer("shell", "1"), Offer("gcc", "12"))[: 2 if first or rng.random() < 0.8 else 1]
        self.session.offer(
            Register(self.name, self.host, self.name, "sim", self.slots, offers, cpus=4), self.world.now
        )
        super().start()

    def crash(self) -> None:
        if not self.alive:
            return
        self.alive = False
        if self.line is not None:
            self.line.cut()
        self.world.after(self.world.random.uniform(0.1, 10), self.start)

    def obey(self, commands: list) -> None:
        for command in commands:
            match command:
                case worker_core.Say():
                    if self.line is not None:
                        self.line.send(command.message)
                case worker_core.Start():
                    self.begin(command.run)
                case worker_core.Stop():
                    self.later(
                        0.1,
                        lambda c=command: self.end(
                            c.key, c.attempt, Result(Outcome.CANCELLED, reason=c.reason)
                        ),
                    )
                case worker_core.Upload():
                    self.later(0.5, lambda c=command: self.world.upload(c.digests))
                case worker_core.Reconnect():
                    self.redial()
                case worker_core.Quit():
                    self.alive = False
                    if self.line is not None:
                        self.world.fact(Gone(self.line.peer))
                    self.world.after(1 + self.world.random.expovariate(1), self.start)
                    return

    def later(self, mean: float, what: Callable[[], None]) -> None:
        life = self.life

        def then() -> None:
            if self.alive and self.life == life:
                what()

        self.world.after(self.world.random.expovariate(1 / mean), then)

    def begin(self, run: Run) -> None:
        assert (run.key, run.attempt) not in self.running, "the same attempt was started twice"
        self.running[run.key, run.attempt] = run
        assert sum(each.cpus for each in self.running.values()) <= self.slots or len(self.running) == 1
        rng = self.world.random
        action = decode_action(run.action)
        absent = tuple(entry.digest for entry in action.inputs if entry.digest not in self.world.blobs)
        if absent:
            self.later(0.05, lambda: self.give_back(run, absent))
            return
        if rng.random() < 0.7:
            self.obey(self.session.begun(run.key, run.attempt, self.world.now))
        duration = 0.002 if "short" in str(action.commands) else 2.0
        self.later(duration, lambda: self.end(run.key, run.attempt, self.result(run, action)))

    def result(self, run: Run, action: Action) -> Result:
        if self.world.chaos and self.world.random.random() < 0.15:
            return Result(Outcome.FAILED, exit_code=1, reason=f"attempt {run.attempt}", run_s=0.001)
        outputs = tuple(
            FileEntry(
                path,
                digest_of(self.world.epochs if not run.epoch else run.epoch, run.key, run.attempt, path),
                1,
            )
            for path in action.outputs
        )
        run_s = 0.002 if "short" in str(action.commands) else 2.0
        return Result(Outcome.SUCCEEDED, exit_code=0, outputs=outputs, run_s=run_s)

    def give_back(self, run: Run, absent: tuple[bytes, ...]) -> None:
        if self.running.pop((run.key, run.attempt), None) is not None:
            self.obey(self.session.decline(run.key, run.attempt, "inputs absent", self.world.now, absent))

    def end(self, key: int, attempt: int, result: Result) -> None:
        if self.running.pop((key, attempt), None) is not None:
            self.obey(self.session.ended(key, attempt, result, self.world.now))


class ClientProcess(Process):
    role = "client"

    def __init__(self, world: World, name: str, tasks: int) -> None:
        super().__init__(world, name)
        self.session = ClientSession(name, now=0.0)
        self.total = tasks
        self.done: dict[int, Done] = {}
        self.untaken = 0
        rng = world.random
        for number in range(tasks):
            world.after(rng.uniform(0, 0.7 * world.chaos_s), lambda n=number: self.submit(n))

    @property
    def content(self) -> bool:
        return len(self.done) == self.total and self.untaken == 0 and self.session._ended == set()

    def submit(self, number: int) -> None:
        rng = self.world.random
        command = f"{rng.choice(['short', 'long'])} {rng.randrange(8)}"
        inputs = tuple(
            FileEntry(f"i{n}", digest_of("input", n), 1)
            for n in sorted(rng.sample(range(6), rng.randrange(3)))
        )
        capability = rng.choice(["shell", "gcc"])
        action = encode_action(Action(capability, (command,), inputs, ("out",)))
        cached = rng.random() < 0.7
        spec = TaskSpec(
            number,
            f"t{number}",
            0,
            action,
            rng.random(),
            rng.randrange(3),
            read_cache=cached,
            write_cache=cached,
            kind=command[:5],
        )
        need = Need(
            capability,
            version=rng.choice(["", ">=1"]),
            cpus=rng.choice([1, 1, 1, 2]),
            exclusive=rng.random() < 0.1,
        )
        self.obey(self.session.submit([(need, spec)], self.world.now))

    def obey(self, commands: list) -> None:
        for command in commands:
            match command:
                case client_core.Say():
                    if self.line is not None:
                        self.line.send(command.message)
                case client_core.Tell(Done() as done):
                    self.take(done)
                case client_core.Tell(Want() as want):
                    self.deliver(want)
                case client_core.Reconnect():
                    self.redial()
                case client_core.Tell(client_core.Rejected() as rejected):
                    raise AssertionError(rejected)

    def deliver(self, want: Want) -> None:
        """Send inputs, or now and then find that one is gone."""
        digests = want.digests
        if self.line is not None and self.world.chaos and self.world.random.random() < 0.02:
            self.line.send(Absent(digests[:1]))
            digests = digests[1:]
        self.world.after(self.world.random.expovariate(5), lambda: self.world.upload(digests))

    def take(self, done: Done) -> None:
        assert done.task not in self.done, f"{self.name} was told twice of task {done.task}"
        self.done[done.task] = done
        if done.result.outcome is Outcome.SUCCEEDED:
            for entry in done.result.outputs:
                assert entry.digest in self.world.blobs, "a success without its outputs"
            if not done.cached:
                last = done.attempts[-1]
                assert last.outcome == "succeeded"
                keys = {
                    digest_of(f"epoch{e}", k, last.attempt, "out")
                    for e in range(1, self.world.epochs + 1)
                    for k in range(200)
                }
                assert done.result.outputs[0].digest in keys, "the outputs of another attempt were taken"
        if (
            done.result.outcome is Outcome.FAILED
            and done.result.reason.startswith("attempt")
            and not done.cached
        ):
            assert done.result.reason == f"attempt {done.attempts[-1].attempt}"
        self.untaken += 1
        self.world.after(self.world.random.expovariate(2), lambda: self.has_taken(done.task))

    def has_taken(self, number: int) -> None:
        self.untaken -= 1
        self.obey(self.session.taken([number], self.world.now))
