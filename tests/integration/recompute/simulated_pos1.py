"""Check `chia.pos1` on a GPU that numba simulates, against plain Python: run with NUMBA_ENABLE_CUDASIM=1.

With NUMBA_DISABLE_JIT=1 nothing at all is compiled, which takes longer than all of this. Runs the functions below
whose names are given, and prints each when it has passed.
"""

from __future__ import annotations

import random
import sys
from itertools import product
from typing import Any

import numba
import numpy as np
import pytest
import to_ptx
from computefarm.workers.recompute.kernels import pos1_cuda, pos1_cuda_join, pos1_vram
from computefarm.workers.recompute.kernels import pos1_plain as plain
from computefarm.workers.recompute.kernels.cuda_jit import cuda
from computefarm.workers.recompute.kernels.pos1 import ChiaPos1
from computefarm.workers.recompute.kernels.pos1_chacha import key_words
from computefarm.workers.recompute.kernels.pos1_known import KNOWN, request_of
from computefarm.workers.recompute.kernels.pos1_request import Leaf, Pos1Request, Shape

from computefarm.worker_api.kernel import Context, DeadlinePassed, Result, TooLarge, answer

RANDOM = random.Random(20261121)
PLOT = RANDOM.randbytes(32)
Rows = list[tuple[int, ...]]


