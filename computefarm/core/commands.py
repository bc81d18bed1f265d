"""What the manager's core asks its shell to do. The shell obeys in order and reports back with facts."""

from __future__ import annotations

import msgspec

from computefarm.messages import Digest, FromManager, Result, TaskKey

PeerId = str
"""The shell's name for one connected process; never chosen by the peer."""


class Send(msgspec.Struct, frozen=True, gc=False):
    """Send `message` to `peer` on its control connection."""

    peer: PeerId
    message: FromManager


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


Command = Send | LookUp | Keep | Pin | Unpin | Drop


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


Fact = Found | NotFound | Arrived | Vanished | Gone
