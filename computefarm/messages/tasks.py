"""What is to be done, and how it ended."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from .base import MANY, Count, Digest, Message, Short


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
