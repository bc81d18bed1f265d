"""The farm's vocabulary: every value that crosses between processes, and nothing else.

Frozen structs, encoded as msgpack arrays.
Fields are only ever added at the end and with a default, so that neighbours of another version still
understand each other.
One closed union per direction: `ToManager` and `FromManager`.
Times in messages are seconds; a name that ends in `_at` is wall-clock time (display only),
one that ends in `_s` is a duration from one host's monotonic clock.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

PROTOCOL = 1
"""Version of the dialogue; a manager refuses another one, by name."""

Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
"""The 32 bytes of a sha256; anything else is no message."""

Count = Annotated[int, Meta(ge=0, le=1 << 53)]
"""A number of bytes."""

Short = Annotated[str, Meta(max_length=255)]
"""A name: what many others are told must not be long."""

MANY = Meta(max_length=100_000)
"""Of lists whose entries are small: a short frame must not become a lot of memory or work."""

TaskKey = int
"""A manager's own number for a task, unique within one epoch of that manager."""


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of everything on the wire."""


# --- what is to be done ------------------------------------------------------------------------------


class FileEntry(Message, frozen=True):
    """One file of a task, by content."""

    path: str
    """Relative to the project (inputs) or to the task's directory (outputs); always with `/`, never `..`.
    An output that ends with `/` is an empty folder."""
    digest: Digest
    size: Count
    executable: bool = False


class Action(Message, frozen=True):
    """Everything that decides a task's result; its encoding's sha256 is the *action digest*.

    Two equal actions are run once and share one result, so nothing that varies between users
    (task names, priorities, paths outside the project) may enter here.
    """

    capability: str
    commands: tuple[str | tuple[str, ...], ...]
    """Run in order in one directory; a string by `/bin/sh -e -c`, a tuple as an argument vector."""
    inputs: tuple[FileEntry, ...] = ()
    """Sorted by path."""
    outputs: tuple[str, ...] = ()
    """Declared targets and outputs: files, folders or glob patterns; each must exist when the task ends."""
    env: tuple[tuple[str, str], ...] = ()
    """Sorted; added to the minimal environment that every task has."""
    timeout_s: float | None = None
    platform: str = ""
    fingerprint: str = ""
    """The toolchain chosen for the run; empty when any will do."""
    host_files: tuple[str, ...] = ()
    """Absolute paths expected to exist on the worker."""
    sandbox: bool = False
    salt: str = ""
    """Anything else that must tell two actions apart, such as parameters of a named action."""
    named: str = ""
    """The capability's action that the commands came from; empty for commands of the task's own."""
    values: bytes = b""
    """What was put into it, as a JSON mapping: enough for a worker to make the commands itself."""


class Need(Message, frozen=True):
    """What a worker must have for a task; tasks with equal needs share one queue."""

    capability: Short
    version: Short = ""
    """A constraint such as `>=9` or `==12.2.0`; comma means and; empty means any."""
    tags: tuple[tuple[str, str], ...] = ()
    cpus: int = 1
    """Slots taken while running."""
    memory: int = 0
    """Bytes that must be available."""
    gpus: int = 0
    exclusive: bool = False
    """Alone on the worker."""
    load: float = 1.0
    """Load it is expected to add to the host, in cores."""
    fingerprint: Short = ""
    """Only workers with this toolchain; empty means any."""
    action: Short = ""
    """The label of the named action it is; empty for commands of the task's own."""
    logs: Short = ""
    """The line parser of what it prints; empty means its capability's."""
    expected: bool = False
    """`memory` is what the capability's file expects of its tasks: nobody is held to it."""

    @property
    def declared(self) -> int:
        """Return the bytes that a task was said to need, beyond which it is ended."""
        return 0 if self.expected else self.memory


