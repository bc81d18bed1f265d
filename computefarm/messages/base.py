"""What all messages are made of."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

PROTOCOL = 1
"""Version of the dialogue; a manager refuses another one, by name."""


Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
"""The 32 bytes of a sha256; anything else is no message."""


Count = Annotated[int, Meta(ge=0, le=1 << 53)]
"""A number of bytes."""


Short = Annotated[str, Meta(max_length=255)]
"""A name: what many others are told must not be long."""


MANY = Meta(max_length=100_000)
"""Of lists whose entries are small: a short frame must not become a lot of memory or work."""


TaskKey = int
"""A manager's own number for a task, unique within one epoch of that manager."""


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of everything on the wire."""
