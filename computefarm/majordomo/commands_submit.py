"""`majordomo submit`: one ad-hoc task, as if its command ran here."""

from __future__ import annotations

import getopt
import os
import queue
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from computefarm.backends.base import (
    Backend,
    Broken,
    Ended,
    Event,
    Held,
    Link,
    Offered,
    Placed,
    Printed,
    Submission,
)
from computefarm.errors import NothingOffers, UsageError
from computefarm.messages import Outcome, Piece, Pool, Result
from computefarm.settings import Settings, load_settings

from .adhoc import NUMBER, completed, submission
from .commands_doit import BROKEN_PIPE
from .failures import reason_of
from .look import FARM, Look, option
from .patience import GRACE, Patience, nothing_offers
from .stopping import Stopping

STOP_S = 2.0
"""How long an interrupted command is given to be ended by its worker."""

NOTICE_S = 0.5
"""The longest wait without a look around."""


class Wake(msgspec.Struct):
    """Look up: a signal came."""


class SubmitCommand(Look):
    """`majordomo submit`."""

    name = "submit"
    doc_purpose = "run one command on the farm, as if it ran here"
    doc_usage = "--capability NAME [OPTION ...] -- COMMAND [ARGUMENT ...]"
    doc_description = (
        "Its output is shown as it comes, and its exit code is returned. One word alone is a line for the "
        "shell; several are a program and its arguments. Only the inputs are there, only outputs come back."
    )
    cmd_options = (
        option("capability", "", "what the worker must offer: gcc, or 'gcc>=9'"),
        option("env", "e", "NAME=VALUE for the command, or NAME to pass on; repeatable", list, []),
        option("input", "", "a file or folder below this folder that it reads; repeatable", list, []),
        option("output", "", "a file, folder or pattern that it makes; repeatable", list, []),
        option("timeout", "", "end it after this time: 5m"),
        option("cpus", "", "slots that it takes (default: as the capability's file says)", int, None),
        option("memory", "", "memory that must be available: 2GiB"),
        option("wait-workers", "", "how long to wait for a worker that offers it: 10m"),
        FARM,
    )
    parse = staticmethod(getopt.getopt)
    """Options end at the command: what follows it is its own."""
    backend: ClassVar[Callable[..., Backend] | None] = None
    """Tests put a double here."""

    def look(self, options: dict[str, Any], names: list[str]) -> int:
        """Submit the command and follow it to its end."""
        root = Path.cwd()
        if not options["capability"]:
            raise UsageError(
                "--capability is needed: what the worker must offer",
                hint="majordomo capabilities    # what there is",
            )
        settings = self.run_settings(options)
        cpus = options["cpus"]
        task = submission(
            names,
            root=root,
            capability=options["capability"],
            environment=options["env"],
            inputs=options["input"],
            outputs=options["output"],
            cpus=cpus,
            memory=options["memory"],
            timeout=options["timeout"],
        )
        waits = settings.origins.get("wait_workers_s") == "--wait-workers"
        patience = Patience(
            settings.wait_workers_s if waits else None, vanished_s=settings.wait_workers_s, grace=GRACE
        )
        try:
            return Following(self._backend(settings, root), patience).run(
                task, lambda pools: completed(task, pools, cpus=cpus, memory=options["memory"])
            )
        except BrokenPipeError:
            # The reader has gone, as in `majordomo submit … | head`; its command has been ended too.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return BROKEN_PIPE

    def run_settings(self, options: dict[str, Any]) -> Settings:
        """Return the settings of this folder, the command line's first."""
        flags = {"farm": options["farm"] or None, "wait_workers": options["wait-workers"] or None}
        return load_settings(flags, self.environ, self.home, Path.cwd())

    def _backend(self, settings: Settings, root: Path) -> Backend:
        from computefarm.backends.choice import choose

        from .command_run import run_id

        make = type(self).backend or choose
        return make(home=self.home, settings=settings, session=run_id(), project=root)


