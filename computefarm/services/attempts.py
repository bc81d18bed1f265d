"""One attempt in a worker's hands."""

from __future__ import annotations

from typing import Any

import msgspec

from computefarm.messages import Action, Digest, Outcome, Piece, Result, Run, TaskKey
from computefarm.sandbox.lines import BoundedLog, LineSplitter

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
        "over",
        "peak",
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
        self.peak = 0
        """Bytes of memory seen in use by all its processes together; 0 when nobody looked."""
        self.over = ""
        """How it passed the memory it had declared."""


def with_outcome(result: Result, outcome: Outcome, reason: str, **changes: Any) -> Result:
    """Return `result` with another outcome and reason, and whatever else changes."""
    return msgspec.structs.replace(result, outcome=outcome, reason=reason, **changes)
