"""A worker's resident processes: one per slot, warm, each with one request at a time.

They are started one first, so that what it compiles is there for the others, then the rest; the capability is
announced when all of them are ready. One that dies or does not stop in time is replaced. A slot whose GPU
fails computes on the CPU from then on, and what is announced changes.
"""

from __future__ import annotations

import contextlib
import logging
import subprocess
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from computefarm.core.seats import choose, hopeless, together, wants_unit, works_of
from computefarm.errors import ProtocolError
from computefarm.messages import DeviceLoad, Reply, Request
from computefarm.worker_api.resident import (
    Ask,
    Changed,
    Drop,
    Place,
    Ready,
    Told,
    frame,
    read_told,
)

from .loop import Loop
from .resident_process import Job, Post, Process, end, ended, seat_of, start

log = logging.getLogger("computefarm.worker")

STOP_S = 0.5
"""A process that computes what nobody wants has so long to stop; then it is killed."""

BEAT_S = 0.3
"""With requests in hand the worker says so often that it lives: others would get them else."""

REST_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""How long to wait before a process is started again that never became ready."""

EXIT_S = 0.2

Tags = tuple[tuple[str, str], ...]

GPU_TRIES = 2
"""A slot computes on the CPU when so many of its processes have died with no answer of its GPU in between."""


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
        posts: Sequence[Post] = (),
        together: bool = False,
    ) -> None:
        """`ready` is told what to announce, when all are warm and whenever it changes.

        `command` computes on the CPU: in every slot, or where `posts` says nothing else or a GPU has failed.
        `alive` is called while there is work, to say so. `together`: there is nothing left to compile, so
        all processes may start at once.
        """
        hidden = (("CUDA_VISIBLE_DEVICES", ""),) if posts else ()
        self._spare = Post(tuple(command), Place("cpu", env=hidden))
        self._posts = list(posts) or [self._spare] * slots
        self._seats = [seat_of(post) for post in self._posts]
        self._deaths = [0] * len(self._posts)
        self._told: dict[int, Tags] = {}
        """By post, what its process has announced."""
        self._reply = reply
        self._ready = ready
        self._alive = alive
        self._processes: list[Process] = []
        self._queue: deque[Job] = deque()
        self._announced: Tags | None = None
        self._failures = 0
        self._together = together
        self._start_at: float | None = None
        self._beat_at = 0.0
        self._closed = False

    # --- the loop's side ------------------------------------------------------------------------------

    def attach(self, loop: Loop) -> None:
        """Start the first process, or all of them."""
        self._loop = loop
        self._clock = loop.clock
        self._fill()

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

    @property
    def failures(self) -> int:
        """How many processes in a row have not become ready."""
        return self._failures

    # --- requests -------------------------------------------------------------------------------------

    def ask(self, request: Request) -> None:
        """Compute this as soon as a process is free."""
        now = self._clock()
        if not self.busy:
            self._beat_at = now + BEAT_S
        self._queue.append(Job(request, now, now + request.budget_s))
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

    def _jobs(self) -> list[Job]:
        return [*self._queue, *(process.job for process in self._processes if process.job is not None)]

    def _stop(self, process: Process, job: Job, now: float) -> None:
        job.wanted = False
        process.kill_at = now + STOP_S
        self._send(process, Drop(job.request.number))

    def _feed(self, now: float) -> None:
        """Give what waits to processes that are free, in order as far as that is possible."""
        waiting, self._queue = self._queue, deque()
        ahead = 0
        for job in waiting:
            if job.due <= now:
                self._late(job, now)
                continue
            found = choose(job.request, self._seats, ahead)
            if found is not None:
                self._give(next(one for one in self._processes if one.post == found[0]), job, found[1], now)
            elif self._announced is not None and hopeless(job.request, self._seats):
                text = f"there is no {job.request.device} for {job.request.kernel} here any more"
                self._say(job, Reply(job.request.number, "error", text))
            else:
                ahead += wants_unit(job.request, self._seats)
                self._queue.append(job)

    def _give(self, process: Process, job: Job, device: str, now: float) -> None:
        request = job.request
        process.job, process.kill_at = job, job.due + STOP_S
        process.seat.busy, process.seat.taken = True, request.vram if device == "gpu" else 0
        ask = Ask(
            request.number,
            request.kernel,
            request.body,
            job.due - now,
            request.device if device == "gpu" else "cpu",
            request.version,
            process.seat.taken,
        )
        self._send(process, ask)

    def devices(self) -> tuple[DeviceLoad, ...]:
        """Return what each device has in hand."""
        now = self._clock()
        running: dict[str, list[float]] = {}
        for process in self._processes:
            if process.job is not None:
                name = process.seat.unit if process.seat.taken else "cpu"
                running.setdefault(name, []).append(now - process.job.arrived)
        return tuple(DeviceLoad(name, len(ages), max(ages)) for name, ages in sorted(running.items()))

    def _late(self, job: Job, now: float) -> None:
        text = f"it waited here for {(now - job.arrived) * 1000:.0f} ms"
        self._say(job, Reply(job.request.number, "deadline", text))

    def _say(self, job: Job, reply: Reply) -> None:
        if job.wanted:
            self._reply(reply)

    # --- processes ------------------------------------------------------------------------------------

    def _start(self, post: int) -> None:
        try:
            process = start(self._posts[post], post, self._seats[post])
        except OSError as error:
            self._failed(f"{self._posts[post].command[0]} cannot be started: {error}", self._clock())
            return
        self._processes.append(process)
        self._loop.watch(process.fileno, lambda: self._readable(process))

    def _fill(self) -> None:
        """Start what is missing; only one as long as it may have to compile for all."""
        if self._start_at is not None or self._closed:
            return
        there = {process.post for process in self._processes}
        missing = [post for post in range(len(self._posts)) if post not in there]
        for post in missing if self._told or self._together else missing[: 1 - len(there)]:
            if self._start_at is None:
                self._start(post)

    def _readable(self, process: Process) -> None:
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
            elif isinstance(message, Changed):
                self._lost(process, message.lost)
                self._tell(process, message.tags)
            else:
                self._answered(process, message, now)
        if not data:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.popen.wait(EXIT_S)  # to tell how it ended; a socket closes just before that
            self._replace(process, now)
        self._feed(now)

    def _became_ready(self, process: Process, ready: Ready) -> None:
        kernels = works_of(ready.tags)
        if not self._told:
            for text in ready.lacking:
                log.warning("not offering %s", text)
            if not kernels:
                self._end(process)
                self._failed("no kernel works on this machine", self._clock())
                return
            log.info("warm in %.1f s: %s", ready.warm_s, ", ".join(kernels))
        if ready.lost:
            self._lost(process, ready.lost)
        process.ready = True
        process.seat.busy = False
        self._failures = 0
        self._tell(process, ready.tags)
        self._fill()

    def _lost(self, process: Process, reason: str) -> None:
        unit = self._posts[process.post].place.unit
        log.error("%s is not used any more by slot %d: %s", unit, process.post + 1, reason)

    def _tell(self, process: Process, tags: Tags) -> None:
        """Announce what all processes can do together, when that is known and new."""
        self._told[process.post] = tags
        process.seat.works = works_of(tags)
        if len(self._told) < len(self._posts):
            return
        announced = together([self._told[post] for post in sorted(self._told)])
        if announced != self._announced:
            self._announced = announced
            self._ready(announced)

    def _answered(self, process: Process, told: Told, now: float) -> None:
        job, process.job, process.kill_at = process.job, None, None
        process.seat.busy, process.seat.taken = False, 0
        if told.device == process.seat.unit:
            self._deaths[process.post] = 0
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

    def _send(self, process: Process, message: Ask | Drop) -> None:
        # Small, and the process reads whenever it is idle; one that is gone is seen by reading.
        with contextlib.suppress(OSError):
            process.sock.sendall(frame(message))

    def _replace(self, process: Process, now: float) -> None:
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
                text = f"the process that computed it {ended(code)}"
                log.error("%s: %s", job.request.kernel, text)
                self._say(job, Reply(number, "error", text))
        if self._closed:
            return
        self._mourn(process.post, f"a process with it {ended(code)}")
        if was_ready:
            self._fill()
        else:
            self._failed(f"a resident process {ended(code)} while it warmed up", now)

    def _mourn(self, post: int, reason: str) -> None:
        """Count the death of a process with a GPU; after a few its slot computes on the CPU."""
        unit = self._posts[post].place.unit
        self._deaths[post] += 1
        if not unit or self._deaths[post] < GPU_TRIES:
            return
        log.error("%s is not used any more by slot %d: %s", unit, post + 1, reason)
        self._posts[post] = self._spare
        self._seats[post] = seat_of(self._spare)

    def _failed(self, text: str, now: float) -> None:
        rest = REST_S[min(self._failures, len(REST_S) - 1)]
        self._failures += 1
        self._together = False
        self._start_at = now + rest
        log.error("%s; trying again in %.0f s", text, rest)

    def _end(self, process: Process) -> int:
        """Kill a process and what it started; return its exit code."""
        self._loop.unwatch(process.fileno)
        if process in self._processes:
            self._processes.remove(process)
        return end(process)
