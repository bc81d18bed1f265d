"""What the manager writes down so that a crash loses nothing: the words of the journal.

Read back in order, they rebuild the tables; a task without `Forgotten` is still owed to its client.
A `Submitted` may come again for a key, and then replaces the earlier one: of two clients that shared a run
the first has left it to the second.
"""

from __future__ import annotations

import msgspec

from computefarm.messages import Done, Need, TaskKey, TaskSpec


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=False):
    """One line of the journal. Fields are only added, at the end, with a default."""


class Submitted(Entry, frozen=True, tag="submitted"):
    """A task was accepted from a client."""

    key: TaskKey
    session: str
    owner: str
    """Whose key submitted it."""
    spec: TaskSpec
    need: Need
    at: float
    """Wall clock, for people."""
    lease_s: float = 0.0
    """As in `Submit`."""
    epoch: str = ""
    """Of the manager that writes this: `key` names this task for it and for those after it."""


class Started(Entry, frozen=True, tag="started"):
    """An attempt was sent to a worker; its number is never used again for this task."""

    key: TaskKey
    attempt: int
    worker: str
    epoch: str
    at: float
    boot: str = ""
    """The worker's process: only it can have the attempt in hand."""
    retries: int = 0
    """How many more failures the task is allowed after this attempt."""


class Ended(Entry, frozen=True, tag="ended"):
    """A result was accepted and its client has not taken it yet."""

    key: TaskKey
    done: Done


class Cancelled(Entry, frozen=True, tag="cancelled"):
    """These tasks are wanted no more."""

    keys: tuple[TaskKey, ...]
    reason: str = ""


class Forgotten(Entry, frozen=True, tag="forgotten"):
    """Nothing is owed for these tasks any more: what the journal says of them is dead weight."""

    keys: tuple[TaskKey, ...]


JournalEntry = Submitted | Started | Ended | Cancelled | Forgotten