class TaskSpec(Message, frozen=True):
    """One task as submitted."""

    task: int
    """The client's own number, unique within its session."""
    name: str
    need: int
    """Index into `Submit.needs`."""
    action: bytes
    """An encoded `Action`."""
    priority: float = 0.0
    """Higher first, within one session (the length in seconds of the longest path behind the task)."""
    retries: int = 0
    """More attempts after a failure of the command itself."""
    read_cache: bool = True
    """May be answered from the result cache (false for `-a`)."""
    write_cache: bool = True
    """The result may answer others later (false for `needs(cache=False)`)."""
    kind: str = ""
    """Tasks of one kind are expected to take similar time (the task's basename)."""
    deadline_s: float = 0.0
    """Seconds after its submission at which the task fails, waiting or running; 0 means never."""


class Outcome(StrEnum):
    """How a task ended, in the words of `history`."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    LOST = "lost"
    BLOCKED = "blocked"
    UP_TO_DATE = "up-to-date"


class Piece(Message, frozen=True):
    """Output of one stream of a task: whole lines, unless a line alone exceeds the limit."""

    stream: int
    """1 stdout, 2 stderr."""
    created_at: float
    text: str
    seq: int = 0
    """Counts the pieces of one attempt from 0."""
    line: int = 0
    """How many lines the attempt had printed before."""


class Result(Message, frozen=True):
    """How one attempt ended and what it made."""

    outcome: Outcome
    exit_code: int | None = None
    """Of the command that ended the task; None when it did not exit by itself."""
    signal: int | None = None
    reason: str = ""
    """For people; empty on success."""
    outputs: Annotated[tuple[FileEntry, ...], MANY] = ()
    run_s: float = 0.0
    cpu_s: float = 0.0
    peak_memory: int = 0
    """Bytes, of the largest process; 0 when unknown."""
    bytes_in: int = 0
    """Fetched for this attempt."""
    bytes_out: int = 0
    log: Annotated[tuple[Piece, ...], MANY] = ()
    """The task's output, at most 64 KiB: first and last half when there was more."""
    missing: Annotated[tuple[str, ...], MANY] = ()
    """Declared outputs that were not produced."""
    kind: str = ""
    """What kind of failure it is; empty on success or when nobody can tell:
    `exit` (the command said so) · `signal` · `out-of-memory` · `timeout` · `worker-lost` ·
    `missing-tool` (a program of the capability is gone from the worker) · `disk-full` (on the worker) ·
    `deadline` · `output` (a declared output is missing, or not what it must be) · `cancelled` ·
    `refused` (a worker that does named actions only was sent something else)."""


# --- who is talking ----------------------------------------------------------------------------------


class Hello(Message, frozen=True, tag="hello"):
    """First message on every connection."""

    protocol: int
    version: Short
    role: Short
    """`client`, `worker`, `monitor` or `viewer`."""
    boot: Short
    """Random, one per process: joins a process's two connections, and tells a restart from a reconnect."""
    channel: Short = "control"
    """`control` or `bulk`."""
    host: Short = ""
    """Host id: machine id + CF_HOME."""
    hostname: Short = ""


class Welcome(Message, frozen=True, tag="welcome"):
    """The manager's answer to an accepted Hello."""

    protocol: int
    version: str
    farm: str
    epoch: str
    """Changes whenever the manager starts with an empty table."""
    heartbeat_s: float
    """Say something at least this often; silence for three times as long is taken for death."""
    peer: str = ""
    """The name the manager uses for this process."""
    lineage: str = ""
    """The same for all epochs that go on with one journal; empty where there is none: then a new epoch knows
    nothing of an earlier one's tasks."""


class Disconnect(Message, frozen=True, tag="disconnect"):
    """The manager does not go on with this peer."""

    code: str
    """`version`, `role`, `key`, `name`, `protocol` (say Hello again) or `stopping`."""
    text: str


class DeviceLoad(Message, frozen=True):
    """What a worker computes on one device at this moment."""

    device: Short
    """As its answers name it."""
    running: int
    oldest_s: float
    """Age of the oldest request that runs there."""


class Heartbeat(Message, frozen=True, tag="heartbeat"):
    """I am alive; any other message says so too."""

    devices: Annotated[tuple[DeviceLoad, ...], Meta(max_length=1000)] = ()
    """From workers with requests in hand: where they run."""


