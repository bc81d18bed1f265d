"""The tables of the task manager: tasks, attempts, workers, hosts, sessions, peers.

A task is WAITING, RUNNING or ENDED and changes only through `Task.move`.
*Why* it waits is asked of `explain`; *how* it ended is its outcome's business.

            +--------------------------------+
            |     given back, lost, retried  |
            v                                |
         WAITING ----- placed -----> RUNNING-+---- finished, halted ----> ENDED
            |                                                               ^
            +-------- answered from the cache, cancelled, impossible -------+
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from computefarm.messages import Attempt as Past
from computefarm.messages import Digest, Done, LoadReport, Need, Offer, Result, TaskKey

from .commands import PeerId
from .ledger import Charge, Ledger


class TaskState(IntEnum):
    """Where a task is in its life."""

    WAITING = 0
    RUNNING = 1
    ENDED = 2


LEGAL: frozenset[tuple[TaskState, TaskState]] = frozenset(
    {
        (TaskState.WAITING, TaskState.RUNNING),
        (TaskState.WAITING, TaskState.ENDED),
        (TaskState.RUNNING, TaskState.WAITING),
        (TaskState.RUNNING, TaskState.ENDED),
    }
)


class Kind(msgspec.Struct, gc=False):
    """Tasks expected to take similar time."""

    name: str
    run_s: float | None = None
    """Moving average of the run time; None before the first success."""

    winner: str = ""
    """The worker that last succeeded with one."""
    won_at: float = 0.0
    second: str = ""
    """The last one before that was another worker."""
    second_at: float = 0.0

    def won_elsewhere(self, worker: str, since: float) -> bool:
        """Return whether another worker than `worker` has succeeded with one since then."""
        if self.winner != worker:
            return bool(self.winner) and self.won_at >= since
        return bool(self.second) and self.second_at >= since

    def learn(self, run_s: float, worker: str, now: float) -> None:
        """Take one more success into the average, and note whose it was."""
        self.run_s = run_s if self.run_s is None else 0.75 * self.run_s + 0.25 * run_s
        if worker != self.winner:
            self.second, self.second_at = self.winner, self.won_at
            self.winner = worker
        self.won_at = now


class Peer(msgspec.Struct, gc=False):
    """One connected process."""

    peer: PeerId
    role: str
    owner: str
    """Whose key it is; empty where there are no keys."""
    boot: str
    host: str
    hostname: str
    seen_at: float
    told_at: float
    worker: str = ""
    """The worker it registered as."""


class Host(msgspec.Struct, gc=False):
    """One machine."""

    host: str
    hostname: str
    report: LoadReport | None = None
    reported_at: float = 0.0
    reporter: PeerId = ""
    seen_at: float | None = None
    """When it last had a worker or a report."""
    ledger: Ledger = msgspec.field(default_factory=Ledger)

    def stale(self, now: float) -> bool:
        """Return whether reports used to come and have stopped."""
        return self.report is not None and now > self.reported_at + 3 * self.report.interval_s

    def projected(self, cpus: int) -> float:
        """Return the load per core expected now; `cpus` counts where no report tells the number of cores."""
        return self.ledger.projected(self.report.cpus if self.report else cpus)


class Attempt(msgspec.Struct, gc=False, eq=False):
    """A task's present run: between being sent and being settled."""

    key: TaskKey
    attempt: int
    worker: str
    need: Need
    sent_at: float
    backlog: bool = False
    """Sent ahead: it waits at the worker for a slot, and occupies none."""
    width: int = 0
    """Slots it occupies."""
    charge: Charge | None = None
    """What its host's ledger reserves for it while it occupies slots."""
    epoch: str = ""
    """Of the manager that sent it."""
    begun: bool = False
    adopted: bool = False
    """Found on a worker that came back, where it may have ended already: slots taken in our books only."""
    recalled: bool = False
    halted: bool = False
    result: Result | None = None
    """A success whose outputs are still on their way."""
    asked: PeerId = ""
    """Whom we asked for those outputs."""
    prompt: bool = False
    """There was a free slot for it when it was sent."""


