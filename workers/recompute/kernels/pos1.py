"""The kernel `chia.pos1`: recompute proofs of space of which the plot kept only a part."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec

from computefarm.worker_api.kernel import NO_PROOF, OK, Context, Cost, KernelError, Result

from . import pos1_plain as plain
from .loading import compiled_module, cuda_module
from .pos1_known import KNOWN, request_of
from .pos1_request import Pos1Request, answers, parse, shape
from .pos1_vram import plan, suits

SMALL: Final = 10
LARGE: Final = 17
"""Dropped bits that make buckets which are joined as they are, and such as are divided first."""
TINY: Final = 4
"""What a simulated GPU can do."""
WIDE: Final = 34
"""A k whose numbers do not fit 32 bits."""
NS_PER_X: Final = 10.0
"""Nanoseconds that one x of a bucket costs on one core, about."""
NS_PER_X_ON_GPU: Final = 0.1
"""The same on a GPU of the middle class; a guess, nobody has timed it."""
ENGINE: Final = f"{__package__}.pos1_engine"


class Leaves(msgspec.Struct):
    """The matches of some leaves, in their order; `none`: one of them has none."""

    lists: list[Any]
    none: bool = False
    dropped: int = 0
    """Matches that are not in the lists, since they match nothing at table 3."""


def _engine() -> Any:
    return compiled_module("pos1_engine")


class ChiaPos1:
    """Recomputes the dropped bits of the x of a proof, or the quality of one."""

    name: ClassVar[str] = "chia.pos1"
    version: ClassVar[int] = 1
    devices: ClassVar[frozenset[str]] = frozenset({"cpu", "cuda"})

    def parse(self, raw: Mapping[str, object]) -> Pos1Request:
        """Return the request, validated; raises `BadRequest`."""
        return parse(raw)

    def cost(self, request: Pos1Request) -> Cost:
        """Estimate memory and time."""
        leaves = shape(request).leaves
        pairs = sum(len(leaf.pairs) for leaf in leaves)
        numbers = pairs * (2 << request.d)
        on_gpu = suits(request.k, request.d)
        return Cost(
            memory=memory(request.k, request.d, len(leaves)),
            cpu_s=1e-3 + numbers * NS_PER_X * 1e-9,
            gpu_s=2e-3 + numbers * NS_PER_X_ON_GPU * 1e-9 if on_gpu else 0.0,
            vram=plan(request.k, request.d, pairs).vram if on_gpu else 0,
            splittable=len(leaves),
        )

    def split(self, request: Pos1Request, parts: int) -> Sequence[Pos1Request]:
        """Return at most `parts` requests for neighbouring leaves."""
        leaves = len(shape(request).leaves)
        parts = max(1, min(parts, leaves))
        bounds = [leaves * n // parts for n in range(parts + 1)]
        return [msgspec.structs.replace(request, first=bounds[n], last=bounds[n + 1]) for n in range(parts)]

    def run(self, part: Pos1Request, context: Context) -> Leaves:
        """Join the pairs of buckets of the part's leaves; stops at one without matches."""
        form = shape(part)
        if context.device == "cuda" and suits(part.k, part.d):
            joined = cuda_module("pos1_cuda").join(part, form, context.check, context.vram)
            return Leaves([], none=True) if joined is None else Leaves(joined[0], dropped=joined[1])
        engine = _engine().Engine(part.k, part.d, part.plot_id, context.scratch, context.check)
        lists = []
        for leaf in form.leaves[part.first : part.last]:
            rows = engine.join(leaf.pairs, form.ordered)
            # In a quality or a pair of words another reading of the line point may do without this list.
            if not len(rows) and len(form.jobs) == len({job[2] for job in form.jobs}):
                return Leaves([], none=True)
            lists.append(rows)
        return Leaves(lists)

    def merge(self, request: Pos1Request, partials: Sequence[Leaves]) -> Result:
        """Climb from the leaves to the proofs; each is computed again from its x before it is returned."""
        if any(partial.none for partial in partials):
            return Result(NO_PROOF, reason="two buckets have no match: no proof of this plot has these x")
        module = _engine()
        engine = module.Tree(request.k)
        form = shape(request)
        tables = [engine.hashed([rows for partial in partials for rows in partial.lists])]
        last = 7 if request.op == "proof" else 2 + len(request.data)
        jobs = list(form.jobs)
        for number in range(3, last + 1):
            above = engine.climb(number, tables[-1], jobs, form.all_ordered)
            if above is None:
                return Result(NO_PROOF, reason=f"nothing matches at table {number}")
            tables.append(above)
            jobs = [(2 * n, 2 * n + 1, n) for n in range((jobs[-1][2] + 1) // 2)]
        counts = [len(table.y) for table in tables]
        counts[0] += sum(partial.dropped for partial in partials)
        if request.op == "quality":
            return self._qualities(request, tables, counts)
        return self._proofs(request, tables, counts)

    def _proofs(self, request: Pos1Request, tables: Sequence[Any], counts: list[int]) -> Result:
        module = _engine()
        found: dict[bytes, list[int]] = {}
        for index, y in enumerate(tables[-1].y):
            if request.challenge and int(y) >> 6 != plain.top_bits(request.k, request.challenge):
                continue
            xs = module.xs_of(tables, index)
            if module.top(request.plot_id, request.k, xs) != int(y) or not answers(request, xs):
                raise KernelError("a proof that was computed is wrong; it was withheld")
            found[plain.pack(request.k, xs)] = xs
        if not found:
            return Result(NO_PROOF, reason="the proofs of these x are not for this challenge")
        proofs = sorted(found)
        values: dict[str, Any] = {
            "proof": proofs[0],
            "count": len(proofs),
            "candidates": counts,
            "verified": True,
        }
        if request.challenge:
            values["quality"] = plain.proof_quality(request.k, request.challenge, found[proofs[0]])
        if len(proofs) > 1:
            values["proofs"] = proofs
        return Result(OK, values)

    def _qualities(self, request: Pos1Request, tables: Sequence[Any], counts: list[int]) -> Result:
        module = _engine()
        found: dict[bytes, tuple[list[int], list[int]]] = {}
        whole = len(request.data) == 2
        for index in range(counts[-1]):
            entry = index
            if whole:
                # List 0 of table 3 is the entry the path leads to; its sibling only confirms it.
                entry = next(int(n) for n in tables[-1].links[index] if n < tables[-2].starts[1])
            xs = module.xs_of(tables[:2], entry)
            every = module.xs_of(tables, index)
            if module.top(request.plot_id, request.k, every) != int(tables[-1].y[index]):
                raise KernelError("a quality that was computed is wrong; it was withheld")
            pair = _picked(request, xs)
            found[plain.quality(request.k, request.challenge, *pair)] = (pair, xs)
        if not found:
            return Result(NO_PROOF, reason="nothing matches")
        qualities = sorted(found)
        pair, xs = found[qualities[0]]
        values: dict[str, Any] = {
            "quality": qualities[0], "pair": pair, "xs": xs, "count": len(qualities), "candidates": counts,
            "verified": True,
        }  # fmt: skip
        if len(qualities) > 1:
            values["qualities"] = qualities
        return Result(OK, values)

    def verify(self, request: Pos1Request, result: Result) -> bool:
        """Say whether the proof (or quality) belongs to the request; true of what claims no proof."""
        if result.status != OK:
            return True
        try:
            if request.op == "quality":
                return self._verify_quality(request, result)
            return all(
                self._verify_proof(request, proof)
                for proof in (result.values["proof"], *result.values.get("proofs", ()))
            ) and (
                not request.challenge
                or result.values["quality"]
                == plain.proof_quality(
                    request.k, request.challenge, plain.unpack(request.k, result.values["proof"])
                )
            )
        except (KeyError, TypeError, ValueError, IndexError):
            return False

    def _verify_proof(self, request: Pos1Request, proof: bytes) -> bool:
        if not isinstance(proof, bytes) or len(proof) != 8 * request.k:
            return False
        xs = plain.unpack(request.k, proof)
        if not answers(request, xs):
            return False
        f7 = _top(request, xs)
        return f7 is not None and (
            not request.challenge or f7 == plain.top_bits(request.k, request.challenge)
        )

    def _verify_quality(self, request: Pos1Request, result: Result) -> bool:
        xs, pair = list(result.values["xs"]), list(result.values["pair"])
        entry = msgspec.structs.replace(request, data=request.data[:1])
        return (
            len(xs) == 4
            and answers(entry, xs)
            and _top(request, xs) is not None
            and pair == _picked(request, xs)
            and result.values["quality"] == plain.quality(request.k, request.challenge, *pair)
        )

    def warmup(self, context: Context) -> None:
        """Compile for both sizes of buckets, or load what an earlier start compiled."""
        jit = compiled_module("jit")
        jit.keep_in(context.cache)
        small = self.parse(request_of(KNOWN, TINY if context.simulated else SMALL))
        self.merge(small, [self.run(small, context)])
        if context.device == "cuda":
            return
        large = self.parse(request_of(KNOWN, LARGE))
        self.run(self.split(large, 32)[0], context)
        if jit.anything_new():
            # Rare, so it need not be in memory; but a request for it could not wait until it is compiled.
            for d in (SMALL, LARGE):
                _engine().Engine(WIDE, d, KNOWN.plot_id, context.scratch, context.check).pair(1, 0, False)
        context.scratch.pop("pos1", None)

    def selftest(self, context: Context) -> None:
        """Recompute a known proof at two sizes of buckets; raises `KernelError`."""
        for d in (TINY,) if context.simulated else (SMALL, LARGE):
            known = request_of(KNOWN, d)
            for raw, key in (
                (known, "proof"),
                ({**known, "form": "trunc64", "data": KNOWN.truncated(d)}, "proof"),
            ):
                request = self.parse(raw)
                result = self.merge(request, [self.run(request, context)])
                if result.status != OK or result.values[key] != KNOWN.proof:
                    raise KernelError(f"chia.pos1 fails its self-test with {d} dropped bits: {result.reason}")
            context.scratch.pop("pos1", None)

    def tags(self) -> Mapping[str, str]:
        """Return what a worker announces of this kernel."""
        return {f"kernel:{self.name}": str(self.version), "k": "18-40", "d": "1-26"}


def memory(k: int, d: int, leaves: int) -> int:
    """Return about how many bytes a request takes at the most."""
    divided = d > 16 and d <= k - 6 and k + d <= 64
    per_x = 24 if divided else (44 if k <= 32 else 56)
    matches = (2 << max(0, 2 * d + 1 - k)) + 64
    return (per_x << d) + leaves * matches * 100 + (4 << 20)


def _picked(request: Pos1Request, xs: Sequence[int]) -> list[int]:
    ordered = plain.plot_order(xs)
    place = 2 * (request.challenge[31] & 1)
    return ordered[place : place + 2]


def _top(request: Pos1Request, xs: Sequence[int]) -> int | None:
    # Compiled where this process has compiled code already; an asker without numba checks in plain Python.
    engine = sys.modules.get(ENGINE)
    if engine is not None:
        y = engine.top(request.plot_id, request.k, xs)
        return None if y < 0 else int(y) >> 6
    return plain.top_f(request.plot_id, request.k, xs)
