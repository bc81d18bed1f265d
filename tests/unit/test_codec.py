from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from computefarm import codec
from computefarm.errors import ProtocolError
from computefarm.messages import (
    Action,
    FileEntry,
    Finished,
    Heartbeat,
    Hello,
    Outcome,
    Register,
    Result,
    Settled,
    Submit,
)

DECODERS = (codec.decode_to_manager, codec.decode_from_manager, codec.decode_action)


@given(st.binary(max_size=200))
def test_garbage_raises_protocol_errors_and_nothing_else(body: bytes) -> None:
    for decode in DECODERS:
        with contextlib.suppress(ProtocolError):
            decode(body)


@given(st.data())
def test_damaged_messages_raise_protocol_errors_and_nothing_else(data: st.DataObject) -> None:
    body = bytearray(
        codec.encode([Finished(7, 1, Result(Outcome.SUCCEEDED, outputs=(FileEntry("a", b"x" * 32, 1),)))])
    )
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    del body[data.draw(st.integers(0, len(body))) :]

    for decode in DECODERS:
        with contextlib.suppress(ProtocolError):
            decode(bytes(body))


@pytest.mark.parametrize("depth", [100, 100_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    for decode in DECODERS:
        with pytest.raises(ProtocolError):
            decode(b"\x91" * depth)


def test_messages_come_back_as_they_were() -> None:
    up = [Hello(1, "1", "worker", "b"), Heartbeat(), Register("w", "h", "h", "p", 2, ()), Submit("s", (), ())]

    assert codec.decode_to_manager(codec.encode(up)) == up
    assert codec.decode_from_manager(codec.encode([Settled(((1, 2),))])) == [Settled(((1, 2),))]


def test_a_newer_neighbours_extra_field_is_passed_over() -> None:
    body = codec.encode([Heartbeat()])
    extended = b"\x91\x94" + body[2:] + b"\x01\xa3new"

    assert codec.decode_to_manager(extended) == [Heartbeat()]


def test_equal_actions_have_one_digest_and_different_ones_do_not() -> None:
    one, same, other = (codec.encode_action(Action("gcc", (text,))) for text in ("a", "a", "b"))

    assert codec.action_digest(one) == codec.action_digest(same) != codec.action_digest(other)
    assert codec.decode_action(one) == Action("gcc", ("a",))
