"""What the manager's core asks its shell to do. The shell obeys in order and reports back with facts."""

from __future__ import annotations

import msgspec

from computefarm.messages import Digest, FromManager, Result, TaskKey

from .entries import JournalEntry

PeerId = str
"""The shell's name for one connected process; never chosen by the peer."""


class Send(msgspec.Struct, frozen=True, gc=False):
    """Send `message` to `peer` on its control connection."""

    peer: PeerId
    message: FromManager
    after: int = 0
    """Held back until the journal is synced up to the `Record` with this number; others may overtake it."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """Append `entry` to the journal."""

    number: int
    """Counts the records of this process from 1."""
    entry: JournalEntry
    urgent: bool = False
    """A `Send` waits for it: sync soon. Others ride along with the next sync."""


class LookUp(msgspec.Struct, frozen=True, gc=False):
    """Search the result cache for `digest`; report with `Found` or `NotFound`."""

    key: TaskKey
    digest: Digest


class Keep(msgspec.Struct, frozen=True, gc=False):
    """Put an accepted result into the result cache under the action's digest."""

    digest: Digest
    result: Result


class Pin(msgspec.Struct, frozen=True, gc=False):
    """These blobs are in use: never evict them until as many `Unpin`s have come."""

    digests: tuple[Digest, ...]


class Unpin(msgspec.Struct, frozen=True, gc=False):
    """One user less for each of these blobs."""

    digests: tuple[Digest, ...]


class Drop(msgspec.Struct, frozen=True, gc=False):
    """Forget this peer's connection: it is dead or was refused."""

    peer: PeerId
    reason: str


Command = Send | Record | LookUp | Keep | Pin | Unpin | Drop


class Found(msgspec.Struct, frozen=True, gc=False):
    """Fact: the result cache answers a `LookUp`."""

    key: TaskKey
    result: Result


class NotFound(msgspec.Struct, frozen=True, gc=False):
    """Fact: the result cache does not know the action of a `LookUp`."""

    key: TaskKey


class Arrived(msgspec.Struct, frozen=True, gc=False):
    """Fact: these blobs are now in the store."""

    digests: tuple[Digest, ...]


class Vanished(msgspec.Struct, frozen=True, gc=False):
    """Fact: these blobs turned out to be damaged or gone, and are no longer in the store."""

    digests: tuple[Digest, ...]


class Gone(msgspec.Struct, frozen=True, gc=False):
    """Fact: the transport knows that this peer's connection has ended."""

    peer: PeerId


class JournalFailed(msgspec.Struct, frozen=True, gc=False):
    """Fact: the journal cannot be written (its disk is full, say); nothing new can be promised."""

    text: str


class JournalWorks(msgspec.Struct, frozen=True, gc=False):
    """Fact: the journal can be written again; what was recorded meanwhile has been synced."""


Fact = Found | NotFound | Arrived | Vanished | Gone | JournalFailed | JournalWorks
