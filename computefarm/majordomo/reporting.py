"""The seam between the runner and whoever tells people about a run: progress, history, `why`.

The runner calls every watcher on its main thread, in the order things happened.
A watcher must return quickly and must not raise: what it cannot show, it drops.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from computefarm.logs.records import Record
from computefarm.messages import Attempt, Need, Obstacle, Outcome, Piece


class TaskRecord(msgspec.Struct, frozen=True, gc=False):
    """How one task of a run ended, with the fields of `majordomo history --json` first."""

    task: str
    outcome: Outcome
    capability: str = ""
    """Empty for a local task."""
    host: str = ""
    worker: str = ""
    attempt: int = 0
    """The attempt that counted; 0 when none was made."""
    attempts: tuple[Attempt, ...] = ()
    cached: bool = False
    reason: str = ""
    """For people; empty on success."""
    exit_code: int | None = None
    queued_s: float = 0.0
    run_s: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    started_at: float = 0.0
    """Wall-clock; 0 when the task was never started."""
    ended_at: float = 0.0
    cpu_s: float = 0.0
    peak_memory: int = 0
    """Bytes."""
    rerun: tuple[str, ...] = ()
    """Why it was not up to date, one sentence each; empty when it was."""
    log: tuple[Piece, ...] = ()
    """The output that came with the result; a task that printed live has it there too."""
    log_path: str = ""
    """Filled in by whoever keeps the logs; the runner leaves it empty."""
    others: tuple[str, ...] = ()
    """Toolchains offered for its capability that the run did not use."""
    kind: str = ""
    """What kind of failure it is, in the words of `messages.Result.kind`; empty on success."""


class RunWatcher(Protocol):
    """Whoever wants to know what happens in a run."""

    def run_started(self, run_id: str, total: int, selected: Sequence[str], backend_name: str) -> None:
        """Begin: `total` tasks are known so far (groups left out), `selected` were asked for."""

    def task_queued(self, name: str) -> None:
        """Note that a farm task was handed to the backend, or that a local task waits for its turn."""

    def task_placed(self, name: str, worker: str, hostname: str, attempt: int) -> None:
        """Note that an attempt was given to a worker (`worker` is empty for a local task)."""

    def task_printed(self, name: str, pieces: Sequence[Piece]) -> None:
        """Take output of a running task."""

    def task_ended(self, record: TaskRecord) -> None:
        """Note how a task ended; called once for every task but groups."""

    def tasks_up_to_date(self, tasks: Sequence[tuple[str, str]]) -> None:
        """Note tasks (name, capability) that had nothing to do; `task_ended` is not called for them."""

    def held(
        self, names: Sequence[str], need: Need, obstacles: Sequence[Obstacle], offered: bool, ever: bool
    ) -> None:
        """Note that nothing can run these tasks at present; no obstacles means it is over."""

    def note(self, text: str) -> None:
        """Say one thing about the whole run, once."""

    def overheard(self, record: Record, text: str) -> None:
        """Take what a daemon in this process has logged; `text` is the same for people."""

    def run_ended(self, exit_code: int) -> None:
        """End; nothing is called afterwards."""