class Goodbye(Message, frozen=True, tag="goodbye"):
    """I am leaving for good; what I ran is to be given to others at once."""

    reason: str = ""


class Join(Message, frozen=True, tag="join"):
    """The one message an invitation's temporary key may send: enrol my own key."""

    public_key: Short
    """Z85, 40 characters."""
    name: Short
    """For people, in the authorized file: usually the host's name."""


class Joined(Message, frozen=True, tag="joined"):
    """The key is enrolled and the invitation burnt."""

    farm: str
    role: str


# --- client → manager ---------------------------------------------------------------------------------


class Submit(Message, frozen=True, tag="submit"):
    """Tasks to run. Sending one twice is harmless: `(session, task)` names it."""

    session: Short
    needs: Annotated[tuple[Need, ...], Meta(max_length=10_000)]
    tasks: Annotated[tuple[TaskSpec, ...], Meta(max_length=10_000)]
    lease_s: float = 0.0
    """How long the session may be without its client before it is cancelled; 0 means the manager's own lease.
    What is submitted to be left alone needs a long one."""


class Cancel(Message, frozen=True, tag="cancel"):
    """Forget these tasks; all of the session when empty."""

    session: Short
    tasks: Annotated[tuple[int, ...], MANY] = ()
    reason: str = ""
    names: Annotated[tuple[str, ...], MANY] = ()
    """Tasks by name, besides those by number; all of the session only when both are empty."""
    number: int = 0
    """When not 0, an `Answer` with this number says how many tasks it was. A session that is not the sender's
    own, but of the same owner, can be cancelled so too; an `admin` may cancel anybody's."""


class Taken(Message, frozen=True, tag="taken"):
    """The client has these results in its hands; the manager may forget the tasks."""

    session: Short
    tasks: Annotated[tuple[int, ...], MANY]


class Ask(Message, frozen=True, tag="ask"):
    """A question; `Answer` carries the same number."""

    number: int
    about: str
    """`status`, `offers`, `explain` or `sessions`."""
    session: str = ""
    task: str = ""


# --- worker → manager ---------------------------------------------------------------------------------


class Offer(Message, frozen=True):
    """One capability a worker has proved to have."""

    capability: Short
    version: Short = ""
    fingerprint: Short = ""
    tags: tuple[tuple[str, str], ...] = ()
    memory: int = 0
    """Bytes a task is expected to need when it does not say."""
    actions: Annotated[tuple[Short, ...], Meta(max_length=1000)] = ()
    """Labels of the named actions that are all it does; empty means that it runs any command."""
    cpus: int = 1
    """Slots a task takes when it does not say."""
    gpus: int = 0
    logs: Short = ""
    """The line parser of what its tasks print."""


class Running(Message, frozen=True):
    """An attempt that a registering worker still has in hand."""

    key: TaskKey
    attempt: int
    epoch: str = ""


class Register(Message, frozen=True, tag="register"):
    """What a worker offers. Sent after every Welcome, and again when the offer changes."""

    worker: Short
    host: Short
    hostname: Short
    platform: Short
    slots: int
    offers: Annotated[tuple[Offer, ...], Meta(max_length=1000)]
    cpus: int = 1
    memory: int = 0
    gpus: int = 0
    running: Annotated[tuple[Running, ...], MANY] = ()
    tier: int = 0
    """Workers of a higher tier get tasks only when all lower tiers are full or gone."""
    weight: float = 1.0
    """Speed relative to the others."""
    max_load: float | None = None
    """Strict limit of the host's load per core; None orders by load but never refuses."""
    draining: bool = False
    held: str = ""
    """Why the worker itself takes no new work for now, such as a full disk; empty when it does."""


class Begun(Message, frozen=True, tag="begun"):
    """The attempt's first command has been started."""

    key: TaskKey
    attempt: int
    epoch: str = ""
    """Of the manager that sent the attempt; empty when it is the one spoken to."""


class Output(Message, frozen=True, tag="output"):
    """Lines of a running attempt."""

    key: TaskKey
    attempt: int
    pieces: Annotated[tuple[Piece, ...], MANY]


