"""The same world with clients that send requests to warm workers, beside those with tasks.

Every request is answered once, or its deadline passes, or its asker is gone; a success is the answer to just this
request, and is never sent after its deadline. In the end nobody holds anything of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import TYPE_CHECKING

import msgspec

from computefarm.core.commands import Command, Send
from computefarm.core.volatile import Volatile
from computefarm.messages import (
    FromManager,
    Heartbeat,
    Hello,
    Offer,
    Reply,
    Request,
    ToManager,
    Welcome,
    Withdraw,
)

from .audit import Violation
from .lines import Line, Process
from .managers import CHECK_EVERY, ManagerNode
from .workers import GIB, WorkerNode
from .world import World

if TYPE_CHECKING:
    from collections.abc import Sequence

BEAT_S = 0.3
HEARTBEAT_S = 1.0
SILENT_S = 6.0
LATE_S = 0.5
"""After a deadline the manager has told its asker."""

LAST = 5
"""Questions of each asker when everything is well: all are answered."""

PATIENCE_S = 1.5
"""After its deadline an asker waits no longer for the manager's word."""

KERNEL = Offer("recompute", "1", tags=(("kernel:k", "1"), ("devices", "cpu")))
GOOD = ("ok", "no_proof")


class Told(msgspec.Struct, eq=False):
    """One request as the manager has it, by its own clock."""

    until: float
    overdue_at: float | None = None
    """When it was first seen to be late."""
    owed: bool = True
    """False once its asker has connected anew: then it may have been forgotten."""


class AnsweringManager(ManagerNode):
    """Sees that each request is answered once, and not with success when it is late."""

    def start(self) -> None:
        self.asked: dict[tuple[str, int], Told] = {}
        super().start()

    def hear(self, line: Line, messages: list[ToManager]) -> None:
        for message in messages:
            if line.peer and self.peers.get(line.peer) is line:
                if isinstance(message, Request):
                    told = Told(self.now + message.budget_s)
                    self.asked.setdefault((line.peer, message.number), told)
                elif isinstance(message, Withdraw):
                    for number in message.numbers:
                        self.asked.pop((line.peer, number), None)
            super().hear(line, [message])

    def greet(self, line: Line, hello: Hello) -> None:
        super().greet(line, hello)
        for (peer, _), told in self.asked.items():
            if peer == line.peer:
                told.owed = False

    def tick(self) -> None:
        super().tick()
        for (peer, number), told in self.asked.items():
            if peer not in self.core._tables.peers:
                told.owed = False
            if not told.owed or self.now <= told.until + LATE_S:
                continue
            if told.overdue_at is None:
                told.overdue_at = self.now
            elif self.now > told.overdue_at + LATE_S:
                raise Violation(f"{peer} was never told of its request {number}")

    def obey(self, commands: list[Command]) -> None:
        super().obey(commands)
        if self.steps % CHECK_EVERY == 0:
            check_requests(self.core._volatile)

    def send(self, command: Send) -> None:
        reply = command.message
        if isinstance(reply, Reply):
            told = self.asked.pop((command.peer, reply.number), None)
            if told is None:
                raise Violation(f"{command.peer} is told again, or of nothing that it asked: {reply}")
            if reply.status in GOOD and self.now > told.until:
                raise Violation(f"{command.peer} is told of success {self.now - told.until:.3f} s too late")
        super().send(command)


def check_requests(volatile: Volatile) -> None:
    """Raise when the tables of requests contradict each other."""
    book = volatile._book
    tickets = book.tickets.values()
    asked = {(a.peer, a.number): t.key for t in tickets for a in t.askers}
    waiting = {key for heap in book.waiting.values() for _, key in heap}
    given = {
        (one.ticket, server.worker.name)
        for server in volatile._servers.values()
        for one in server.pending.values()
        if not one.abandoned
    }
    for name, holds in {
        "asked": asked == book.asked,
        "each": Counter(peer for peer, _ in asked) == Counter(book.each),
        "queued": book.queued == sum(not t.worker for t in tickets),
        "waiting": {t.key for t in tickets if not t.worker} <= waiting,
        "given": all((t.key, t.worker) in given for t in tickets if t.worker),
        "same": sorted(book.same.values()) == sorted(book.tickets),
        "bytes": book.bytes == sum(len(t.request.body) for t in tickets),
    }.items():
        if not holds:
            raise Violation(f"the manager's books of its requests are wrong: {name}")


