"""Messages to bytes and back.

A frame holds a list of messages, so that one system call, one encryption and one wake-up carry many.
Raises `ProtocolError` and nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated

import msgspec

from computefarm.errors import ProtocolError
from computefarm.messages import Action, Digest, FromManager, ToManager

HEADER = b"CFARM1"
"""First frame of every message; a stranger's traffic is recognised by its absence."""

MAX_FRAME = 4 * 1024 * 1024
"""Bytes; a batch is split by the sender before it gets this long."""

BATCH = 10_000
"""Messages in one frame to a manager, at most; each of them costs it time."""

MAX_ACTION = 3 * 1024 * 1024
"""Bytes of one encoded action, at most: it must fit into a frame, in company."""

CHUNK = 1024 * 1024
"""Bytes of blob data in one frame, at most."""

_encoder = msgspec.msgpack.Encoder()
_to_manager: msgspec.msgpack.Decoder[list[ToManager]] = msgspec.msgpack.Decoder(
    Annotated[list[ToManager], msgspec.Meta(max_length=BATCH)]
)
_from_manager = msgspec.msgpack.Decoder(list[FromManager])
_action = msgspec.msgpack.Decoder(Action)


def encode(messages: Sequence[ToManager | FromManager]) -> bytes:
    """Return one frame body for `messages`."""
    return _encoder.encode(messages)


def decode_to_manager(body: bytes) -> list[ToManager]:
    """Return the messages of a frame that a manager received."""
    try:
        return _to_manager.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"not a message for a manager: {error}") from error


def decode_from_manager(body: bytes) -> list[FromManager]:
    """Return the messages of a frame that a client, worker or monitor received."""
    try:
        return _from_manager.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"not a message from a manager: {error}") from error


def encode_action(action: Action) -> bytes:
    """Return the canonical bytes of `action`; equal actions give equal bytes."""
    return _encoder.encode(action)


def decode_action(data: bytes) -> Action:
    """Return the action that `data` encodes."""
    try:
        return _action.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"not an action: {error}") from error


def action_digest(data: bytes) -> Digest:
    """Return the digest that names an encoded action in the result cache."""
    return hashlib.sha256(data).digest()
