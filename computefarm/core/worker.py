"""A worker's side of the dialogue: what to start, what to stop, what to say and when.

It knows nothing of sockets, processes and blobs.
Its shell says `Hello` when a connection is there, hands every message of the control connection to `receive`,
wakes it at `next_deadline`, and obeys the commands in order.

Three things an attempt can be here: in the backlog (received, not started), in hand (started), or ended with
a result that is held and said again until the manager settles it.
While the manager is away all this goes on, but nothing new begins. A manager that goes on with the same
journal (*lineage*) is told what is in hand, whichever epoch it came from; another has never heard of it.
"""

from __future__ import annotations

from collections import deque
from typing import assert_never

import msgspec

from computefarm.messages import (
    Absent,
    Accepted,
    Answer,
    Begun,
    Chunk,
    Declined,
    Digest,
    Disconnect,
    Done,
    Drain,
    Fetch,
    Finished,
    FromManager,
    Goodbye,
    Got,
    Halt,
    Heartbeat,
    Joined,
    Leaving,
    LogPage,
    Offers,
    OutputPage,
    Placed,
    ReadOutput,
    Register,
    Reply,
    Request,
    Result,
    Run,
    Running,
    Settled,
    TaskKey,
    TaskOutput,
    Time,
    ToManager,
    Waiting,
    Want,
    Welcome,
    Withdraw,
)

from .beats import LEASE_BEATS, RESEND_BEATS
from .held_results import RESULT_HOLD_S as RESULT_HOLD_S
from .held_results import HeldResults, Name
from .room import Room
from .seen import Seen
from .worker_commands import LetGo as LetGo
from .worker_commands import Quit as Quit
from .worker_commands import Recall as Recall
from .worker_commands import Reconnect as Reconnect
from .worker_commands import Say as Say
from .worker_commands import Start as Start
from .worker_commands import Stop as Stop
from .worker_commands import Upload as Upload
from .worker_commands import WorkerCommand as WorkerCommand