class Following:
    """One task from submission to its end, its output passed on as it comes."""

    def __init__(self, backend: Backend, patience: Patience) -> None:
        self._backend = backend
        self._patience = patience
        self._events: queue.SimpleQueue[Event | Wake] = queue.SimpleQueue()
        self._stopping = Stopping(lambda: self._events.put(Wake()))
        self._stopping.hurry = backend.abandon
        self._shown = -1
        """The newest piece of the present attempt that has been printed."""

    def run(self, task: Submission, complete: Callable[[Iterable[Pool]], Submission] | None = None) -> int:
        """Return the command's own exit code, or one of ours when it has none.

        `complete` returns the task as it is to be submitted where this is offered.
        """
        from computefarm.host.pids import OwnProcesses

        own = OwnProcesses()
        own.register()
        with self._stopping:
            try:
                self._backend.start(self._events.put)
                self._submit(task, complete)
                ended = self._until_ended()
            finally:
                self._backend.close()
                own.forget()
        if self._stopping.code:
            say("interrupted" if self._stopping.code == 130 else "terminated")
            return self._stopping.code
        assert ended is not None
        self._show(ended.result.log)
        return code_of(ended, say)

    def _submit(self, task: Submission, complete: Callable[[Iterable[Pool]], Submission] | None) -> None:
        offered = self._backend.offers(task.need.capability)
        self._patience.settled(offered.settled, time.monotonic())
        if offered.missing:
            raise NothingOffers(
                f"this machine cannot offer {task.need.capability}: {'; '.join(offered.missing)}",
                hint="see what it could: cf-worker --probe",
            )
        if complete is not None:
            task = complete(offered.pools)
        self._backend.submit([task])

    def _until_ended(self) -> Ended | None:
        """Return how the task ended; None when it was interrupted and the farm took too long to say."""
        deadline: float | None = None
        while True:
            if self._stopping.code and deadline is None:
                deadline = time.monotonic() + STOP_S
                self._backend.cancel((), "interrupted")
            if deadline is not None and time.monotonic() >= deadline:
                return None
            try:
                event = self._events.get(timeout=self._wait_s())
            except queue.Empty:
                event = Wake()
            if isinstance(event, Ended):
                return event
            self._handle(event)
            self._lose_patience()

    def _wait_s(self) -> float:
        due = self._patience.next_deadline()
        return NOTICE_S if due is None else min(NOTICE_S, max(0.0, due - time.monotonic()))

    def _lose_patience(self) -> None:
        for _, event in self._patience.expired(time.monotonic()):
            raise NothingOffers(
                nothing_offers(event.need, event.obstacles),
                hint=f"start one where it is installed: cf-worker --capability {event.need.capability}; "
                "see: majordomo status",
            )

    def _handle(self, event: Event | Wake) -> None:
        match event:
            case Printed(pieces=pieces):
                self._show(pieces)
            case Placed():
                self._patience.release((NUMBER,))
                self._shown = -1
                if event.attempt > 1:
                    say(f"attempt {event.attempt} on {event.hostname} ({event.worker})")
            case Held():
                if text := self._patience.hold(event, time.monotonic()):
                    say(text)
            case Offered(settled=settled):
                self._patience.settled(settled, time.monotonic())
            case Link(up, text):
                if not up and self._backend.name != "local":
                    say(text)
            case Broken(error):
                raise error
            case _:
                pass

    def _show(self, pieces: Sequence[Piece]) -> None:
        """Print what has not been printed; the result's own copy of the end fills a gap."""
        for piece in pieces:
            if piece.seq <= self._shown:
                continue
            if piece.seq > self._shown + 1:
                say("some output is left out here: it was more than is passed on while a task runs")
            self._shown = piece.seq
            stream = sys.stdout if piece.stream == 1 else sys.stderr
            stream.write(piece.text)
            stream.flush()


def code_of(ended: Ended, tell: Callable[[str], None]) -> int:
    """Return the exit code that stands for an end; say what the code alone does not."""
    result: Result = ended.result
    if result.outcome is Outcome.SUCCEEDED:
        return 0
    if result.outcome is Outcome.FAILED and result.exit_code:
        if hint := _undeclared(result):
            tell(hint)
        return result.exit_code
    place = ended.hostname or ended.worker
    tell(f"on {place}: {reason_of(result)}" if place else reason_of(result))
    if result.outcome is Outcome.FAILED and result.signal is not None:
        return 128 + result.signal
    return 1


def _undeclared(result: Result) -> str:
    from computefarm.sandbox.undeclared import undeclared_file

    text = "".join(piece.text for piece in result.log)
    name = undeclared_file(text, os.path.isfile, frozenset())
    return f"its output names {name}, which is here but was not sent: add --input {name}" if name else ""


def say(text: str) -> None:
    """Say something that is not the command's."""
    sys.stdout.flush()
    sys.stderr.write(f"majordomo: {text}\n")
    sys.stderr.flush()
