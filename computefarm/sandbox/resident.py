"""The spawner's process: starts commands, watches them, ends all of them. One thread, standard library only.

Theory of operation. One `poll` waits for the owner's socket, for SIGCHLD (through a pipe) and for the output
of all tasks. We keep the write ends of a task's pipes open ourselves until it has ended, so its exit wakes us
once (SIGCHLD) and not once more per pipe. Frames to the owner leave once per turn, and a start alone waits
a few milliseconds for company.

A task has ended when its command is reaped *and* none of its processes is left: see `kin`. Only then are its
pipes drained and its end reported, so nothing can write into its folder afterwards.

When the owner's socket closes, everything is killed and this process ends: the socket is the leash.
"""

from __future__ import annotations

import os
import select
import signal
import time

from .attempt import NEVER, Attempt, Pipes, limit_memory, new_pipes
from .channel import LAUNCH, NEXT, RECALL, STARTED, TEXT, Channel, ChannelClosed, Frame
from .kin import send, send_group
from .launching import NOT_RUNNABLE, Unstartable, start
from .strays import Strays

READ, FEW = 65536, 4096
"""Bytes taken from one pipe in one turn, at most; and asked for where usually nothing is left."""
FULL = 512 * 1024
"""Bytes waiting for an owner that does not read; then no pipe is read until half of it is gone."""
COMPANY_MS = 4
"""How long a start waits for something else to be reported with it: most no-op tasks end within that time."""
CROWD = 16
"""Frames after which a batch leaves before its turn is over."""
SPARE = 16
"""Sets of pipes kept for coming tasks: making and closing them costs 20 µs a task."""
FILES, FILES_PER_TASK = 32 + 4 * SPARE, 4
"""Open files we need ourselves, and for every running task."""
UNKILLABLE_S = 5.0
"""A process that survives SIGKILL this long sits in the kernel; the task is reported without it."""