class AnsweringWorker(WorkerNode):
    """Computes requests too, as many at a time as it has slots."""

    more_offers = (KERNEL,)

    def __init__(self, world: World, name: str, host: str, *, able: bool) -> None:
        super().__init__(world, name, host, able=able)
        self.requests: dict[int, tuple[Request, float]] = {}
        self.running: set[int] = set()
        self.beating = False
        self.answers = world.stream(f"{name}/answers")

    def forget(self) -> None:
        """The manager gives to others what was in hand."""
        self.requests.clear()
        self.running.clear()

    def end_life(self) -> None:
        super().end_life()
        self.forget()
        self.beating = False

    def dial(self) -> None:
        self.forget()
        super().dial()

    def redial(self) -> None:
        self.forget()
        super().redial()

    def hear(self, line: Line, messages: list[FromManager]) -> None:
        for message in messages:
            if self.alive and self.line is line:
                if isinstance(message, Request):
                    self.take(message)
                elif isinstance(message, Withdraw):
                    for number in message.numbers:
                        self.requests.pop(number, None)
                        self.running.discard(number)
                    self.compute()
            super().hear(line, [message])

    def take(self, request: Request) -> None:
        self.requests[request.number] = (request, self.now + request.budget_s)
        # What a worker forgot with its connection the manager has taken back, too.
        if "copies" not in self.world.faults.kinds and len(self.requests) > 2 * self.slots:
            raise Violation(f"{self.name} has {len(self.requests)} requests for {self.slots} slots")
        self.beat()
        self.compute()

    def beat(self) -> None:
        if not self.beating:
            self.beating = True
            self.later(BEAT_S, self.beaten)

    def beaten(self) -> None:
        self.beating = False
        if self.requests:
            self.say(Heartbeat())
            self.beat()

    def compute(self) -> None:
        for number in list(self.requests):
            if number not in self.running and len(self.running) < self.slots:
                self.running.add(number)
                took = self.answers.expovariate(1 / self.answers.choice([0.005, 0.2, 2.0]))
                request = self.requests[number][0]
                self.later(took, lambda request=request: self.computed(request))

    def computed(self, request: Request) -> None:
        found = self.requests.get(request.number)
        if found is None or found[0] is not request:
            return
        del self.requests[request.number]
        self.running.discard(request.number)
        values = b""
        if self.now > found[1]:
            status = "deadline"
        elif self.sick or self.world.faults.happens("fail", 0.15):
            status = "error"
        else:
            status, values = self.answers.choice(GOOD), b"answer to " + request.body
        self.say(Reply(request.number, status, values=values))
        self.compute()


class Question(msgspec.Struct, eq=False):
    """What an asker wants to know."""

    body: bytes
    memory: int
    until: float
    cancel: bool
    told: str = ""


class Silence:
    """The session of a client that has no tasks."""

    def connected(self, now: float) -> list:
        return []

    disconnected = tick = connected

    def receive(self, message: FromManager, now: float) -> list:
        return []

    def next_deadline(self) -> None:
        return None