class Strike(msgspec.Struct, gc=False):
    """One failed attempt, held against the worker it failed on."""

    at: float
    key: TaskKey
    kind: Kind
    own: bool
    """It looks like the worker's doing."""
    reason: str


class Withdrawn(msgspec.Struct, gc=False):
    """An offer that a worker cannot keep, until it registers anew."""

    offer: Offer
    task: TaskKey
    """Which task found that out."""
    reason: str


class Worker(msgspec.Struct, eq=False):
    """One worker, by name; it outlives its connection by a short grace."""

    name: str
    peer: PeerId
    """Empty while it is silent."""
    owner: str
    boot: str
    host: Host
    hostname: str = ""
    platform: str = ""
    slots: int = 1
    offers: dict[str, Offer] = msgspec.field(default_factory=dict)
    cpus: int = 1
    memory: int = 0
    gpus: int = 0
    tier: int = 0
    weight: float = 1.0
    max_load: float | None = None
    draining: bool = False
    held: str = ""
    """Why the worker itself takes no new work for now; empty when it does."""
    running: dict[TaskKey, Attempt] = msgspec.field(default_factory=dict)
    """Attempts that occupy slots."""
    backlog: dict[TaskKey, Attempt] = msgspec.field(default_factory=dict)
    """Attempts sent ahead, first come first."""
    ended: dict[TaskKey, Attempt] = msgspec.field(default_factory=dict)
    """Successes whose outputs are awaited; they occupy nothing."""
    used: int = 0
    """Slots taken by `running`."""
    gpus_used: int = 0
    silent_until: float = 0.0
    """When a worker without a connection is given up."""
    restored: bool = False
    """Known from the journal only: whose it is will be seen when it registers."""
    done: int = 0
    failed: int = 0
    strikes: list[Strike] = msgspec.field(default_factory=list)
    """The last failures, since the last success."""
    quarantined_until: float = 0.0
    quarantine: str = ""
    """Why it is, or was, in quarantine."""
    relapses: int = 0
    """Quarantines since the last success."""
    withdrawn: dict[str, Withdrawn] = msgspec.field(default_factory=dict)
    """By capability."""
    reserved: Need | None = None
    """It is kept free for tasks with this need, too wide for what is free anywhere."""
    reserved_for: str = ""
    """The task it is reserved for, for people."""
    line_s: float = 0.0
    """The least that a task takes longer than it runs: both ways of the line, mostly."""
    line_proofs: int = 0
    """Attempts that this is known from."""

    @property
    def free(self) -> int:
        """Return how many slots nobody occupies."""
        return self.slots - self.used

    @property
    def able(self) -> bool:
        """Return whether it takes work at all."""
        return bool(self.peer) and not (self.draining or self.held)

    def move_to(self, host: Host) -> None:
        """Belong to `host` from now on, with everything charged so far."""
        if host is self.host:
            return
        for attempt in self.running.values():
            if attempt.charge is not None:
                self.host.ledger.release(attempt.charge)
                attempt.charge = host.ledger.charge(attempt.charge.load, attempt.charge.memory)
        self.host = host

    def attempts(self) -> list[Attempt]:
        """Return everything it has in hand."""
        return [*self.running.values(), *self.backlog.values(), *self.ended.values()]


