"""Backends for tests of majordomo: one that runs tasks in folders of its own, one that does as it is told."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from computefarm.backends.base import Backend, Ended, Held, Offered, Placed, Printed, Sink, Submission
from computefarm.codec import decode_action
from computefarm.core.versions import satisfies
from computefarm.messages import (
    Action,
    Attempt,
    Explanation,
    FileEntry,
    Obstacle,
    Offer,
    Outcome,
    Piece,
    Pool,
    Result,
    Status,
)

HOST = "here"
OFFERS = (
    Offer("shell", "1.0", "shell-1"),
    Offer("gcc", "12.2.0", "gcc-12"),
    Offer("python", "3.11", "python-3"),
)


def pool(offer: Offer, *, worker: str = "w1", slots: int = 2, platform: str = "linux-x86_64") -> Pool:
    """Return a pool of one worker."""
    return Pool(offer, platform, slots, (worker,))


POOLS = tuple(pool(each) for each in OFFERS)


class ScriptedBackend:
    """Takes submissions and does nothing on its own: the test calls `end`, `place`, `hold`."""

    def __init__(self, pools: Sequence[Pool] = POOLS, *, name: str = "test") -> None:
        self.name = name
        self.pools = tuple(pools)
        self.settled = True
        self.gone: tuple[Pool, ...] = ()
        """What was offered earlier; what is neither offered nor gone ends a run before it begins."""
        self.submitted: dict[int, Submission] = {}
        self.cancelled: list[tuple[tuple[int, ...], str]] = []
        self.closed = False
        self.on_submit: Callable[[ScriptedBackend, Submission], None] = lambda backend, submission: None
        self.on_cancel: Callable[[ScriptedBackend, tuple[int, ...], str], None] = _end_cancelled
        self._sink: Sink | None = None

    def start(self, sink: Sink) -> None:
        """Remember where to report."""
        self._sink = sink

    def report(self, event: object) -> None:
        """Report any event."""
        assert self._sink is not None, "the backend was not started"
        self._sink(event)  # type: ignore[arg-type]

    def offers(self, capability: str) -> Offered:
        """Return the scripted pools."""
        pools = tuple(pool for pool in self.pools if pool.offer.capability == capability)
        return Offered(pools, self.settled, gone=self.gone)

    def submit(self, submissions: Sequence[Submission]) -> None:
        """Keep them, and let the script react to each."""
        for submission in submissions:
            self.submitted[submission.task] = submission
            self.on_submit(self, submission)

    def cancel(self, tasks: Sequence[int], reason: str) -> None:
        """Note it, and let the script react."""
        chosen = tuple(tasks) or tuple(self.submitted)
        self.cancelled.append((chosen, reason))
        self.on_cancel(self, chosen, reason)

    def place(self, task: int, attempt: int = 1, worker: str = "w1") -> None:
        """Say that a worker has the task."""
        self.report(Placed(task, attempt, worker, HOST))

    def end(
        self, task: int, outcome: Outcome = Outcome.SUCCEEDED, *, exit_code: int | None = 0, reason: str = "",
        cached: bool = False, out: str = "", err: str = "", missing: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        """Say that the task ended, unless it has been said."""
        if self.submitted.pop(task, None) is None:
            return
        log = tuple(Piece(stream, 0.0, text) for stream, text in ((1, out), (2, err)) if text)
        result = Result(outcome, exit_code, reason=reason, log=log, missing=missing)
        attempts = (Attempt(1, "w1", HOST, outcome.value, reason),)
        self.report(Ended(task, result, cached, "w1", HOST, 0.0, attempts))

    def hold(
        self, task: int, *, offered: bool = False, ever: bool = False, reason: str = "gcc 12.2.0"
    ) -> None:
        """Say that nothing can run the task."""
        obstacles = (Obstacle("worker", "w1", reason),) if reason else ()
        self.report(Held((task,), self.submitted[task].need, obstacles, offered, ever))

    def abandon(self) -> None:
        """Cancel everything."""
        self.cancel((), "interrupted")

    def status(self) -> Status:
        """Return an empty farm."""
        return Status(self.name, "0", 0.0, (), (), 0, 0)

    def explain(self, task: int) -> Explanation:
        """Know nothing."""
        return Explanation(str(task), "unknown")

    def close(self) -> None:
        """Note it."""
        self.closed = True


def _end_cancelled(backend: ScriptedBackend, tasks: tuple[int, ...], reason: str) -> None:
    for task in tasks:
        backend.end(task, Outcome.CANCELLED, exit_code=None, reason=reason)


class FolderBackend(ScriptedBackend):
    """Runs every submission with `subprocess` in a fresh folder, and brings the outputs back."""

    def __init__(self, *, slots: int = 2, pools: Sequence[Pool] | None = None) -> None:
        super().__init__(pools if pools is not None else POOLS, name="local")
        self._queue: queue.SimpleQueue[Submission | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(slots)]
        self._processes: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()

    def start(self, sink: Sink) -> None:
        """Start the threads."""
        super().start(sink)
        for thread in self._threads:
            thread.start()

    def submit(self, submissions: Sequence[Submission]) -> None:
        """Queue what somebody offers; say so of the rest."""
        super().submit(submissions)
        for submission in submissions:
            if any(self._fits(each.offer, submission) for each in self.pools):
                self._queue.put(submission)
            else:
                names = [f"{each.offer.capability} {each.offer.version}" for each in self.pools]
                self.hold(submission.task, reason=", ".join(names) or "it offers nothing")

    @staticmethod
    def _fits(offer: Offer, submission: Submission) -> bool:
        need = submission.need
        return offer.capability == need.capability and satisfies(offer.version, need.version)

    def cancel(self, tasks: Sequence[int], reason: str) -> None:
        """End the processes; every task is reported as cancelled."""
        super().cancel(tasks, reason)
        with self._lock:
            for process in self._processes:
                _end(process)

    def close(self) -> None:
        """Stop the threads."""
        super().close()
        for _ in self._threads:
            self._queue.put(None)
        with self._lock:
            for process in self._processes:
                _end(process)
        for thread in self._threads:
            thread.join(5)

    def _work(self) -> None:
        while (submission := self._queue.get()) is not None:
            if submission.task not in self.submitted:
                continue
            self.place(submission.task)
            with tempfile.TemporaryDirectory(prefix="cf-test-") as folder:
                result = self._run(submission, decode_action(submission.action), Path(folder))
            if self.submitted.pop(submission.task, None) is not None:
                attempts = (Attempt(1, "w1", HOST, result.outcome.value, result.reason),)
                self.report(Ended(submission.task, result, False, "w1", HOST, 0.0, attempts))

    def _run(self, submission: Submission, action: Action, folder: Path) -> Result:
        begun = time.monotonic()
        _lay_out(submission, action, folder)
        log: list[Piece] = []
        for command in action.commands:
            argv = ["/bin/sh", "-e", "-c", command] if isinstance(command, str) else list(command)
            code, pieces = self._command(submission.task, argv, dict(action.env), folder)
            self.report(Printed(submission.task, 1, pieces))
            log += pieces
            if code:
                return _result(Outcome.FAILED, code, log, begun)
        outputs, missing = _collect(submission, action, folder)
        if missing:
            reason = "\n".join(f"declared target {name} was not produced" for name in missing)
            return _result(Outcome.FAILED, 0, log, begun, reason, missing=missing)
        return _result(Outcome.SUCCEEDED, 0, log, begun, outputs=outputs)

    def _command(
        self, task: int, argv: list[str], env: dict[str, str], folder: Path
    ) -> tuple[int, tuple[Piece, ...]]:
        env = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", **env}
        with self._lock:  # so that `cancel` and `close` meet it either before its start or in the set
            if task not in self.submitted:
                return -signal.SIGKILL, ()
            try:
                process = subprocess.Popen(
                    argv, cwd=folder, env=env, text=True, process_group=0,
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                )  # fmt: skip
            except OSError as error:
                return 127, (Piece(2, 0.0, f"{argv[0]}: {error.strerror}\n"),)
            self._processes.add(process)
        out, err = process.communicate()
        with self._lock:
            self._processes.discard(process)
        pieces = tuple(Piece(stream, 0.0, text) for stream, text in ((1, out), (2, err)) if text)
        return process.returncode, pieces


def _end(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _lay_out(submission: Submission, action: Action, folder: Path) -> None:
    for entry in action.inputs:
        place = folder / entry.path
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(submission.sources[entry.digest], place)
        place.chmod(0o755 if entry.executable else 0o644)
    for output in action.outputs:
        (folder / output).parent.mkdir(parents=True, exist_ok=True)


def _collect(
    submission: Submission, action: Action, folder: Path
) -> tuple[tuple[FileEntry, ...], tuple[str, ...]]:
    missing, entries = [], []
    for output in action.outputs:
        names = glob.glob(output, root_dir=folder, recursive=True)
        if not names:
            missing.append(output)
        for name in names:
            source, place = folder / name, submission.project / name
            if source.is_dir():
                shutil.copytree(source, place, dirs_exist_ok=True)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, place)
            entries.append(
                FileEntry(name, hashlib.sha256(source.read_bytes()).digest(), source.stat().st_size)
            )
    return tuple(entries), tuple(missing)


def _result(
    outcome: Outcome, code: int, log: Sequence[Piece], begun: float, reason: str = "", *,
    outputs: tuple[FileEntry, ...] = (), missing: tuple[str, ...] = (),
) -> Result:  # fmt: skip
    return Result(
        outcome, code, reason=reason, outputs=outputs, log=tuple(log), missing=missing,
        run_s=time.monotonic() - begun,
    )  # fmt: skip


def _is_backend(backend: FolderBackend) -> Backend:
    return backend  # for the type checker: the doubles must not fall behind the protocol