class Resident:
    """Everything the spawner knows."""

    def __init__(self, owner: int, token: str, slots: int) -> None:
        self._owner = owner
        self._slots = slots
        """Tasks that may run at once; 0 means any number."""
        self._queue: dict[int, Frame] = {}
        """Launches for which there is no slot yet, by ticket, in order."""
        self._token = token
        self._channel = Channel(owner)
        self._tasks: dict[int, Attempt] = {}
        self._mains: dict[int, Attempt] = {}
        """By pid of the running command."""
        self._groups: dict[int, int] = {}
        """Process group → ticket, until the command's leftovers are gone."""
        self._sweeping: dict[int, Attempt] = {}
        self._strays = Strays(token, self._groups)
        self._pipes: dict[int, tuple[Attempt, int]] = {}
        """Read end → whose output it is, 1 or 2."""
        self._spare: list[Pipes] = []
        """Pipes of ended tasks, empty and without any writer but us."""
        self._alone = True
        """When we last looked, no child of ours was anything but the main process of a task."""
        self._serial = 0
        self._turns = 0
        self._due = NEVER
        """No task has anything to be done before this time."""
        self._urgent = self._blocked = self._paused = False
        self._all, self._quiet = select.poll(), select.poll()
        """Everything, and everything but the output of tasks."""
        self._wake, write = os.pipe()
        for fd in (self._wake, write):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self._listen(self._wake, select.POLLIN)
        self._listen(owner, select.POLLIN)

    def _listen(self, fd: int, events: int) -> None:
        self._all.register(fd, events)
        self._quiet.register(fd, events)

    # --- the loop -------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Obey until the owner is gone, then end every process and return."""
        try:
            while True:
                self._turn()
        except ChannelClosed:
            return
        finally:
            self._end_everything()

    def _turn(self) -> None:
        ready = (self._quiet if self._paused else self._all).poll(self._patience())
        if not ready:
            self._urgent = True
        if len(ready) > CROWD:  # no pipe is always the first when the buffer fills up within a turn
            self._turns += 1
            pivot = self._turns % len(ready)
            ready = ready[pivot:] + ready[:pivot]
        children = False
        for fd, flags in ready:
            if fd == self._wake:
                children = True
            elif fd == self._owner:
                if flags != select.POLLOUT:
                    self._obey()
            elif self._channel.unsent_bytes < FULL:
                self._read(fd)
        if children:
            os.read(self._wake, 4096)
            self._reap()
        if self._due < NEVER and (now := time.monotonic()) >= self._due:
            self._expire(now)
        while self._queue and len(self._tasks) < self._slots:
            self._begin(self._queue.pop(next(iter(self._queue))))
        if self._urgent or self._blocked:
            self._flush()

    def _patience(self) -> int | None:
        """Return how many milliseconds may pass before there is something to do by ourselves."""
        wait = COMPANY_MS if self._channel.waiting else None
        if self._due < NEVER:
            left = max(0, int((self._due - time.monotonic()) * 1000) + 1)
            wait = left if wait is None else min(wait, left)
        return wait

    def _obey(self) -> None:
        for frame in self._channel.take():
            if frame[0] == LAUNCH:
                self._launch(frame)
            else:
                self._halt(frame[1], frame[2])

    def _emit(self, frame: Frame) -> None:
        self._channel.put(frame)
        self._urgent = True

    def _flush(self) -> None:
        self._urgent = False
        blocked = not self._channel.flush()
        if blocked != self._blocked:
            self._blocked = blocked
            self._listen(self._owner, select.POLLIN | select.POLLOUT if blocked else select.POLLIN)
        self._paused = self._channel.unsent_bytes > (FULL // 2 if self._paused else FULL)

    # --- a task's life --------------------------------------------------------------------------------

    def _launch(self, frame: Frame) -> None:
        if self._queue or (self._slots and len(self._tasks) >= self._slots):
            self._queue[frame[1]] = frame
        else:
            self._begin(frame)

    def _begin(self, frame: Frame) -> None:
        self._serial += 1
        task = Attempt(frame, self._serial, self._token, time.monotonic())
        self._tasks[task.ticket] = task
        self._due = min(self._due, task.next_due())
        try:
            self._open_pipes(task)
        except OSError as error:
            task.exit_code, task.error = NOT_RUNNABLE, f"no pipe for the command's output: {error.strerror}"
            self._finish(task)
            return
        self._start(task)

    def _open_pipes(self, task: Attempt) -> None:
        if self._spare:
            pipes = self._spare.pop()
            for fd in pipes[2:]:  # node and others leave their stdout non-blocking
                os.set_blocking(fd, True)
        else:
            pipes = new_pipes()
            for fd in pipes[:2]:
                self._all.register(fd, select.POLLIN)
        task.pipes = pipes
        self._pipes[pipes[0]] = (task, 1)
        self._pipes[pipes[1]] = (task, 2)

    def _start(self, task: Attempt) -> None:
        """Start the task's next command."""
        try:
            pid = start(task.commands[task.index], task.directory, task.env, task.pipes[2], task.pipes[3])
        except Unstartable as refusal:
            task.exit_code, task.signal, task.error = refusal.exit_code, None, refusal.text
            self._finish(task)
            return
        task.pid = task.group = pid
        self._mains[pid] = task
        self._groups[pid] = task.ticket
        if task.memory_limit > 0:
            limit_memory(pid, task.memory_limit)
        self._channel.put((NEXT if task.index else STARTED, task.ticket, pid))
        if self._channel.waiting >= CROWD:  # else not urgent: see COMPANY_MS
            self._urgent = True

    def _read(self, fd: int) -> None:
        entry = self._pipes.get(fd)
        if entry is None:  # its task ended earlier in this turn, or a stranger holds an end of it
            for pipes in self._spare:
                if fd in pipes:
                    self._spare.remove(pipes)
                    self._discard(pipes)
                    break
            return
        try:
            data = os.read(fd, READ)
        except BlockingIOError:
            return
        self._text(entry[0], entry[1], data)

    def _text(self, task: Attempt, stream: int, data: bytes) -> None:
        self._emit((TEXT, task.ticket, stream, data))
        if self._channel.waiting >= CROWD:
            self._flush()  # so that a full buffer is noticed within the turn

    def _reap(self) -> None:
        ended: list[Attempt] = []
        others = childless = False
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                childless = True
                break
            if pid == 0:
                break
            task = self._mains.pop(pid, None)
            if task is not None:
                task.reaped(status, usage)
                ended.append(task)
                continue
            others = True
            ticket = self._strays.reaped(pid)
            if ticket is not None and (owner := self._tasks.get(ticket)):
                owner.add_usage(usage)
        if self._strays.certain or not self._mains or others or self._sweeping:
            self._settle(ended, childless)
        else:  # searching all of /proc for each task would cost more than the task
            self._settle(ended, True)

    def _settle(self, ended: list[Attempt], childless: bool) -> None:
        """Go on with the tasks whose last process is gone, and end what is left of the others."""
        if not self._strays.certain:
            for task in ended:
                send_group(task.group, signal.SIGKILL)
        left = {} if childless else self._strays.look(self._mains, self._serial)
        self._alone = self._strays.certain and not left
        if not left and not self._sweeping:
            for task in ended:
                self._proceed(task)
            return
        for task in ended:
            self._sweeping[task.ticket] = task
        for task in list(self._sweeping.values()):
            if task.ticket in left:
                self._sweep(task, left[task.ticket])
            else:
                self._proceed(task)
        oldest = min((task.serial for task in self._tasks.values()), default=self._serial + 1)
        self._strays.kill_unowned(left, self._tasks, oldest)

    def _sweep(self, task: Attempt, pids: list[int]) -> None:
        """End the leftovers of a command: at once, or after the grace when the task was asked to end."""
        now = time.monotonic()
        if task.in_grace(now):
            self._strays.ask(pids, task.group)
            return
        if task.sweep_until is None:
            task.sweep_until = now + UNKILLABLE_S
            self._due = min(self._due, task.sweep_until)
        self._strays.kill(pids, task.group)

    def _proceed(self, task: Attempt) -> None:
        self._sweeping.pop(task.ticket, None)
        self._groups.pop(task.group, None)
        task.sweep_until = None
        if task.goes_on:
            task.index += 1
            self._start(task)
        else:
            self._finish(task)

    def _finish(self, task: Attempt) -> None:
        now = time.monotonic()
        out, err, _, _ = task.pipes
        if out >= 0:
            empty = self._drain(task, 1, out) & self._drain(task, 2, err)
            del self._pipes[out], self._pipes[err]
            if empty and self._alone and len(self._spare) < SPARE:
                self._spare.append(task.pipes)
            else:
                self._discard(task.pipes)
        del self._tasks[task.ticket]
        if task.kill_at is not None:
            self._strays.release(task.ticket)
        self._emit(task.ended(now))

    def _discard(self, pipes: Pipes) -> None:
        for fd in pipes[:2]:
            self._all.unregister(fd)
        for fd in pipes:
            os.close(fd)

    def _drain(self, task: Attempt, stream: int, fd: int) -> bool:
        """Take what is in the pipe and return whether it is empty: a hidden writer is not waited for."""
        try:
            self._text(task, stream, os.read(fd, FEW))
            for _ in range(64):
                self._text(task, stream, os.read(fd, READ))
        except BlockingIOError:
            return True
        return False

    # --- ending tasks ---------------------------------------------------------------------------------

    def _halt(self, ticket: int, grace_s: float) -> None:
        task = self._tasks.get(ticket)
        if task is not None and grace_s == RECALL:
            return
        if task is not None:
            task.halted = True
            self._ask_to_end(task, grace_s, time.monotonic())
        elif ticket in self._queue:
            now = time.monotonic()
            task = Attempt(self._queue.pop(ticket), 0, self._token, now)
            task.halted = True
            self._emit(task.ended(now))
        # Else it ended by itself, and that is on its way to the owner.

    def _ask_to_end(self, task: Attempt, grace_s: float, now: float) -> None:
        if task.pid:
            self._strays.claim(task.ticket, task.pid)
        if task.kill_at is not None:
            task.kill_at = min(task.kill_at, now + grace_s)
        else:
            task.kill_at = now + grace_s
            if grace_s > 0 and task.pid:
                send_group(task.group, signal.SIGTERM)
                send_group(task.group, signal.SIGCONT)  # a stopped process does not hear the first
        self._due = min(self._due, task.kill_at)

    def _expire(self, now: float) -> None:
        self._due = NEVER
        for task in list(self._tasks.values()):
            if self._tasks.get(task.ticket) is not task:  # it ended with one before it
                continue
            if task.deadline is not None and task.deadline <= now:
                task.deadline = None
                task.timed_out = True
                self._ask_to_end(task, task.grace_s, now)
            if task.kill_at is not None and task.kill_at <= now:
                self._kill(task)
            if task.sweep_until is not None and task.sweep_until <= now:
                task.error = "a process of the task could not be ended"
                self._alone = False
                self._proceed(task)
            if task.ticket in self._tasks:
                self._due = min(self._due, task.next_due())

    def _kill(self, task: Attempt) -> None:
        task.kill_at = NEVER
        if task.pid:
            self._strays.claim(task.ticket, task.pid)
            send_group(task.group, signal.SIGKILL)
            send(task.pid, signal.SIGKILL)
        else:
            self._settle([], False)

    def _end_everything(self) -> None:
        """Kill all tasks and all strays, and what they leave, until no child is left or 5 s have passed."""
        until = time.monotonic() + UNKILLABLE_S
        for group in self._groups:
            send_group(group, signal.SIGKILL)
        for pid in self._mains:
            send(pid, signal.SIGKILL)
        waiter = select.poll()
        waiter.register(self._wake, select.POLLIN)
        while time.monotonic() < until:
            self._strays.kill_all()
            try:
                while os.wait4(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                return
            if waiter.poll(20):
                os.read(self._wake, 4096)
