"""The content of files, in both directions."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from .base import Count, Digest, Message


class Slice(Message, frozen=True):
    """Where a run of bytes belongs."""

    digest: Digest
    size: Count
    """Of the whole blob."""
    offset: Count
    length: Count


class Chunk(Message, frozen=True, tag="chunk"):
    """Blob data: the bytes of all slices, one after the other, follow in the next frame (≤ 1 MiB)."""

    slices: Annotated[tuple[Slice, ...], Meta(max_length=1000)]


class Fetch(Message, frozen=True, tag="fetch"):
    """Send me these blobs; unknown ones are named in `Absent`."""

    slices: Annotated[tuple[Slice, ...], Meta(max_length=1000)]
    """`length` is how much is wanted from `offset`; the receiver asks again for the rest."""


class Absent(Message, frozen=True, tag="absent"):
    """These blobs cannot be had here."""

    digests: tuple[Digest, ...]


class Got(Message, frozen=True, tag="got"):
    """Flow control: so many bytes of chunks have been taken since the last Got."""

    received: int