class Finished(Message, frozen=True, tag="finished"):
    """An attempt ended. Re-sent until `Settled` arrives."""

    key: TaskKey
    attempt: int
    result: Result
    epoch: str = ""


class Declined(Message, frozen=True, tag="declined"):
    """The attempt was not started, or given back, through no fault of the task; it costs no attempt."""

    key: TaskKey
    attempt: int
    reason: str
    absent: tuple[Digest, ...] = ()
    """Inputs that the manager said it had but could not deliver."""
    epoch: str = ""
    """Of the manager that sent the attempt; empty when it is the one spoken to."""
    kind: str = ""
    """Why, where others should know: `missing-tool` or `disk-full` as in `Result.kind`, or `preparation` (the
    worker itself could not make the attempt ready)."""


class Leaving(Message, frozen=True, tag="leaving"):
    """No new work, please: the worker ends when what it runs has ended."""


# --- monitor → manager --------------------------------------------------------------------------------


class LoadReport(Message, frozen=True, tag="load"):
    """How busy a host is, without ComputeFarm's own processes."""

    host: Short
    hostname: Short
    load: float
    """Runnable work per core: 1.0 means all cores busy."""
    cpus: int
    memory_total: int
    memory_available: int
    gpus: int = 0
    disk_free: int = 0
    users: int = 0
    on_battery: bool = False
    max_load: float | None = None
    """The owner's strict limit for the whole host, per core."""
    policy: str = ""
    """What the owner's policy says now, for people; empty means no restriction."""
    interval_s: float = 3.0
    """The host is stale after three of these in silence."""
    task_load: float = 0.0
    """Our own processes' share, per core, in the same sample."""
    clock_offset_s: float | None = None
    """How much the host's wall clock is ahead of the manager's; None when that was not measured."""


# --- manager → client ---------------------------------------------------------------------------------


class Want(Message, frozen=True, tag="want"):
    """Send these blobs on the bulk connection (to a client: inputs; to a worker: outputs)."""

    digests: tuple[Digest, ...]


class Pool(Message, frozen=True):
    """Workers that offer the same thing, counted together."""

    offer: Offer
    platform: str
    slots: int
    workers: tuple[str, ...]


class Offers(Message, frozen=True, tag="offers"):
    """What the farm offers now; sent to a client after Welcome and whenever it changes."""

    pools: tuple[Pool, ...]
    settled: bool = True
    """False for one lease after the manager's start, while workers may still be coming back."""
    gone: tuple[Pool, ...] = ()
    """What was offered since the manager's start and is not now, without slots and workers."""


class Placed(Message, frozen=True, tag="placed"):
    """A task was given to a worker."""

    session: str
    task: int
    attempt: int
    worker: str
    hostname: str


class TaskOutput(Message, frozen=True, tag="task-output"):
    """Lines of one of the session's tasks."""

    session: str
    task: int
    attempt: int
    pieces: tuple[Piece, ...]


class Attempt(Message, frozen=True):
    """One attempt, for `why` and `history`."""

    attempt: int
    worker: str
    hostname: str
    outcome: str
    reason: str = ""
    started_at: float = 0.0
    run_s: float = 0.0
    kind: str = ""
    """As in `Result.kind`."""
    tail: str = ""
    """The last lines that a failed attempt printed, 2 kB at most."""


class Accepted(Message, frozen=True, tag="accepted"):
    """These tasks are written down: they survive the manager. Never said where there is no journal."""

    session: str
    tasks: tuple[int, ...]


class Done(Message, frozen=True, tag="done"):
    """A task ended. Re-sent after a reconnect until `Taken`."""

    session: str
    task: int
    result: Result
    cached: bool = False
    worker: str = ""
    hostname: str = ""
    queued_s: float = 0.0
    attempts: tuple[Attempt, ...] = ()


class Obstacle(Message, frozen=True):
    """Why one worker or host does not take a task now."""

    place: str
    """`worker` or `host`."""
    name: str
    reason: str


