"""One attempt in a worker's hands."""

from __future__ import annotations

from typing import Any

import msgspec

from computefarm.messages import Action, Digest, Outcome, Result, Run, TaskKey
from computefarm.sandbox.lines import BoundedLog, LineSplitter

from .flow import Flow

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
        "flow",
        "halted",
        "held_until",
        "lines",
        "log",
        "missing",
        "over",
        "peak",
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
        self.flow: Flow | None = None
        self.held_until = 0.0
        """Lines beyond the allowance are not sent before then."""
        self.lines = 0
        """Printed so far."""
        self.strays = False
        self.seq = 0
        self.peak = 0
        """Bytes of memory seen in use by all its processes together; 0 when nobody looked."""
        self.over = ""
        """How it passed the memory it had declared."""


def with_outcome(result: Result, outcome: Outcome, reason: str, **changes: Any) -> Result:
    """Return `result` with another outcome and reason, and whatever else changes."""
    return msgspec.structs.replace(result, outcome=outcome, reason=reason, **changes)