class Session(msgspec.Struct, eq=False):
    """All tasks of one client's run."""

    name: str
    owner: str
    peer: PeerId
    """Empty while its client is away."""
    tasks: dict[int, TaskKey] = msgspec.field(default_factory=dict)
    """By the client's own numbers; until taken."""
    unended: int = 0
    running: int = 0
    expires_at: float = 0.0
    """When a session without a client is cancelled."""
    lease_s: float = 0.0
    """How long it may be without; 0 means the manager's own lease."""
    put_off: dict[Need, dict[int, str]] | None = None
    """Names of tasks, by the client's numbers, that were not accepted because the journal was failing."""
    closed: bool = False
    """No client will ever ask for these tasks again."""
    remembered: dict[int, tuple[str, tuple[Past, ...]]] = msgspec.field(default_factory=dict)
    """Name and attempts of the last tasks taken, by number, for `why`."""
    left: dict[tuple[str, Digest], TaskKey] | None = None
    """While its client is away: its tasks by name and action, once somebody has looked for one."""
    logs: int = 0
    """Characters of logs kept with results that were not taken yet."""


class Notice(msgspec.Struct, gc=False):
    """What the client of a group has been told about its waiting."""

    kinds: frozenset[tuple[str, str]]
    """Worker and kind of refusal; told again when this changes."""
    newest: TaskKey
    """Tasks up to this key have been named."""


class Group(msgspec.Struct, eq=False):
    """Waiting tasks of one need and one session: a heap with lazy deletion."""

    queue: Queue
    session: Session
    heap: list[tuple[float, TaskKey, Task]] = msgspec.field(default_factory=list)
    waiting: int = 0
    since: float = 0.0
    """When it last got better: a task was placed, or the first one came."""
    newest: TaskKey = 0
    """The highest key that ever waited here."""
    notice: Notice | None = None


class Queue(msgspec.Struct, eq=False):
    """Everything with one need: its waiting tasks by session, and the workers that could ever run them."""

    number: int
    need: Need
    groups: dict[str, Group] = msgspec.field(default_factory=dict)
    """By session; only those with waiting tasks."""
    offering: dict[str, Worker] = msgspec.field(default_factory=dict)
    """Live workers that offer what is needed, by name."""
    able: dict[str, Worker] = msgspec.field(default_factory=dict)
    """Those of them that are big enough."""
    ever: bool = False
    """Some worker offered it since the manager started."""
    tasks: int = 0
    """Unended tasks with this need."""


class Avoidance(msgspec.Struct, gc=False):
    """A worker that declined a task, and until when it is left alone with it."""

    until: float
    times: int
    reason: str


class Task(msgspec.Struct, gc=False, eq=False):
    """One submitted task; small, because tens of thousands of them wait at a time."""

    key: TaskKey
    number: int
    """The client's own."""
    name: str
    session: Session
    queue: Queue
    """The one of its need."""
    kind: Kind
    action: bytes
    """Encoded; empty once the task has ended."""
    digest: Digest
    """Of the action."""
    priority: float
    retries: int
    merges: bool
    """It may share a run with identical actions, and its result may answer others."""
    read_cache: bool
    write_cache: bool
    queued_at: float
    state: TaskState = TaskState.WAITING
    attempt: int = 0
    """Of the last run."""
    queued: bool = False
    """In the queue of its need and session."""
    looking: bool = False
    """The result cache is being searched."""
    lacking: int = 0
    """Inputs that are not in the store yet."""
    live: Attempt | None = None
    worker: str = ""
    """The last one it was sent to."""
    epoch: str = ""
    """Of the manager that sent the last attempt."""
    past: tuple[Past, ...] = ()
    killers: tuple[str, ...] = ()
    """Different worker processes that vanished while running it."""
    avoid: dict[str, Avoidance] | None = None
    """Workers that declined it."""
    leader: TaskKey = 0
    """The task whose run this one shares; 0 when it runs by itself."""
    followers: list[TaskKey] | None = None
    cancelled: str | None = None
    """Why the client wants it no more, while its attempt is being halted."""
    done: Done | None = None
    """What was said at the end, until taken."""
    known_since: int = 0
    """Of a task from the journal: place in `Tables.epochs` of the manager that took it; 0 for others."""

    def move(self, state: TaskState) -> None:
        """Change the state; the only place where that happens."""
        assert (self.state, state) in LEGAL, f"task {self.key}: {self.state.name} to {state.name}"
        self.state = state