class Asker(Process):
    """A client that asks, and asks again on a new connection."""

    role = "client"

    def __init__(self, world: World, name: str, questions: int) -> None:
        super().__init__(world, name)
        self.session = Silence()
        self.left = questions
        self.number = 0
        self.open: dict[int, Question] = {}
        """By the number that the manager was told last."""
        self.met = False
        self.calm = False
        """Nothing goes wrong any more: every question is answered."""
        self.heard: dict[str, int] = {}

    @property
    def content(self) -> bool:
        return not self.left and not self.open

    def start(self) -> None:
        self.born()
        self.open.clear()
        self.met = False
        self.beat_at = self.heard_at = self.now
        self.dial()
        self.later(self.random.expovariate(1), self.ask)

    def crash(self) -> None:
        """Be killed: nobody waits for the answers any more."""
        if self.alive:
            self.world.tell(self.name, "is killed")
            self.dies()
            if self.line is not None:
                self.line.cut()
                self.line = None
            self.world.after(self.random.uniform(0.1, 20), self.start)

    def ask(self) -> None:
        """Ask a few questions, and more of them later."""
        rng = self.random
        for _ in range(min(self.left, rng.choice([1, 1, 3, 12]))):
            self.left -= 1
            body = b"question %d" % rng.randrange(40)
            budget = rng.choice([0.3, 2.0, 10.0, 30.0]) * rng.uniform(0.5, 1.5)
            memory = rng.choice([0, 0, GIB])
            cancel = self.world.faults.happens("cancel", 0.1)
            self.put(Question(body, memory, self.now + budget, cancel))
        if self.left:
            self.later(rng.expovariate(0.7), self.ask)
        self.arm()

    def last_questions(self) -> None:
        """Ask when everything is well."""
        self.calm = True
        for n in range(LAST):
            self.put(Question(b"last question %d" % n, 0, self.now + 60.0, False))
        self.arm()

    def put(self, question: Question) -> None:
        self.number += 1
        number = self.number
        self.open[number] = question
        if self.met:
            budget = max(0.0, question.until - self.now)
            others = not self.calm and self.random.random() < 0.3
            self.say(Request(number, "k", question.body, budget, memory=question.memory, others=others))
            if question.cancel:
                self.later(self.random.expovariate(2), lambda: self.cancel(number))

    def cancel(self, number: int) -> None:
        if self.open.pop(number, None) is not None:
            self.say(Withdraw((number,)))

    def redial(self) -> None:
        self.met = False
        self.heard_at = self.now
        super().redial()

    def hear(self, line: Line, messages: Sequence[FromManager]) -> None:
        for message in messages:
            if self.alive and self.line is line:
                self.heard_at = self.now
                if isinstance(message, Welcome) and not self.met:
                    self.met = True
                    again, self.open = self.open, {}
                    for question in again.values():
                        self.put(question)
                elif isinstance(message, Reply):
                    self.replied(message)
            super().hear(line, [message])

    def replied(self, reply: Reply) -> None:
        question = self.open.pop(reply.number, None)
        if question is None:
            return  # withdrawn on its way, or the copy of a message
        self.heard[reply.status] = self.heard.get(reply.status, 0) + 1
        self.world.tell(self.name, "hears %s of %s: %s", reply.status, question.body.decode(), reply.reason)
        if reply.status in GOOD and reply.values != b"answer to " + question.body:
            raise Violation(f"{question.body!r} was answered with {reply.values!r}")
        if reply.status == "bad_request" or (self.calm and reply.status not in GOOD):
            raise Violation(f"a failure that no worker has told of: {reply}")

    def deadline(self) -> float | None:
        return min((self.beat_at, *(question.until + PATIENCE_S for question in self.open.values())))

    def tick(self) -> None:
        if self.now >= self.beat_at:
            self.beat_at = self.now + HEARTBEAT_S
            self.say(Heartbeat())
            if self.line is not None and self.now > self.heard_at + SILENT_S:
                self.world.tell(self.name, "hears nothing")
                self.redial()
        for number, question in list(self.open.items()):
            if question.until + PATIENCE_S <= self.now:
                if self.calm:
                    raise Violation(f"no answer to {question} in a quiet world")
                self.heard["silence"] = self.heard.get("silence", 0) + 1
                self.cancel(number)

    def leave(self) -> None:
        if self.line is not None:
            self.line.close()
        self.dies()

    def obey(self, commands: list) -> None:
        pass


class RequestWorld(World):
    """A world in which requests are asked, too."""

    worker_type = AnsweringWorker
    manager_type = AnsweringManager

    def __init__(self, seed: int, *, without: Collection[str] = (), trace: bool = False) -> None:
        self.askers: list[Asker] = []
        super().__init__(seed, without=without, trace=trace)
        rng = self.stream("askers")
        for n in range(rng.choice([1, 2, 3])):
            self.askers.append(Asker(self, f"a{n}", rng.choice([10, 40, 80])))
        for asker in self.askers:
            self.after(rng.expovariate(1), asker.start)
        if "client-crash" in self.faults.kinds:
            self.strike_again(self.stream("asker-crash"), 1 / 25, lambda rng: rng.choice(self.askers).crash())
        if "cut" in self.faults.kinds:
            self.strike_again(self.stream("asker-cut"), 1 / 10, self.cut_off)

    def cut_off(self, rng: object) -> None:
        asker = self.askers[0]
        if asker.line is not None:
            asker.line.cut()

    def nodes(self) -> list:
        return [*super().nodes(), *self.askers]

    def run(self) -> None:
        """Live to the end; nobody holds anything of any request then."""
        super().run()
        if not self.live(self.now + 120.0, lambda: all(asker.content for asker in self.askers)):
            raise Violation(f"questions without an answer: {[asker.open for asker in self.askers]}")
        for asker in self.askers:
            asker.last_questions()
        if not self.live(self.now + 120.0, lambda: all(asker.content for asker in self.askers)):
            raise Violation(f"last questions without an answer: {[asker.open for asker in self.askers]}")
        for asker in self.askers:
            asker.leave()
        if not self.live(self.now + 60.0, lambda: not self.owed()):
            raise Violation(f"requests left at the end: {self.owed()}")

    def owed(self) -> dict[str, object]:
        volatile = self.manager.core._volatile
        book = volatile._book
        held = {
            "tickets": book.tickets,
            "same": book.same,
            "asked": book.asked,
            "each": book.each,
            "queued": book.queued,
            "bytes": book.bytes,
            "pending": {name: one.pending for name, one in volatile._servers.items() if one.pending},
            "at workers": {w.name: list(w.requests) for w in self.workers if w.requests},
        }
        return {name: what for name, what in held.items() if what}


__all__ = ["RequestWorld"]
