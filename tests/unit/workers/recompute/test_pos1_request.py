"""What a request may say, and that what it must not say is refused in words."""

from __future__ import annotations

from typing import Any

import pytest
from computefarm.workers.recompute.kernels.pos1 import ChiaPos1
from computefarm.workers.recompute.kernels.pos1_known import KNOWN, request_of
from computefarm.workers.recompute.kernels.pos1_plain import line_point
from computefarm.workers.recompute.kernels.pos1_request import answers, parse, shape

from computefarm.worker_api.kernel import BadRequest


def test_bytes_and_hex_are_the_same_request() -> None:
    raw = request_of(KNOWN, 16)
    hexed = {**raw, "plot_id": KNOWN.plot_id.hex(), "challenge": "0x" + KNOWN.challenge.hex()}

    assert parse(raw) == parse(hexed)
    assert answers(parse(raw), KNOWN.xs())


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"kernel": "chia.pos2"}, "chia.pos1"),
        ({"kernel": None}, "`kernel` is missing"),
        ({"v": 2}, "version 1"),
        ({"op": "steal"}, "proof or quality"),
        ({"k": 17}, "from 18 to 40"),
        ({"k": "32"}, "integer"),
        ({"k": True}, "integer"),
        ({"d": 27}, "from 1 to 26"),
        ({"k": 18, "d": 18}, "fewer bits"),
        ({"form": "lp64"}, "lp32 or w16"),
        ({"plot_id": "zz"}, "hex"),
        ({"plot_id": b"short"}, "5 bytes"),
        ({"plot_id": None}, "missing"),
        ({"data": [1] * 31}, "31 numbers"),
        ({"data": "abc"}, "list of integers"),
        ({"data": [1.5] * 32}, "integer"),
        ({"data": [-1] * 32}, "31 bits"),
        ({"data": [2**31] * 32}, "31 bits"),
        ({"data": [2**31 - 1] * 32}, "no two numbers"),
        ({"challenge": b"1"}, "challenge"),
        ({"device": "tpu"}, "any, cpu or gpu"),
        ({"op": "quality", "form": "t2lp", "data": [1], "challenge": None}, "challenge"),
        ({"op": "quality", "form": "t2lp", "data": [1, 2, 3]}, "1 (the entry) or 2"),
    ],
)
def test_a_bad_request_is_refused_in_words(change: dict[str, Any], word: str) -> None:
    raw = {key: value for key, value in {**request_of(KNOWN, 16), **change}.items() if value is not None}

    with pytest.raises(BadRequest, match=word.replace("(", r"\(").replace(")", r"\)")):
        parse(raw)


def test_an_ambiguous_line_point_has_two_readings() -> None:
    data = [line_point(5, 5), *[line_point(9, 3)] * 31]

    leaves = shape(parse({**request_of(KNOWN, 22), "data": data})).leaves

    assert leaves[0].pairs == ((6, 0), (5, 5))
    assert leaves[1].pairs == ((9, 3),)


def test_ordered_words_of_equal_value_have_two_readings() -> None:
    w = 3 << 8 | 7
    data = [line_point(w, w), *[line_point(1000, 3)] * 15]

    form = shape(parse({**request_of(KNOWN, 24), "form": "w16", "data": data}))

    assert form.leaves[:3][0].pairs == (((w + 1) & 255, (w + 1) >> 8),)
    assert [job for job in form.jobs if job[2] == 0] == [(0, 1, 0), (2, 2, 0)]


def test_parts_are_all_leaves_once_and_cost_grows_with_d() -> None:
    kernel = ChiaPos1()
    request = kernel.parse(request_of(KNOWN, 16))

    parts = kernel.split(request, 5)

    assert [n for part in parts for n in range(part.first, part.last)] == list(range(32))
    larger = kernel.cost(kernel.parse(request_of(KNOWN, 22)))
    assert larger.cpu_s > 30 * kernel.cost(request).cpu_s
    assert larger.memory <= 60 * 2**22 + 150 * 2**20


def test_an_answer_is_checked_without_numba() -> None:
    from computefarm.worker_api.kernel import Result

    kernel = ChiaPos1()
    request = kernel.parse(request_of(KNOWN, 16))
    right = {"proof": KNOWN.proof, "quality": KNOWN.quality}

    assert kernel.verify(request, Result("ok", right))
    assert not kernel.verify(request, Result("ok", {**right, "quality": bytes(32)}))
    assert not kernel.verify(request, Result("ok", {**right, "proof": bytes(256)}))
    assert not kernel.verify(request, Result("ok", {**right, "proof": KNOWN.proof[:-1]}))
    assert not kernel.verify(request, Result("ok", {}))
    other = kernel.parse({**request_of(KNOWN, 16), "challenge": bytes(32)})
    assert not kernel.verify(other, Result("ok", right))