class Waiting(Message, frozen=True, tag="waiting"):
    """Nothing can run these tasks at present; sent when the reason changes, and empty when it is over."""

    session: str
    tasks: tuple[int, ...]
    need: Need
    obstacles: tuple[Obstacle, ...]
    offered: bool
    """Some live worker meets capability, version, tags, toolchain and size: it is only busy or held back."""
    ever: bool
    """Some worker did so since the manager started."""


class HostStatus(Message, frozen=True):
    """One host in `status`."""

    host: str
    hostname: str
    online: bool
    load: float | None
    cpus: int
    memory_total: int
    memory_available: int
    gpus: int
    last_report_s: float | None
    """Age of the last report; None when none came."""
    policy: str
    clock_offset_s: float | None = None
    """How much the host's wall clock is ahead of the manager's; None when that was not measured."""


class WorkerStatus(Message, frozen=True):
    """One worker in `status`."""

    worker: str
    host: str
    hostname: str
    offers: tuple[Offer, ...]
    slots: int
    running: int
    state: str
    """`idle`, `busy`, `held` (over the owner's limit), `draining`, `quarantined`, `reserved` or `silent`."""
    tier: int
    weight: float
    done: int
    failed: int
    reason: str = ""
    """Why it is in this state, where that is not plain."""


class Status(Message, frozen=True):
    """The whole farm at one moment."""

    farm: str
    version: str
    uptime_s: float
    hosts: tuple[HostStatus, ...]
    workers: tuple[WorkerStatus, ...]
    waiting: int
    running: int
    journal: str = ""
    """What is wrong with the manager's journal; empty when nothing is, or there is none."""
    servers: tuple[ServerStatus, ...] = ()
    """Workers that have answered requests, or could."""
    requests: int = 0
    """Requests that wait for a free worker."""


class SessionStatus(Message, frozen=True):
    """One client's run, as the manager knows it."""

    session: str
    owner: str
    """Whose key it is; empty where there are no keys."""
    hostname: str
    """Where its client is; empty while it is away."""
    waiting: int
    running: int
    ended: int
    """Ended and not taken by the client yet."""
    expires_s: float | None = None
    """Seconds until a session without its client is cancelled; None while the client is there."""


class Explanation(Message, frozen=True):
    """What the manager knows of one task."""

    task: str
    state: str
    """`unknown`, `waiting`, `running` or `ended`."""
    obstacles: tuple[Obstacle, ...] = ()
    attempts: tuple[Attempt, ...] = ()


class Answer(Message, frozen=True, tag="answer"):
    """The answer to the `Ask` or `Cancel` with the same number; one of the others is set."""

    number: int
    status: Status | None = None
    pools: tuple[Pool, ...] | None = None
    explanation: Explanation | None = None
    sessions: tuple[SessionStatus, ...] | None = None
    cancelled: int | None = None
    """How many tasks a `Cancel` found that had not ended; 0 as well when the session is unknown."""


# --- manager → worker ---------------------------------------------------------------------------------


class Run(Message, frozen=True, tag="run"):
    """Start this attempt as soon as a slot is free."""

    key: TaskKey
    attempt: int
    name: str
    action: bytes
    cpus: int = 1
    memory: int = 0
    session: str = ""
    epoch: str = ""


class Halt(Message, frozen=True, tag="halt"):
    """End this attempt, or do not start it; the worker still answers with `Finished` or `Declined`."""

    key: TaskKey
    attempt: int
    reason: str = ""
    unless_begun: bool = False
    """Only give it back if it has not been started; a running attempt goes on."""
    epoch: str = ""
    """Of the manager that sent the attempt; empty when it is the one that speaks."""


class Settled(Message, frozen=True, tag="settled"):
    """The manager has taken these results (or will never want them); stop re-sending."""

    attempts: tuple[tuple[TaskKey, int], ...]
    epoch: str = ""
    """Of the manager that sent these attempts; empty when it is the one that speaks."""


class Drain(Message, frozen=True, tag="drain"):
    """Take no new work and leave when idle."""


# --- bulk, both directions ----------------------------------------------------------------------------


class Slice(Message, frozen=True):
    """Where a run of bytes belongs."""

    digest: Digest
    size: Count
    """Of the whole blob."""
    offset: Count
    length: Count


