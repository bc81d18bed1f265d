"""`hash.search` and `mc.sum`: the interface holds for kernels of quite another kind."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from computefarm.worker_api.kernel import BadRequest, Context, Result, answer, find, names

SEARCH = {"kernel": "hash.search", "prefix": "c0ffee", "start": 7, "count": 40_000, "bits": 11}
SUM = {"kernel": "mc.sum", "seed": 2**64 - 3, "start": 5, "blocks": 10_007, "form": "pi"}


@pytest.mark.parametrize("raw", [SEARCH, SUM, {**SUM, "form": "mean"}], ids=["search", "pi", "mean"])
def test_any_split_gives_the_same_answer(context: Context, raw: dict[str, Any]) -> None:
    kernel = find(raw["kernel"])
    kernel.warmup(context)
    whole = answer(kernel, raw, context)
    request = kernel.parse(raw)

    for parts in (2, 7, 64):
        assert (
            kernel.merge(request, [kernel.run(part, context) for part in kernel.split(request, parts)])
            == whole
        )
    assert whole.status == "ok"
    assert kernel.verify(request, whole)
    key = "hashes" if raw is SEARCH else "total"
    assert not kernel.verify(request, Result("ok", {**whole.values, key: [] if raw is SEARCH else "1"}))


def test_a_search_finds_what_hashlib_finds(context: Context) -> None:
    found = answer(find("hash.search"), {**SEARCH, "limit": 1000}, context).values["numbers"]

    expected = [
        n
        for n in range(7, 40_007)
        if hashlib.sha256(b"\xc0\xff\xee" + n.to_bytes(8, "big")).digest() < b"\0\x20"
    ]
    assert found == expected


def test_draws_are_those_of_numpy(context: Context) -> None:
    np = pytest.importorskip("numpy")
    result = answer(find("mc.sum"), {**SUM, "form": "mean", "start": 1, "blocks": 500}, context)

    drawn = np.random.Philox(key=SUM["seed"], counter=0).random_raw(2000)
    assert int(result.values["total"]) == sum(int(value) >> 11 for value in drawn)


def test_an_unknown_kernel_is_refused_with_what_there_is() -> None:
    with pytest.raises(BadRequest, match=r"mc\.sum"):
        find("mc.sums")
    assert {"chia.pos1", "hash.search", "mc.sum"} <= set(names())
