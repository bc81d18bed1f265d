from __future__ import annotations

import pytest

from computefarm.errors import ProtocolError
from computefarm.worker_api.resident import Ask, Frames, Ready, Told, frame, pack, read_ask, read_told, unpack


def test_frames_are_found_however_the_stream_is_cut() -> None:
    told = [Told(1, "ok", values=b"x" * 300), Ready((("k", "18-40"),)), Told(2, "error", "no")]
    stream = b"".join(frame(message) for message in told)
    for step in (1, 3, 7, len(stream)):
        frames = Frames()
        found = [body for at in range(0, len(stream), step) for body in frames.feed(stream[at : at + step])]
        assert [read_told(body) for body in found] == told


def test_a_question_comes_through() -> None:
    (body,) = Frames().feed(frame(Ask(7, "mc.sum", b"body", 1.5)))

    assert read_ask(body) == Ask(7, "mc.sum", b"body", 1.5)


def test_junk_from_a_process_is_an_error_of_ours() -> None:
    with pytest.raises(ProtocolError):
        Frames().feed(b"\xff\xff\xff\xff")
    with pytest.raises(ProtocolError):
        read_told(b"\xc1")


def test_equal_requests_give_equal_bytes_and_large_numbers_survive() -> None:
    one = {"b": [1, 1 << 79, -(1 << 70)], "a": b"x", "c": {"y": 2, "x": 1 << 64}}
    other = {"c": {"x": 1 << 64, "y": 2}, "a": b"x", "b": [1, 1 << 79, -(1 << 70)]}

    assert pack(one) == pack(other)
    assert unpack(pack(one)) == one
