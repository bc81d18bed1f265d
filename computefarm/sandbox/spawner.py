"""The owner's side of the spawner: launch tasks, hear of their output and their end, never block.

One spawner is started per worker and lives as long as it. The worker puts `fileno()` into its poll loop,
calls `receive()` when it is readable and `flush()` once per turn (and when it is writable, while
`wants_write()`).
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL

import msgspec

from computefarm.errors import FarmError

from .channel import ENDED, HALT, LAUNCH, RECALL, STARTED, TEXT, Channel, ChannelClosed, Frame
from .kin import LEASH, end_marked, mark_of, send_group

_BOOT = """\
import sys
for name, path in (("computefarm", sys.argv[1]), ("computefarm.sandbox", sys.argv[1] + "/sandbox")):
    package = sys.modules[name] = type(sys)(name)
    package.__path__ = [path]
from computefarm.sandbox.program import main
main(int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
"""
"""Makes empty packages, so that nothing of ours but the few modules it needs is imported."""

GRACE_S = 1.0
"""Between TERM and KILL: with what is left to do then, everything is gone within two seconds."""

_TURNS = 16
"""Reads of one `receive`, so that a flood leaves the owner's loop time for other things."""


class Launch(msgspec.Struct, frozen=True):
    """One task to run, at once or as soon as one of the spawner's slots is free."""

    ticket: int
    """Chosen by the owner, unique among the tasks in flight."""
    commands: tuple[tuple[str, ...], ...]
    """Argument vectors, run in order in one directory; the first failure ends the task."""
    directory: str
    env: tuple[tuple[str, str], ...]
    """The whole environment; the spawner adds only its own mark, `CF_TICKET`."""
    timeout_s: float | None = None
    """For all commands together, from the start of the first."""
    grace_s: float = GRACE_S
    """Between TERM and KILL when the time is over."""
    memory_limit: int = 0
    """Bytes of address space of each process; 0 means no limit. Linux only."""


class Started(msgspec.Struct, frozen=True, gc=False):
    """The first command was started."""

    ticket: int
    pid: int
    """Also its process group."""


class Text(msgspec.Struct, frozen=True, gc=False):
    """Output, as read: up to 64 KiB, cut anywhere."""

    ticket: int
    stream: int
    """1 stdout, 2 stderr."""
    data: bytes


class Ended(msgspec.Struct, frozen=True, gc=False):
    """The task is over, all its output has been delivered, and none of its processes is left."""

    ticket: int
    exit_code: int | None
    """None when a signal ended the command; 127 or 126 when it could not be started."""
    signal: int | None
    timed_out: bool
    halted: bool
    command: int
    """Index of the command that ended the task."""
    run_s: float
    cpu_s: float
    """Of all its processes that ended before it did or were adopted."""
    peak_memory: int
    """Bytes, of the largest process; never below the spawner's own size (about 10 MB) on Linux."""
    error: str
    """Why the command could not be started, or the task not ended completely; else empty."""


Event = Started | Text | Ended


class SpawnerDied(FarmError):
    """The spawner is gone; the tasks it ran have been killed by their owner."""

    def __init__(self, tickets: tuple[int, ...]) -> None:
        super().__init__(f"the worker's spawner was ended from outside, and {len(tickets)} tasks with it")
        self.tickets = tickets
        """The tasks that were in flight; they will not be heard of again."""


class Spawner:
    """A small process of its own session that runs this process's tasks."""

    def __init__(self, *, nice: int = 0, slots: int = 0) -> None:
        """Start it, `nice` for the tasks too; at most `slots` tasks run at once (0: no limit).

        A launch beyond that waits in the spawner for its turn. An owner that always has one waiting there
        saves the time that it takes itself to answer the end of a task with the next one.
        """
        ours, theirs = socket.socketpair()
        self._token = os.urandom(8).hex()
        self._running: dict[int, int] = {}
        """Ticket → pid of the current command (0 until it is known)."""
        package = str(Path(__file__).resolve().parent.parent)
        arguments = [package, str(theirs.fileno()), self._token, str(nice), str(slots)]
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _BOOT, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                    cwd="/",
                    env={name: value for name, value in os.environ.items() if name != LEASH},
                )
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)
        self._socket = ours
        self._channel = Channel(ours.fileno())
        self._blocked = False

    @property
    def pid(self) -> int:
        """Return the spawner's own pid."""
        return self._process.pid

    @property
    def running(self) -> dict[int, int]:
        """Return the tickets in flight, each with the pid of its current command (0 while unknown)."""
        return dict(self._running)

    def pid_of(self, ticket: int) -> int:
        """Return the pid of a task's current command; 0 when there is none or it is not known."""
        return self._running.get(ticket, 0)

    def ticket_of(self, pid: int) -> int | None:
        """Return the task whose mark a process carries (Linux only)."""
        return mark_of(pid, self._token)

    @property
    def alive(self) -> bool:
        """Tell whether the spawner's process exists."""
        return self._process.poll() is None

    def fileno(self) -> int:
        """Return the one file descriptor to wait on."""
        return self._socket.fileno()

    def launch(self, launch: Launch) -> None:
        """Queue a task to be started at the next `flush`."""
        if launch.ticket in self._running:
            raise ValueError(f"ticket {launch.ticket} is in flight already")
        if not launch.commands:
            raise ValueError(f"ticket {launch.ticket} has no command")
        self._running[launch.ticket] = 0
        self._channel.put(
            (
                LAUNCH, launch.ticket, launch.commands, launch.directory, launch.env,
                launch.timeout_s, launch.grace_s, launch.memory_limit,
            )
        )  # fmt: skip

    def halt(self, ticket: int, grace_s: float = GRACE_S) -> None:
        """Queue the end of a task: TERM to its group, KILL after the grace; `Ended` still comes."""
        if ticket in self._running:
            self._channel.put((HALT, ticket, grace_s))

    def recall(self, ticket: int) -> None:
        """Queue the withdrawal of a task that still waits for its turn: `Ended` comes without `Started`.

        One that has begun goes on undisturbed.
        """
        if ticket in self._running:
            self._channel.put((HALT, ticket, RECALL))

    def flush(self) -> None:
        """Send what is queued, as far as the socket takes it; a dead spawner is `receive`'s to report."""
        try:
            self._blocked = not self._channel.flush()
        except ChannelClosed:
            self._blocked = False

    def wants_write(self) -> bool:
        """Tell whether `flush` has to be called again when the socket becomes writable."""
        return self._blocked

    def receive(self) -> list[Event]:
        """Return what has happened, without waiting; raise `SpawnerDied` when the spawner is gone."""
        events: list[Event] = []
        try:
            for _ in range(_TURNS):
                events += self._events(self._channel.take())
                if not self._channel.more:
                    break
        except ChannelClosed:
            if events:  # what it said before it died counts; the next call reports the death
                return events
            raise self._death() from None
        return events

    def _events(self, frames: list[Frame]) -> Iterator[Event]:
        for frame in frames:
            kind = frame[0]
            if kind == TEXT:
                yield Text(frame[1], frame[2], frame[3])
            elif kind == ENDED:
                self._running.pop(frame[1], None)
                yield Ended(*frame[1:])
            else:
                self._running[frame[1]] = frame[2]
                if kind == STARTED:
                    yield Started(frame[1], frame[2])

    def _death(self) -> SpawnerDied:
        tickets = tuple(self._running)
        self._kill_tasks()
        self.close()
        return SpawnerDied(tickets)

    def _kill_tasks(self) -> None:
        for group in self._running.values():
            if group:
                send_group(group, SIGKILL)
        self._running.clear()
        for _ in range(5):  # one may have been starting another while we looked
            if not end_marked(self._token):
                break

    def close(self) -> None:
        """Kill every task with all its processes, then end the spawner; harmless when repeated.

        Take `fileno()` out of the poll loop first.
        """
        self._socket.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            self._kill_tasks()
        self._running.clear()

    def __enter__(self) -> Spawner:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.close()
