"""Files of requests, line by line."""

from __future__ import annotations

import io

import pytest

from computefarm.worker_api import lines
from computefarm.worker_api.lines import read_lines


def test_every_line_has_its_number_and_empty_ones_do_not_count() -> None:
    found = list(read_lines(io.BytesIO(b'{"id": 1}\n\n  \n{"id": "x"}')))

    assert [(one.number, one.id, one.trouble) for one in found] == [(1, 1, ""), (4, "x", "")]


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (b"nonsense", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": -Infinity}', "no number"),
        (b"\xff\xfe", "not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_what_is_no_request_says_why(line: bytes, word: str) -> None:
    bad, good = read_lines(io.BytesIO(line + b'\n{"id": 2}\n'))

    assert (bad.number, bad.id) == (1, "")
    assert word in bad.trouble
    assert (good.number, good.trouble) == (2, "")


def test_a_line_without_end_is_not_read_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LIMIT", 1 << 10)

    long, good = read_lines(io.BytesIO(b"x" * 10_000 + b'\n{"id": 2}\n'))

    assert "more than" in long.trouble
    assert (good.number, good.id) == (2, 2)
