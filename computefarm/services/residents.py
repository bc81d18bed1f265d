"""A worker's resident processes: one per slot, warm, each with one request at a time.

They are started one first, so that what it compiles is there for the others, then the rest; the capability is
announced when all of them are ready. One that dies or does not stop in time is replaced.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import msgspec

from computefarm.errors import ProtocolError
from computefarm.messages import Reply, Request
from computefarm.worker_api.resident import Ask, Drop, Frames, Ready, Told, frame, read_told

from .loop import Loop

log = logging.getLogger("computefarm.worker")

STOP_S = 0.5
"""A process that computes what nobody wants has so long to stop; then it is killed."""

BEAT_S = 0.3
"""With requests in hand the worker says so often that it lives: others would get them else."""

REST_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""How long to wait before a process is started again that never became ready."""

EXIT_S = 0.2

Tags = tuple[tuple[str, str], ...]


class _Job(msgspec.Struct, eq=False):
    request: Request
    arrived: float
    due: float
    wanted: bool = True


class _Process(msgspec.Struct, eq=False):
    """One resident process."""

    popen: subprocess.Popen[bytes]
    sock: socket.socket
    lifeline: int
    frames: Frames
    job: _Job | None = None
    ready: bool = False
    kill_at: float | None = None

    @property
    def fileno(self) -> int:
        return self.sock.fileno()


