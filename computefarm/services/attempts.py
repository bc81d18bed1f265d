"""One attempt in a worker's hands, and what its processes' end means."""

from __future__ import annotations

import signal
from typing import Any

import msgspec

from computefarm.messages import Action, Digest, Outcome, Piece, Result, Run, TaskKey
from computefarm.sandbox.lines import BoundedLog, LineSplitter
from computefarm.sandbox.spawner import Ended

Attempt = tuple[TaskKey, int]
"""Which task, and the how-manieth try."""


class Execution:
    """One attempt in hand."""

    __slots__ = (
        "action",
        "attempt",
        "begun",
        "bytes_in",
        "directory",
        "halted",
        "live_bytes",
        "log",
        "missing",
        "pending",
        "pending_bytes",
        "pending_since",
        "recalled",
        "run",
        "running",
        "seq",
        "splitters",
        "strays",
        "ticket",
    )

    def __init__(self, run: Run, action: Action, ticket: int) -> None:
        self.run = run
        self.attempt: Attempt = (run.key, run.attempt)
        self.action = action
        self.ticket = ticket
        self.directory: str | None = None
        self.running = False
        self.begun = False
        self.recalled: str | None = None
        self.halted: str | None = None
        self.missing: set[Digest] = set()
        self.bytes_in = 0
        self.splitters: dict[int, LineSplitter] = {}
        self.log: BoundedLog | None = None
        self.pending: list[Piece] = []
        self.pending_bytes = 0
        self.pending_since = 0.0
        self.live_bytes = 0
        self.strays = False
        self.seq = 0


def judge(execution: Execution, event: Ended) -> tuple[Outcome, str]:
    """Return outcome and reason of the commands, before outputs are looked at."""
    commands = execution.action.commands
    shown = commands[event.command] if event.command < len(commands) else ""
    command = shown if isinstance(shown, str) else " ".join(shown)
    if event.timed_out:
        return Outcome.TIMEOUT, f"timeout: ended after {execution.action.timeout_s:g} s: {command}"
    if execution.halted is not None:
        return Outcome.CANCELLED, execution.halted
    if event.error:
        return Outcome.FAILED, event.error
    if event.signal is not None:
        return Outcome.FAILED, f"killed by signal {event.signal} ({_signal_name(event.signal)}): {command}"
    if event.exit_code != 0:
        return Outcome.FAILED, f"exit status {event.exit_code}: {command}"
    return Outcome.SUCCEEDED, ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def with_outcome(result: Result, outcome: Outcome, reason: str, **changes: Any) -> Result:
    """Return `result` with another outcome and reason, and whatever else changes."""
    return msgspec.structs.replace(result, outcome=outcome, reason=reason, **changes)