class Chunk(Message, frozen=True, tag="chunk"):
    """Blob data: the bytes of all slices, one after the other, follow in the next frame (≤ 1 MiB)."""

    slices: Annotated[tuple[Slice, ...], Meta(max_length=1000)]


class Fetch(Message, frozen=True, tag="fetch"):
    """Send me these blobs; unknown ones are named in `Absent`."""

    slices: Annotated[tuple[Slice, ...], Meta(max_length=1000)]
    """`length` is how much is wanted from `offset`; the receiver asks again for the rest."""


class Absent(Message, frozen=True, tag="absent"):
    """These blobs cannot be had here."""

    digests: tuple[Digest, ...]


class Got(Message, frozen=True, tag="got"):
    """Flow control: so many bytes of chunks have been taken since the last Got."""

    received: int


# --- logs and clocks ----------------------------------------------------------------------------------


class LogRecord(Message, frozen=True):
    """One line of a daemon's own log."""

    created_at: float
    level: Short
    """`debug`, `info`, `warning`, `error` or `critical`."""
    text: Annotated[str, Meta(max_length=65_536)]


class Reported(Message, frozen=True, tag="reported"):
    """What a worker or monitor has logged."""

    program: Short
    """`worker` or `monitor`."""
    records: Annotated[tuple[LogRecord, ...], Meta(max_length=1000)]


class ReadLog(Message, frozen=True, tag="read-log"):
    """Lines of the farm's log, please; answered by one `LogPage`. A client is shown its own runs' only."""

    number: int
    run: Short = ""
    """A name, a beginning of one, or `last`; empty means all that the asker may see."""
    task: str = ""
    host: Short = ""
    level: Short = ""
    """This level and worse; empty means all."""
    cursor: Short = ""
    """Of the last page; empty begins with the oldest line, `end` with the next one."""
    wait: bool = False
    """Answer only when there is something to tell, or the run has ended."""


class LogPage(Message, frozen=True, tag="log-page"):
    """Some lines of the log, and where to go on."""

    number: int
    lines: tuple[bytes, ...]
    """JSON objects, one per line."""
    cursor: str
    at_end: bool
    """There are no more lines yet."""
    going: bool
    """The run asked for is still going on, or no run was asked for."""
    lost: Count = 0
    """Bytes of the log that were removed, for its size, before they could be read."""
    fault: str = ""
    """Why there is nothing to read, for people."""
    run: str = ""
    """The run that was meant by `last` or by a beginning of its name."""


class ReadOutput(Message, frozen=True, tag="read-output"):
    """All that an attempt has printed, please, as its worker keeps it; answered by one `OutputPage`.

    From a viewer or client to the manager, which asks the workers of that host. A client is shown its own
    runs' only.
    """

    number: int
    run: Short
    task: str
    attempt: int
    host: Short
    """The name of the machine that it ran on."""
    cursor: Short = ""
    """Of the last page; empty begins."""


class OutputPage(Message, frozen=True, tag="output-page"):
    """Some of what an attempt has printed, and where to go on."""

    number: int
    data: Annotated[bytes, Meta(max_length=1 << 20)] = b""
    cursor: Short = ""
    """Empty when this is the end."""
    left_out: Count = 0
    """Bytes before `data` that were too much to be kept."""
    fault: Annotated[str, Meta(max_length=4096)] = ""
    """Why there is nothing to read, for people."""


class AskTime(Message, frozen=True, tag="ask-time"):
    """What time is it at the manager?"""

    asked_s: float
    """On the asker's own clock, given back unchanged."""


class Time(Message, frozen=True, tag="time"):
    """The manager's wall clock, as it took the question."""

    asked_s: float
    at: float


# --- volatile requests: answered by warm processes, never written down --------------------------------