class Residents:
    """The processes and what they compute. To be used from the loop's thread."""

    def __init__(
        self,
        command: Sequence[str],
        slots: int,
        *,
        reply: Callable[[Reply], None],
        ready: Callable[[Tags], None],
        alive: Callable[[], None],
    ) -> None:
        """`ready` is told what to announce, once; `alive` is called while there is work, to say so."""
        self._command = tuple(command)
        self._slots = slots
        self._reply = reply
        self._ready = ready
        self._alive = alive
        self._processes: list[_Process] = []
        self._queue: deque[_Job] = deque()
        self._tags: Tags | None = None
        self._announced = False
        self._failures = 0
        self._start_at: float | None = None
        self._beat_at = 0.0
        self._closed = False

    # --- the loop's side ------------------------------------------------------------------------------

    def attach(self, loop: Loop) -> None:
        """Start the first process."""
        self._loop = loop
        self._clock = loop.clock
        self._start()

    def tick(self, now: float) -> None:
        """Drop what is late, kill what does not stop, start what is missing, and say that we live."""
        while self._queue and self._queue[0].due <= now:
            self._late(self._queue.popleft(), now)
        for process in list(self._processes):
            if process.job is not None and process.kill_at is not None and now >= process.kill_at:
                self._replace(process, now)
        if self._start_at is not None and now >= self._start_at:
            self._start_at = None
            self._fill()
        if self.busy and now >= self._beat_at:
            self._beat_at = now + BEAT_S
            self._alive()

    def next_deadline(self) -> float | None:
        """Return when to call `tick`."""
        times = [process.kill_at for process in self._processes if process.kill_at is not None]
        if self._queue:
            times.append(self._queue[0].due)
        if self._start_at is not None:
            times.append(self._start_at)
        if self.busy:
            times.append(self._beat_at)
        return min(times, default=None)

    def close(self) -> None:
        """End every process at once: what they compute is asked again elsewhere."""
        self._closed = True
        self._queue.clear()
        for process in list(self._processes):
            self._end(process)

    @property
    def busy(self) -> bool:
        """Return whether there is any request in hand."""
        return bool(self._queue) or any(process.job is not None for process in self._processes)

    # --- requests -------------------------------------------------------------------------------------

    def ask(self, request: Request) -> None:
        """Compute this as soon as a process is free."""
        now = self._clock()
        if not self.busy:
            self._beat_at = now + BEAT_S
        self._queue.append(_Job(request, now, now + request.budget_s))
        self._feed(now)

    def withdraw(self, numbers: Iterable[int]) -> None:
        """Stop computing these; nothing is said of them."""
        unwanted = set(numbers)
        now = self._clock()
        self._queue = deque(job for job in self._queue if job.request.number not in unwanted)
        for process in self._processes:
            if process.job is not None and process.job.wanted and process.job.request.number in unwanted:
                self._stop(process, process.job, now)

    def withdraw_all(self) -> None:
        """The manager is gone, and has given everything to others."""
        self.withdraw([job.request.number for job in self._jobs()])

    def _jobs(self) -> list[_Job]:
        return [*self._queue, *(process.job for process in self._processes if process.job is not None)]

    def _stop(self, process: _Process, job: _Job, now: float) -> None:
        job.wanted = False
        process.kill_at = now + STOP_S
        self._send(process, Drop(job.request.number))

    def _feed(self, now: float) -> None:
        for process in self._processes:
            while self._queue and process.ready and process.job is None:
                job = self._queue.popleft()
                if job.due <= now:
                    self._late(job, now)
                    continue
                request = job.request
                process.job, process.kill_at = job, job.due + STOP_S
                self._send(
                    process,
                    Ask(
                        request.number,
                        request.kernel,
                        request.body,
                        job.due - now,
                        request.device,
                        request.version,
                    ),
                )

    def _late(self, job: _Job, now: float) -> None:
        text = f"it waited here for {(now - job.arrived) * 1000:.0f} ms"
        self._say(job, Reply(job.request.number, "deadline", text))

    def _say(self, job: _Job, reply: Reply) -> None:
        if job.wanted:
            self._reply(reply)

    # --- processes ------------------------------------------------------------------------------------

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        reading, writing = os.pipe()
        try:
            popen = subprocess.Popen(
                [*self._command, str(theirs.fileno()), str(reading)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), reading),
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            os.close(writing)
            self._failed(f"{self._command[0]} cannot be started: {error}", self._clock())
            return
        finally:
            theirs.close()
            os.close(reading)
        process = _Process(popen, ours, writing, Frames())
        self._processes.append(process)
        self._loop.watch(process.fileno, lambda: self._readable(process))

    def _fill(self) -> None:
        """Start what is missing; only one as long as none has become ready."""
        wanted = self._slots if self._tags is not None else 1
        while len(self._processes) < wanted and self._start_at is None and not self._closed:
            self._start()

    def _readable(self, process: _Process) -> None:
        now = self._clock()
        try:
            data = process.sock.recv(1 << 16)
            messages = [read_told(body) for body in process.frames.feed(data)]
        except (OSError, ProtocolError) as error:
            log.error("a resident process failed: %s", error)
            data, messages = b"", []
        for message in messages:
            if isinstance(message, Ready):
                self._became_ready(process, message)
            else:
                self._answered(process, message, now)
        if not data:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.popen.wait(EXIT_S)  # to tell how it ended; a socket closes just before that
            self._replace(process, now)
        self._feed(now)

    def _became_ready(self, process: _Process, ready: Ready) -> None:
        kernels = [name.removeprefix("kernel:") for name, _ in ready.tags if name.startswith("kernel:")]
        if self._tags is None:
            for text in ready.lacking:
                log.warning("not offering %s", text)
            if not kernels:
                self._end(process)
                self._failed("no kernel works on this machine", self._clock())
                return
            log.info("warm in %.1f s: %s", ready.warm_s, ", ".join(kernels))
            self._tags = ready.tags
        process.ready = True
        self._failures = 0
        self._fill()
        warm = sum(one.ready for one in self._processes)
        if not self._announced and warm >= self._slots:
            self._announced = True
            self._ready(self._tags)

    def _answered(self, process: _Process, told: Told, now: float) -> None:
        job, process.job, process.kill_at = process.job, None, None
        if job is None or job.request.number != told.number:
            return
        waited_ms = max(0.0, (now - job.arrived) * 1000.0 - told.wall_ms)
        reply = Reply(
            told.number,
            told.status,
            told.reason[:4096],
            told.values,
            told.device[:255],
            told.cpu_ms,
            told.wall_ms,
            waited_ms,
        )
        self._say(job, reply)

    def _send(self, process: _Process, message: Ask | Drop) -> None:
        # Small, and the process reads whenever it is idle; one that is gone is seen by reading.
        with contextlib.suppress(OSError):
            process.sock.sendall(frame(message))

    def _replace(self, process: _Process, now: float) -> None:
        """End a process, say what became of its request, and start another."""
        job, was_ready = process.job, process.ready
        stuck = process.kill_at is not None and now >= process.kill_at
        code = self._end(process)
        if job is not None:
            number = job.request.number
            if stuck and job.wanted:
                log.warning("%s did not stop at its deadline; its process was killed", job.request.kernel)
                self._say(job, Reply(number, "deadline", "it did not stop at its deadline and was killed"))
            elif not stuck:
                text = f"the process that computed it {_ended(code)}"
                log.error("%s: %s", job.request.kernel, text)
                self._say(job, Reply(number, "error", text))
        if self._closed:
            return
        if was_ready:
            self._fill()
        else:
            self._failed(f"a resident process {_ended(code)} while it warmed up", now)

    def _failed(self, text: str, now: float) -> None:
        rest = REST_S[min(self._failures, len(REST_S) - 1)]
        self._failures += 1
        self._start_at = now + rest
        log.error("%s; trying again in %.0f s", text, rest)

    def _end(self, process: _Process) -> int:
        """Kill a process and what it started; return its exit code."""
        self._loop.unwatch(process.fileno)
        if process in self._processes:
            self._processes.remove(process)
        code = process.popen.poll()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.popen.pid, signal.SIGKILL)
        if code is None:
            code = process.popen.wait()
        process.sock.close()
        os.close(process.lifeline)
        return code


def _ended(code: int) -> str:
    if code < 0:
        more = " (out of memory?)" if code == -signal.SIGKILL else ""
        return f"was killed by signal {-code}{more}"
    return f"ended with code {code}"
