"""A client's side of the dialogue: what was submitted, what has ended, what to say again after a reconnect.

It knows nothing of sockets, files and blobs.
Its shell says `Hello` when a connection is there, hands every message of the control connection to `receive`,
wakes it at `next_deadline`, obeys `Say` and `Reconnect`, and passes on what it is told.
A task is *open* until its `Done` came, then *ended* until the shell has its outputs and calls `taken`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import assert_never

import msgspec

from computefarm.messages import (
    Absent,
    Accepted,
    Answer,
    Ask,
    Cancel,
    Chunk,
    Disconnect,
    Done,
    Drain,
    Fetch,
    FromManager,
    Goodbye,
    Got,
    Halt,
    Heartbeat,
    Joined,
    LogPage,
    Need,
    Offers,
    OutputPage,
    Placed,
    ReadOutput,
    Reply,
    Request,
    Run,
    Settled,
    Submit,
    Taken,
    TaskOutput,
    TaskSpec,
    Time,
    ToManager,
    Waiting,
    Want,
    Welcome,
    Withdraw,
)

from .beats import LEASE_BEATS, NEWS_BEATS

BATCH_TASKS = 1000
"""Tasks in one `Submit`, at most."""

BATCH_BYTES = 1024 * 1024
"""Bytes of encoded actions in one `Submit`, at most (unless one task alone has more)."""

BATCH_NUMBERS = 10_000
"""Task numbers in one `Taken`, at most."""


class Say(msgspec.Struct, frozen=True):
    """Send `message` to the manager."""

    message: ToManager


class Linked(msgspec.Struct, frozen=True):
    """Event: the manager has welcomed us (again)."""

    farm: str
    version: str
    epoch: str
    peer: str


class Silent(msgspec.Struct, frozen=True):
    """Event: nothing has been heard of the manager for so many seconds; told once until it is heard again."""

    seconds: float


class Rejected(msgspec.Struct, frozen=True):
    """Event: the manager does not go on with us; trying again would not help."""

    code: str
    text: str


ClientEvent = (
    Accepted | Done | Placed | TaskOutput | Waiting | Offers | Answer | Want | Linked | Silent | Rejected
)
"""`Want` asks for input blobs on the bulk connection."""


class Tell(msgspec.Struct, frozen=True):
    """Hand `event` to the user of the session."""

    event: ClientEvent


class Reconnect(msgspec.Struct, frozen=True):
    """Give up this connection, make a new one and say `Hello` on it."""

    reason: str


ClientCommand = Say | Tell | Reconnect


class ClientSession:
    """What one client has submitted and what has become of it."""

    def __init__(
        self, session: str, heartbeat_s: float = 2.0, *, now: float = 0.0, lease_s: float = 0.0
    ) -> None:
        """Start with nothing; `lease_s` is how long the manager keeps the session without us (0: its own)."""
        self.session = session
        self.lineage = ""
        """The journal's name, of the manager spoken to last; empty when it has none."""
        self._heartbeat_s = heartbeat_s
        self._lease_s = lease_s
        self._open: dict[int, tuple[Need, TaskSpec]] = {}
        self._accepted: set[int] = set()
        """Those of the open ones that the manager has written down."""
        self._ended: set[int] = set()
        self._taken: set[int] = set()
        self._cancelled: dict[int, str] = {}
        self._asked: dict[int, Ask | Cancel] = {}
        self._number = 0
        self._linked = False
        self._welcome = False
        self._said_at = now
        self._heard_at = now
        self._silence_told = False

    @property
    def unfinished(self) -> int:
        """Return how many tasks have been submitted and not ended."""
        return len(self._open)

    @property
    def unaccepted(self) -> int:
        """Return how many open tasks would be lost if this client and the manager both ended now."""
        return len(self._open) - len(self._accepted)

    # --- what the user of the session wants -----------------------------------------------------------

    def submit(self, tasks: Iterable[tuple[Need, TaskSpec]], now: float) -> list[ClientCommand]:
        """Take these tasks; they are sent again after every reconnect until they end.

        `TaskSpec.need` is filled in here.
        """
        fresh = [(need, spec) for need, spec in tasks if not self._knows(spec.task)]
        self._open.update((spec.task, (need, spec)) for need, spec in fresh)
        return self._submit(fresh, now) if self._welcome else []

    def cancel(self, tasks: Sequence[int], now: float, reason: str = "") -> list[ClientCommand]:
        """Ask for the end of these tasks (all when empty); each is still told as `Done`."""
        numbers = [number for number in (tasks or self._open) if number in self._open]
        self._cancelled.update((number, reason) for number in numbers)
        if not numbers or not self._welcome:
            return []
        return self._say(Cancel(self.session, tuple(numbers) if tasks else (), reason), now=now)

    def taken(self, tasks: Sequence[int], now: float) -> list[ClientCommand]:
        """These tasks' results and outputs are in our hands; the manager may forget them."""
        self._ended.difference_update(tasks)
        self._taken.update(tasks)
        return self._say(Taken(self.session, tuple(tasks)), now=now) if self._welcome and tasks else []

    def ask(
        self, about: str, now: float, task: str = "", session: str = ""
    ) -> tuple[int, list[ClientCommand]]:
        """Ask about `status`, `offers` or `explain`; the `Answer` told later has the number returned here."""
        self._number += 1
        question = Ask(self._number, about, session, task)
        self._asked[question.number] = question
        return question.number, self._say(question, now=now) if self._welcome else []

    def cancel_run(
        self, session: str, names: Sequence[str], now: float, reason: str = ""
    ) -> tuple[int, list[ClientCommand]]:
        """Cancel tasks of another session of the same owner by name, or all; an `Answer` says how many."""
        self._number += 1
        wish = Cancel(session, (), reason, tuple(names), self._number)
        self._asked[wish.number] = wish
        return wish.number, self._say(wish, now=now) if self._welcome else []

    def leave(self, now: float, reason: str = "") -> list[ClientCommand]:
        """Say goodbye: what has not ended is cancelled."""
        return self._say(Goodbye(reason), now=now) if self._welcome else []

    # --- what the shell reports -----------------------------------------------------------------------

    def connected(self, now: float) -> list[ClientCommand]:
        """A connection exists and the shell has said `Hello` on it."""
        self._linked = True
        return []

    def disconnected(self, now: float) -> list[ClientCommand]:
        """The connection is gone; everything unfinished is submitted again after the next Welcome."""
        self._linked = self._welcome = False
        return []

    def receive(self, message: FromManager, now: float) -> list[ClientCommand]:
        """Return what to do about one message of the manager."""
        self._heard_at = now
        self._silence_told = False
        match message:
            case Done():
                return self._done(message, now)
            case Accepted() | Placed() | TaskOutput() | Waiting():
                return self._news(message, now) if message.session == self.session else []
            case Want() | Offers():
                return [Tell(message)]
            case Answer():
                return [Tell(message)] if self._asked.pop(message.number, None) else []
            case Welcome():
                return self._welcomed(message, now)
            case Disconnect():
                self.disconnected(now)
                if message.code in ("protocol", "stopping"):
                    return [Reconnect(message.text)]
                return [Tell(Rejected(message.code, message.text))]
            case Heartbeat() | Joined() | Run() | Halt() | Settled() | Drain():
                return []
            case Request() | Reply() | Withdraw():
                return []  # a client of tasks has asked for none
            case Chunk() | Fetch() | Absent() | Got() | LogPage() | Time() | ReadOutput() | OutputPage():
                return []  # bulk traffic, logs and clocks are the shell's own business
            case _:
                assert_never(message)

    def tick(self, now: float) -> list[ClientCommand]:
        """Say and tell what time alone makes necessary."""
        commands: list[ClientCommand] = []
        silence = now - self._heard_at
        if silence >= NEWS_BEATS * self._heartbeat_s and not self._silence_told:
            self._silence_told = True
            commands.append(Tell(Silent(silence)))
        if self._welcome and silence >= LEASE_BEATS * self._heartbeat_s:
            self.disconnected(now)
            commands.append(Reconnect(f"the manager has been silent for {silence:.0f} s"))
        if self._welcome and now >= self._said_at + self._heartbeat_s:
            commands += self._say(Heartbeat(), now=now)
        return commands

    def next_deadline(self) -> float | None:
        """Return when to call `tick`; None when there is nothing to wait for."""
        deadlines = [] if self._silence_told else [self._heard_at + NEWS_BEATS * self._heartbeat_s]
        if self._welcome:
            deadlines.append(self._said_at + self._heartbeat_s)
            deadlines.append(self._heard_at + LEASE_BEATS * self._heartbeat_s)
        return min(deadlines, default=None)

    # --- inside ---------------------------------------------------------------------------------------

    def _knows(self, number: int) -> bool:
        return number in self._open or number in self._ended or number in self._taken

    def _say(self, *messages: ToManager, now: float) -> list[ClientCommand]:
        self._said_at = now
        return [Say(message) for message in messages]

    def _welcomed(self, welcome: Welcome, now: float) -> list[ClientCommand]:
        self._linked = self._welcome = True
        self._heartbeat_s = welcome.heartbeat_s
        self.lineage = welcome.lineage
        self._accepted.clear()  # all is submitted again; a session that had ended there was forgotten
        commands: list[ClientCommand] = [
            Tell(Linked(welcome.farm, welcome.version, welcome.epoch, welcome.peer))
        ]
        taken = sorted(self._taken)
        for start in range(0, len(taken), BATCH_NUMBERS):
            numbers = tuple(taken[start : start + BATCH_NUMBERS])
            commands += self._say(Taken(self.session, numbers), now=now)
        commands += self._submit(list(self._open.values()), now)
        by_reason: dict[str, list[int]] = {}
        for number, reason in self._cancelled.items():
            by_reason.setdefault(reason, []).append(number)
        for reason, cancelled in by_reason.items():
            commands += self._say(Cancel(self.session, tuple(cancelled), reason), now=now)
        commands += self._say(*self._asked.values(), now=now)
        return commands

    def _submit(self, tasks: Sequence[tuple[Need, TaskSpec]], now: float) -> list[ClientCommand]:
        return self._say(*_batches(self.session, tasks, self._lease_s), now=now)

    def _news(self, message: Accepted | Placed | TaskOutput | Waiting, now: float) -> list[ClientCommand]:
        commands: list[ClientCommand] = [Tell(message)]
        if isinstance(message, Accepted):
            self._accepted.update(number for number in message.tasks if number in self._open)
        elif isinstance(message, Waiting) and not message.obstacles and self.lineage:
            # Over; if it was the journal that could not be written, these tasks have not been taken yet.
            again = [number for number in message.tasks if number not in self._accepted]
            commands += self._submit([self._open[number] for number in again if number in self._open], now)
        return commands

    def _done(self, done: Done, now: float) -> list[ClientCommand]:
        if done.session != self.session:
            return []
        if self._open.pop(done.task, None) is None:
            # A copy. When we have taken it already, our `Taken` was lost.
            again = done.task in self._taken
            return self._say(Taken(self.session, (done.task,)), now=now) if again else []
        self._accepted.discard(done.task)
        self._cancelled.pop(done.task, None)
        self._ended.add(done.task)
        return [Tell(done)]


def _batches(session: str, tasks: Sequence[tuple[Need, TaskSpec]], lease_s: float) -> Iterator[Submit]:
    """Yield `Submit`s of bounded size, each with one entry per distinct need."""
    needs: dict[Need, int] = {}
    specs: list[TaskSpec] = []
    size = 0
    for need, spec in tasks:
        if specs and (len(specs) >= BATCH_TASKS or size + len(spec.action) > BATCH_BYTES):
            yield Submit(session, tuple(needs), tuple(specs), lease_s)
            needs, specs, size = {}, [], 0
        index = needs.setdefault(need, len(needs))
        specs.append(spec if spec.need == index else msgspec.structs.replace(spec, need=index))
        size += len(spec.action)
    if specs:
        yield Submit(session, tuple(needs), tuple(specs), lease_s)