def values_of_x() -> None:
    """F1 for numbers that lie anywhere in words and blocks, and the lists that they are put on."""
    for k, bits, bucket in product((18, 25, 32, 33, 35, 40), (4, 6), (1, 3)):
        first = (bucket << bits) | 1 << (k - 1)
        nodes = cuda.to_device(np.zeros(1 << bits, np.uint64))
        heads = cuda.to_device(np.full(2 << bits, -1, np.int32))
        jobs = cuda.to_device(np.array([(0, 0, 0, 0), (0, first, 0, 1)], np.int64))
        pos1_cuda_join.insert[(4, 1), 4](
            cuda.to_device(key_words(PLOT)), k, jobs, 1, bits, 1 << bits - 2, nodes, heads
        )
        entries = [int(entry) for entry in nodes.copy_to_host()]
        ys = [plain.f1(PLOT, k, first + n) for n in range(1 << bits)]
        assert [entry >> bits for entry in entries] == [y >> 6 for y in ys], (k, bits)
        for place, head in enumerate(heads.copy_to_host()):
            seen, node = [], int(head)
            while node >= 0:
                seen.append(node)
                after = entries[node] & ((1 << bits) - 1)
                node = after if after != node else -1
            assert sorted(seen) == [n for n, y in enumerate(ys) if y // plain.BC % (2 << bits) == place]


def request(k: int, d: int, first: int = 0, last: int = 64) -> Pos1Request:
    return Pos1Request("proof", PLOT, k, d, "lp32", (), first=first, last=last)


def neighbours(ys: list[int]) -> list[tuple[int, int]]:
    """Return which of the values match."""
    by_group: dict[int, list[int]] = {}
    for place, y in enumerate(ys):
        by_group.setdefault(y // plain.BC, []).append(place)
    return [
        (left, right)
        for left, y in enumerate(ys)
        for right in by_group.get(y // plain.BC + 1, ())
        if plain.is_match(y, ys[right])
    ]


def all_matches(k: int, d: int, a: int, b: int, *, ordered: bool) -> Rows:
    """Return what all pairs of x of two buckets give."""
    ys = {x: plain.f1(PLOT, k, x) for bucket in {a, b} for x in range(bucket << d, (bucket + 1) << d)}
    xs = list(ys)
    matches = [(xs[left], xs[right]) for left, right in neighbours(list(ys.values()))]
    return [
        (left, right, ys[left])
        for left, right in matches
        if {left >> d, right >> d} == {a, b} and (left >> d == a or not ordered)
    ]


def table_2(joiner: pos1_cuda.Joiner) -> tuple[list[int], list[Rows]]:
    counts = joiner.table_2(lambda: None)
    assert counts is not None
    lists = joiner.lists(np.arange(sum(counts), dtype=np.int64))
    joiner.close()
    return counts, [[tuple(int(value) for value in row) for row in rows] for rows in lists]


def joins() -> None:
    """Every match of two buckets, whatever pieces they are cut into, and however little room there is at first."""
    k, d = 18, 9
    pairs = {pair: all_matches(k, d, *pair, ordered=False) for pair in ((5, 2), (7, 7), (4, 0), (3, 3))}
    assert sum(map(len, pairs.values())) >= 4
    # Two readings of one line point are one list.
    leaves = (Leaf(((5, 2),)), Leaf(((4, 0), (3, 3))), Leaf(((7, 7),)))
    expected = [sorted(row for pair in leaf.pairs for row in pairs[pair]) for leaf in leaves]
    form = Shape(leaves, ((0, 1, 0), (0, 2, 0)), ordered=False)
    for how in (pos1_vram.Plan(9, 4, 100), pos1_vram.Plan(8, 3, 1), pos1_vram.Plan(9, 1, 2)):
        counts, found = table_2(pos1_cuda.Joiner(request(k, d), form, how, 1 << 30))
        assert found == expected, how
        assert counts == [len(rows) for rows in expected]
    lists, dropped = pos1_cuda.join(request(k, d), form, lambda: None, 0) or ([], 0)
    assert len(lists) == 3
    assert dropped == sum(map(len, expected)) - sum(map(len, lists)) > 0
    form = Shape(leaves[:1], ((0, 0, 0), (0, 0, 0)), ordered=True)
    ordered = all_matches(k, d, 5, 2, ordered=True)
    assert table_2(pos1_cuda.Joiner(request(k, d), form, pos1_vram.Plan(9, 1, 9), 1 << 30))[1] == [
        sorted(ordered)
    ]


def too_many_matches() -> None:
    """Rows that do not fit are an error that lets the CPU do it, not an answer."""
    form = Shape((Leaf(((5, 2), (7, 7), (4, 0), (3, 3))),), ((0, 0, 0), (0, 0, 0)), ordered=False)
    joiner = pos1_cuda.Joiner(request(18, 9), form, pos1_vram.Plan(9, 1, 0), 1 << 10)
    with pytest.raises(MemoryError, match="more matches"):
        joiner.table_2(lambda: None)


def table_3() -> None:
    """What matches nothing at table 3 is left out, and nothing else, in whatever direction and reading."""
    k = 18
    pool = [tuple(RANDOM.randrange(1 << bits) for bits in (k, k, k + 6)) for _ in range(2500)]
    above = {row: plain.f_t(2, k, row[2], row[0], row[1])[0] for row in pool}
    pairs = neighbours(list(above.values()))
    chosen = sorted({place for pair in pairs for place in pair} | set(range(40)))
    rows = [(*pool[place], RANDOM.randrange(4)) for place in chosen]
    matches = neighbours([above[row[:3]] for row in rows])
    jobs = ((0, 1, 0), (2, 3, 1), (2, 2, 1), (0, 3, 1))
    forms = {
        ordered: Shape((Leaf(((1, 0),)),) * 4, jobs, ordered=ordered, all_ordered=ordered)
        for ordered in (False, True)
    }
    found = {}
    for ordered, form in forms.items():
        joined = {(a, b) for a, b, _ in jobs} | ({(b, a) for a, b, _ in jobs} if not ordered else set())
        expected = {
            place
            for left, right in matches
            if (rows[left][3], rows[right][3]) in joined
            for place in (left, right)
        }
        joiner = pos1_cuda.Joiner(request(k, 9), form, pos1_vram.Plan(9, 1, 1), 1 << 30)
        joiner._on_device.update(
            rows=cuda.to_device(np.array(rows, np.int64)), counts=cuda.to_device(np.array([0, len(rows)], np.int64)),
            nodes=None, heads=None,
        )  # fmt: skip
        assert set(joiner.alive(form).tolist()) == expected
        found[ordered] = expected
    assert len(found[False]) > len(found[True]) > 0, "the case is too small to show anything"


def hashes() -> None:
    """f2 for numbers of all sizes."""
    for k in (18, 21, 22, 28, 32, 33, 40):
        form = Shape((Leaf(((1, 0),)),) * 2, ((0, 1, 0),), ordered=False)
        rows = [
            [RANDOM.randrange(1 << k), RANDOM.randrange(1 << k), RANDOM.randrange(1 << (k + 6)), 0]
            for _ in "12"
        ]
        rows += [[(1 << k) - 1, (1 << k) - 1, (1 << (k + 6)) - 1, 1], [0, 0, 0, 1]]
        joiner = pos1_cuda.Joiner(request(k, 9), form, pos1_vram.Plan(9, 1, 1), 1 << 30)
        joiner._on_device.update(
            rows=cuda.to_device(np.array(rows, np.int64)), counts=cuda.to_device(np.array([0, 0, 4], np.int64)),
            nodes=None, heads=None,
        )  # fmt: skip
        joiner.alive(form)
        expected = [plain.f_t(2, k, y, left, right)[0] for left, right, y, _ in rows]
        assert joiner._on_device["ys"].copy_to_host().tolist() == expected, k


def ask(raw: dict[str, Any], **given: Any) -> Result:
    return answer(ChiaPos1(), raw, Context(device="cuda", simulated=True, **given))


def proofs() -> None:
    """Whole requests of every form, the first two by the self-test; in parts; and of another plot."""
    d = 3
    kernel, context = ChiaPos1(), Context(device="cuda", simulated=True)
    kernel.selftest(context)
    known = request_of(KNOWN, d)
    kept = KNOWN.truncated(d)
    words = [kept[n + 1] << (KNOWN.k - d) | kept[n] for n in range(0, 64, 2)]
    points = [plain.line_point(words[n], words[n + 1]) for n in range(0, 32, 2)]
    result = ask({**known, "form": "w16", "data": points})
    assert result.status == "ok", result
    assert (result.values["proof"], result.values["quality"]) == (KNOWN.proof, KNOWN.quality)
    assert result.values["candidates"] == [32, 16, 8, 4, 2, 1]
    whole = kernel.parse(known)
    parts = [kernel.run(part, context) for part in kernel.split(whole, 2)]
    parts[0].dropped += 5
    merged = kernel.merge(whole, parts).values
    assert (merged["proof"], merged["candidates"][0]) == (KNOWN.proof, 37)
    wrong = ask({**known, "plot_id": PLOT})
    assert wrong.status == "no_proof", wrong
    assert "two buckets" in wrong.reason, "it went on although a list was empty"


def qualities() -> None:
    """One entry of table 2, and with its sibling."""
    d = 3
    ordered = plain.plot_order(KNOWN.xs())
    at = (KNOWN.challenge[31] & 31) // 2
    entries = []
    for place in (at, at ^ 1):
        a, b, c, e = (x >> d for x in ordered[4 * place : 4 * place + 4])
        entries.append(plain.line_point(plain.line_point(a, b), plain.line_point(c, e)))
    for data in (entries[:1], entries):
        result = ask({**request_of(KNOWN, d), "op": "quality", "form": "t2lp", "data": data})
        assert result.status == "ok", result
        assert result.values["quality"] == KNOWN.quality


class Recorder:
    """Starts kernels, and keeps the types of what they are given."""

    def __init__(self, kernels: Any) -> None:
        self.kernels = kernels
        self.types: dict[str, set[str]] = {}

    def __getattr__(self, name: str) -> Any:
        return Launcher(self, name)


class Launcher:
    def __init__(self, recorder: Recorder, name: str) -> None:
        self.recorder, self.name = recorder, name

    def __getitem__(self, shape: tuple[Any, int]) -> Any:
        def launch(*given: Any) -> None:
            types = ", ".join(type_of(value) for value in given)
            self.recorder.types.setdefault(self.name, set()).add(types)
            getattr(self.recorder.kernels, self.name)[shape](*given)

        return launch


def type_of(value: Any) -> str:
    """Return how numba sees what a kernel is given."""
    if hasattr(value, "dtype") and value.ndim:
        return str(numba.types.Array(numba.from_dtype(value.dtype), value.ndim, "C"))
    return str(numba.typeof(value))


def signatures() -> None:
    """Kernels are called with the very types that they are compiled with to see whether they compile."""
    recorder = Recorder(pos1_cuda_join)
    vars(pos1_cuda)["device"] = recorder
    assert ask(request_of(KNOWN, 2)).status == "ok"
    vars(pos1_cuda)["device"] = pos1_cuda_join
    expected = {
        name: {", ".join(map(str, types))} for name, types in to_ptx.MODULES["pos1_cuda_join"].items()
    }
    assert recorder.types == expected, (recorder.types, expected)


def limits() -> None:
    """A deadline between two launches; a GPU without room; what only the CPU can do."""
    looks = 0

    def check() -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            raise DeadlinePassed("too late")

    plan = pos1_cuda.plan
    pos1_cuda.plan = lambda *sizes: pos1_vram.Plan(3, 2, 100)
    late = ask(request_of(KNOWN, 3), check=check)
    pos1_cuda.plan = plan
    assert (late.status, looks) == ("deadline", 3), late
    small = ask(request_of(KNOWN, 3), vram=1 << 10)
    assert small.status == TooLarge.status, small
    assert "GPU" in small.reason
    cost = ChiaPos1().cost(
        ChiaPos1().parse({**request_of(KNOWN, 20), "k": 40, "d": 26, "data": [0, *range(2, 33)]})
    )
    assert (cost.vram, cost.gpu_s) == (0, 0.0), "the CPU has to do it"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        globals()[name]()
        print(name, flush=True)
