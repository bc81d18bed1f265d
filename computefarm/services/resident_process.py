"""One resident process: how it is started and ended, and what it has in hand."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess

import msgspec

from computefarm.core.seats import Seat
from computefarm.messages import Request
from computefarm.worker_api.resident import Frames, Place


class Post(msgspec.Struct, frozen=True):
    """What is started for a slot."""

    command: tuple[str, ...]
    place: Place


class Job(msgspec.Struct, eq=False):
    """A request, since when it is here, and until when somebody waits for it."""

    request: Request
    arrived: float
    due: float
    wanted: bool = True


class Process(msgspec.Struct, eq=False):
    """One resident process."""

    popen: subprocess.Popen[bytes]
    sock: socket.socket
    lifeline: int
    frames: Frames
    post: int
    seat: Seat
    job: Job | None = None
    ready: bool = False
    kill_at: float | None = None

    @property
    def fileno(self) -> int:
        """Return the descriptor on which it is heard."""
        return self.sock.fileno()


def seat_of(post: Post) -> Seat:
    """Return the seat of a process that is not warm yet."""
    place = post.place
    return Seat(unit=place.unit, vram=place.vram, reserved=place.reserved, busy=True)


def start(post: Post, number: int, seat: Seat) -> Process:
    """Start the process of a slot; raises `OSError`."""
    ours, theirs = socket.socketpair()
    reading, writing = os.pipe()
    try:
        popen = subprocess.Popen(
            [*post.command, str(theirs.fileno()), str(reading)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**os.environ, **dict(post.place.env)},
            pass_fds=(theirs.fileno(), reading),
            start_new_session=True,
        )
    except OSError:
        ours.close()
        os.close(writing)
        raise
    finally:
        theirs.close()
        os.close(reading)
    return Process(popen, ours, writing, Frames(), number, seat)


def end(process: Process) -> int:
    """Kill a process and what it started; return its exit code."""
    process.seat.busy, process.seat.taken = True, 0
    code = process.popen.poll()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.popen.pid, signal.SIGKILL)
    if code is None:
        code = process.popen.wait()
    process.sock.close()
    os.close(process.lifeline)
    return code


def ended(code: int) -> str:
    """Return how a process ended, in words."""
    if code < 0:
        more = " (out of memory?)" if code == -signal.SIGKILL else ""
        return f"was killed by signal {-code}{more}"
    return f"ended with code {code}"