class WorkerSession:
    """What one worker has in hand and owes the manager.

    `ahead` is how many attempts of one slot may be started beyond the slots, by a shell that makes them ready
    and queues their commands itself; then the next command begins without waiting for this session.
    """

    def __init__(
        self,
        name: str,
        slots: int,
        heartbeat_s: float = 2.0,
        *,
        now: float = 0.0,
        ahead: int = 0,
        result_hold_s: float = RESULT_HOLD_S,
    ) -> None:
        self.name = name
        self.slots = slots
        self.epoch = ""
        self.lineage = ""
        self.draining = False
        self.held = ""
        """Why no new work is taken for now; empty when it is."""
        self._heartbeat_s = heartbeat_s
        self._register: Register | None = None
        self._linked = False
        self._welcome = False
        self._said_at = now
        self._heard_at = now
        self._backlog: deque[Run] = deque()
        self._hand: dict[Name, Run] = {}
        self._room = Room(slots, ahead)
        self._begun: set[Name] = set()
        self._stopped: set[Name] = set()
        self._orphans: dict[Name, Run] = {}
        self._results = HeldResults(result_hold_s)
        self._resend_at = now
        self._seen = Seen()

    # --- what the shell reports -----------------------------------------------------------------------

    def offer(self, register: Register, now: float) -> list[WorkerCommand]:
        """Set what this worker offers; said after every Welcome and now when there is a connection."""
        self._register = msgspec.structs.replace(register, worker=self.name, slots=self.slots)
        return self._say(self._registration(), now=now) if self._welcome else []

    def connected(self, now: float) -> list[WorkerCommand]:
        """A connection exists and the shell has said `Hello` on it."""
        self._linked = True
        self._heard_at = now
        return []

    def disconnected(self, now: float) -> list[WorkerCommand]:
        """The connection is gone: finish what runs, hold the results, start nothing more.

        The manager gives a lost worker's attempts to others, so what has not begun must not begin any more.
        """
        self._linked = False
        if self._welcome:
            self._welcome = False
            self._results.away(now)
        self._backlog.clear()
        return []

    def begun(self, key: TaskKey, attempt: int, now: float) -> list[WorkerCommand]:
        """The attempt's first command runs."""
        run = self._hand.get((key, attempt))
        if run is None:
            return []
        self._begun.add((key, attempt))
        if not self._welcome:
            return []
        return self._say(Begun(key, attempt, self._abroad(run.epoch)), now=now)

    def ended(self, key: TaskKey, attempt: int, result: Result, now: float) -> list[WorkerCommand]:
        """The attempt is over; its result is said until the manager settles it."""
        name = (key, attempt)
        if self._orphans.pop(name, None) is not None:
            return self._next(now)
        run = self._hand.pop(name, None)
        if run is None:
            return []
        self._release(name, run)
        finished = Finished(key, attempt, result, run.epoch)
        if not self._results:
            self._resend_at = now + RESEND_BEATS * self._heartbeat_s
        self._results.add(name, finished, now, away=not self._welcome)
        said = self._say(finished, now=now) if self._welcome else []
        return said + self._next(now)

    def decline(
        self,
        key: TaskKey,
        attempt: int,
        reason: str,
        now: float,
        absent: tuple[Digest, ...] = (),
        kind: str = "",
    ) -> list[WorkerCommand]:
        """The attempt could not be started, or is given back, through no fault of the task.

        `kind` is `Declined.kind`.
        """
        name = (key, attempt)
        if self._orphans.pop(name, None) is not None:
            return self._next(now)
        run = self._hand.pop(name, None)
        if run is None:
            return []
        self._release(name, run)
        declined = Declined(key, attempt, reason, absent, self._abroad(run.epoch), kind)
        said = self._say(declined, now=now) if self._welcome else []
        return said + self._next(now)

    def leave(self, now: float, reason: str = "draining") -> list[WorkerCommand]:
        """Take no new work, give back what has not begun, and quit when the rest has ended."""
        if self.draining:
            return []
        self.draining = True
        commands: list[WorkerCommand] = []
        if self._welcome:
            commands += self._say(Leaving(), now=now)
            for run in self._backlog:
                commands += self._say(Declined(run.key, run.attempt, reason), now=now)
        self._backlog.clear()
        return commands + self._next(now)

    def hold(self, reason: str, now: float) -> list[WorkerCommand]:
        """Take no new work, and give back what has not begun; an empty reason ends that."""
        self.held = reason
        commands: list[WorkerCommand] = []
        if self._welcome and self._register is not None:
            commands += self._say(self._registration(), now=now)
        if reason:
            if self._welcome:
                for run in self._backlog:
                    commands += self._say(Declined(run.key, run.attempt, reason), now=now)
            self._backlog.clear()
        return commands

    @property
    def running(self) -> tuple[Run, ...]:
        """Return the attempts that were started and have not ended."""
        return tuple(self._hand.values())

    @property
    def unsettled(self) -> frozenset[tuple[TaskKey, int]]:
        """Return the attempts whose results are not settled yet: their outputs may still be wanted."""
        return frozenset(self._results.entries)

    # --- what the manager says ------------------------------------------------------------------------

    def receive(self, message: FromManager, now: float) -> list[WorkerCommand]:
        """Return what to do about one message of the manager."""
        self._heard_at = now
        match message:
            case Run():
                return self._run(message, now)
            case Settled():
                self._results.settle(message.attempts, message.epoch or self.epoch)
                return self._next(now) if self.draining or self._backlog else []
            case Halt():
                return self._halt(message, now)
            case Want():
                return [Upload(message.digests)]
            case Welcome():
                return self._welcomed(message, now)
            case Drain():
                return self.leave(now)
            case Disconnect():
                return self._refused(message, now)
            case Heartbeat() | Joined() | Offers() | Placed() | TaskOutput() | Done() | Waiting() | Answer():
                return []
            case Request() | Reply() | Withdraw():
                return []  # answered by resident processes, which the shell keeps
            case Accepted() | Chunk() | Fetch() | Absent() | Got() | LogPage() | Time():
                return []  # bulk traffic and clocks are the shell's own business
            case ReadOutput() | OutputPage():
                return []
            case _:
                assert_never(message)

    def tick(self, now: float) -> list[WorkerCommand]:
        """Say what time alone makes necessary."""
        commands = self._let_go(now)
        if not self._linked:
            return commands
        if now >= self._heard_at + LEASE_BEATS * self._heartbeat_s:
            self.disconnected(now)
            return [*commands, Reconnect(f"the manager has been silent for {now - self._heard_at:.0f} s")]
        if not self._welcome:
            return commands
        if self._results and now >= self._resend_at:
            commands += self._say_results(now)
        if now >= self._said_at + self._heartbeat_s:
            commands += self._say(Heartbeat(), now=now)
        return commands

    def next_deadline(self) -> float | None:
        """Return when to call `tick`; None when there is nothing to wait for."""
        let_go = self._results.let_go_at()
        if not self._linked:
            return let_go
        deadline = self._heard_at + LEASE_BEATS * self._heartbeat_s
        if let_go is not None:
            deadline = min(deadline, let_go)
        if self._welcome:
            deadline = min(deadline, self._said_at + self._heartbeat_s)
            if self._results:
                deadline = min(deadline, self._resend_at)
        return deadline

    # --- inside ---------------------------------------------------------------------------------------

    def _say(self, *messages: ToManager, now: float) -> list[WorkerCommand]:
        self._said_at = now
        return [Say(message) for message in messages]

    def _say_results(self, now: float) -> list[WorkerCommand]:
        self._resend_at = now + RESEND_BEATS * self._heartbeat_s
        return self._say(*self._results.entries.values(), now=now)

    def _abroad(self, epoch: str) -> str:
        """Return an epoch as messages name it: empty for that of the manager we speak to."""
        return "" if epoch == self.epoch else epoch

    def _registration(self) -> Register:
        assert self._register is not None
        running = [Running(run.key, run.attempt, run.epoch) for run in self._hand.values()]
        running += [Running(run.key, run.attempt, run.epoch) for run in self._backlog]
        running += [Running(held.key, held.attempt, held.epoch) for held in self._results.entries.values()]
        return msgspec.structs.replace(
            self._register, running=tuple(running), draining=self.draining, held=self.held
        )

    def _welcomed(self, welcome: Welcome, now: float) -> list[WorkerCommand]:
        self._linked = self._welcome = True
        self._heartbeat_s = welcome.heartbeat_s
        self._results.back()
        commands: list[WorkerCommand] = []
        if welcome.epoch != self.epoch:
            if not welcome.lineage or welcome.lineage != self.lineage:
                commands = self._strangers()
            self.epoch, self.lineage = welcome.epoch, welcome.lineage
        if self._register is not None:
            commands += self._say(self._registration(), now=now)
        return commands + self._say_results(now) + self._next(now)

    def _let_go(self, now: float) -> list[WorkerCommand]:
        """Give up the results that nobody has come for."""
        over = self._results.let_go(now)
        if not over:
            return []
        text = f"the manager has been away for more than {self._results.hold_s:.0f} s"
        return [LetGo(over, text), *self._next(now)]

    def _strangers(self) -> list[WorkerCommand]:
        """Let go of everything an earlier manager gave us: this one has never heard of it."""
        self._results.clear()
        self._seen.clear()
        self._backlog.clear()
        self._orphans.update(self._hand)
        self._hand.clear()
        self._begun.clear()
        self._room.clear()
        reason = "the manager was started anew and does not know this task"
        return [Stop(run.key, run.attempt, reason) for run in self._orphans.values()]

    def _run(self, run: Run, now: float) -> list[WorkerCommand]:
        if not run.epoch:
            run = msgspec.structs.replace(run, epoch=self.epoch)
        here = self._welcome and run.epoch == self.epoch
        if not (here and self._seen.add(run.key, run.attempt, run.epoch)):
            return []
        if self.draining or self.held:
            return self._say(Declined(run.key, run.attempt, self.held or "draining"), now=now)
        self._backlog.append(run)
        return self._next(now)

    def _halt(self, halt: Halt, now: float) -> list[WorkerCommand]:
        name = (halt.key, halt.attempt)
        epoch = halt.epoch or self.epoch
        for run in self._backlog:
            if (run.key, run.attempt, run.epoch) == (*name, epoch):
                self._backlog.remove(run)
                return self._say(Declined(halt.key, halt.attempt, "recalled", epoch=halt.epoch), now=now)
        hand, held = self._hand.get(name), self._results.entries.get(name)
        if hand is not None and hand.epoch == epoch:
            if name in self._stopped or (halt.unless_begun and name in self._begun):
                return []
            if halt.unless_begun:
                return [Recall(halt.key, halt.attempt, halt.reason)]
            self._stopped.add(name)
            return [Stop(halt.key, halt.attempt, halt.reason)]
        if held is not None and held.epoch == epoch:
            return self._say(held, now=now)
        self._seen.add(halt.key, halt.attempt, epoch)
        return self._say(Declined(halt.key, halt.attempt, "not here", epoch=halt.epoch), now=now)

    def _refused(self, message: Disconnect, now: float) -> list[WorkerCommand]:
        self.disconnected(now)
        if message.code in ("protocol", "stopping"):
            return [Reconnect(message.text)]
        return [Quit(message.text, message.code)]

    def _release(self, name: Name, run: Run) -> None:
        self._room.give(run)
        self._begun.discard(name)
        self._stopped.discard(name)

    def _next(self, now: float) -> list[WorkerCommand]:
        """Start what fits, first come first served, or quit when a drained worker has nothing left to do."""
        commands: list[WorkerCommand] = []
        while self._backlog and self._welcome and self._room.fits(self._backlog[0], self._orphans.values()):
            name = (self._backlog[0].key, self._backlog[0].attempt)
            if name in self._orphans or name in self._hand or name in self._results.entries:
                break  # a new manager may use a number again; two of one name could not be told apart
            run = self._backlog.popleft()
            self._hand[run.key, run.attempt] = run
            self._room.take(run)
            commands.append(Start(run))
        if self.draining and not (self._backlog or self._hand or self._orphans or self._results):
            if self._welcome:
                commands += self._say(Goodbye("drained"), now=now)
            commands.append(Quit("drained"))
        return commands