class Request(Message, frozen=True, tag="request"):
    """A pure function's arguments; answered by one `Reply`. From clients to the manager, and on to a worker.

    Sending one twice is harmless: its number names it. The client keeps it, and asks somebody else when the
    manager is gone.
    """

    number: int
    """The sender's own."""
    kernel: Short
    body: Annotated[bytes, Meta(max_length=1 << 20)]
    """What determines the answer, as a msgpack map with sorted keys: equal requests have equal bodies."""
    budget_s: float
    """How long the answer is of use, from now on."""
    device: Short = "any"
    """`any`, `cpu` or `gpu`."""
    version: int = 1
    """Of the kernel's requests; a worker must know it."""
    memory: Count = 0
    """Bytes it will need."""
    sizes: Annotated[tuple[tuple[Short, int], ...], Meta(max_length=16)] = ()
    """Numbers that a worker's limits are compared with: `k` 32 needs a worker whose tag `k` is a range
    around it, as `18-40`."""
    attempt: int = 1
    """Counts the workers that were asked; set by the manager."""
    path: Annotated[tuple[Short, ...], Meta(max_length=16)] = ()
    """The managers that have passed it on, each by the fingerprint of its key, the first one first."""
    vram: Count = 0
    """Bytes of a GPU's memory it will need when it runs there."""
    cpu_s: float = 0.0
    """Expected seconds on one core."""
    gpu_s: float = 0.0
    """Expected seconds on a GPU; 0 when it cannot run there."""
    others: bool = False
    """The sender has others to ask: it is told `busy` rather than left to wait where nobody can answer now."""


class Reply(Message, frozen=True, tag="reply"):
    """The answer to the `Request` with the same number, or why there is none."""

    number: int
    status: Short
    """`ok`, `no_proof`, `bad_request`, `too_large`, `deadline`, `busy` or `error`."""
    reason: Annotated[str, Meta(max_length=4096)] = ""
    """For people; empty when it is answered."""
    values: Annotated[bytes, Meta(max_length=1 << 20)] = b""
    """The kernel's answer, as a msgpack map."""
    device: Short = ""
    cpu_ms: float = 0.0
    wall_ms: float = 0.0
    queue_ms: float = 0.0
    """Waiting at the manager and at the worker."""
    worker: Short = ""
    hostname: Short = ""
    attempts: int = 1
    merged: bool = False
    """Equal to somebody else's request, and computed once for both."""
    about: Short = ""
    """What was asked, for people."""


class Withdraw(Message, frozen=True, tag="withdraw"):
    """Nobody waits for these requests any more."""

    numbers: Annotated[tuple[int, ...], MANY]


class DeviceStatus(Message, frozen=True):
    """One device of a worker that answers requests, in `status`."""

    device: str
    """`cpu`, or a GPU with index, name and UUID."""
    running: int
    served: int
    failed: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    oldest_s: float
    """Age of the oldest request that runs there; 0 when there is none."""


class ServerStatus(Message, frozen=True):
    """A worker that answers requests, in `status`."""

    worker: str
    hostname: str
    device: str
    """Of its last answer; empty before the first."""
    pending: int
    served: int
    failed: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    oldest_s: float
    """Age of the oldest request that it has in hand; 0 when it has none."""
    state: str
    """`up`, `silent` (its requests were given to others), `held`, or of an upstream `down`."""
    upstream: bool = False
    """It is another manager, to which requests are passed on."""
    reason: str = ""
    """Why it is not asked now; empty when it is."""
    slots: int = 0
    """Requests that it computes at once."""
    devices: tuple[DeviceStatus, ...] = ()


ToManager = (
    Hello | Heartbeat | Goodbye | Join
    | Submit | Cancel | Taken | Ask
    | Register | Begun | Output | Finished | Declined | Leaving
    | LoadReport
    | Chunk | Fetch | Absent | Got
    | Reported | ReadLog | AskTime
    | ReadOutput | OutputPage
    | Request | Reply | Withdraw
)  # fmt: skip

FromManager = (
    Welcome | Disconnect | Heartbeat | Joined
    | Want | Offers | Accepted | Placed | TaskOutput | Done | Waiting | Answer
    | Run | Halt | Settled | Drain
    | Chunk | Fetch | Absent | Got
    | LogPage | Time
    | ReadOutput | OutputPage
    | Request | Reply | Withdraw
)  # fmt: skip
