"""The kernel `mc.sum`: Monte Carlo sums that are the same to the last bit however they are divided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import ClassVar, Final

import msgspec

from computefarm.worker_api.kernel import OK, BadRequest, Context, Cost, Envelope, KernelError, Result, whole

from .loading import compiled_module, cuda_module

STEP: Final = 1 << 16
"""Blocks between two looks at the deadline: about 2 ms."""
SAMPLES: Final = 64
"""Into how many stretches the blocks are divided, each with a sum of its own."""
VRAM: Final = 1 << 20
"""Bytes that a sum takes of a GPU's memory, at the most."""
FORMS: Final = ("mean", "pi")


class SumRequest(msgspec.Struct, frozen=True):
    """Draw 4 numbers of 64 bits from each block of a Philox4x64-10 generator, and sum what `form` says.

    `mean`: the upper 53 bits of each draw, that is a uniform number times 2**53. `pi`: 1 for each of the two
    pairs of a block that lies inside the quarter circle (of 31 bits each).
    """

    seed: int
    start: int
    blocks: int
    form: str
    first: int = 0
    last: int = SAMPLES
    """The stretches of this part."""

    def stretch(self, n: int) -> tuple[int, int]:
        """Return first block and number of blocks of stretch `n`."""
        low, high = self.blocks * n // SAMPLES, self.blocks * (n + 1) // SAMPLES
        return self.start + low, high - low


class MonteCarloSum:
    """Sums draws of a generator that counts, so that every block can be drawn by itself."""

    name: ClassVar[str] = "mc.sum"
    version: ClassVar[int] = 1
    devices: ClassVar[frozenset[str]] = frozenset({"cpu", "cuda"})

    def parse(self, raw: Mapping[str, object]) -> SumRequest:
        """Return the request; raises `BadRequest`."""
        if Envelope.read(raw).version != 1:
            raise BadRequest("`v`: this kernel knows version 1 of its requests")
        form = raw.get("form", "mean")
        if form not in FORMS:
            raise BadRequest(f"`form` is {form!r}: it is {' or '.join(FORMS)}")
        return SumRequest(
            seed=whole(raw, "seed", 0, (1 << 64) - 1),
            start=whole(raw, "start", 0, 1 << 62, default=0),
            blocks=whole(raw, "blocks", 1, 1 << 40),
            form=str(form),
        )

    def cost(self, request: SumRequest) -> Cost:
        """Estimate memory and time."""
        return Cost(
            memory=1 << 20,
            cpu_s=1e-4 + request.blocks * 4e-8,
            gpu_s=1e-3 + request.blocks * 1e-10,
            vram=VRAM,
            splittable=SAMPLES,
        )

    def split(self, request: SumRequest, parts: int) -> Sequence[SumRequest]:
        """Return at most `parts` requests for neighbouring stretches."""
        parts = max(1, min(parts, SAMPLES))
        bounds = [SAMPLES * n // parts for n in range(parts + 1)]
        return [msgspec.structs.replace(request, first=low, last=high) for low, high in pairwise(bounds)]

    def run(self, part: SumRequest, context: Context) -> list[int]:
        """Return the sum of each stretch of a part."""
        if context.device == "cuda":
            stretches = [part.stretch(n) for n in range(part.first, part.last)]
            sums = cuda_module("mc_sum_cuda").sums
            return list(sums(part.seed, stretches, part.form, context.check))
        return [self._sum(part, n, context) for n in range(part.first, part.last)]

    def _sum(self, request: SumRequest, n: int, context: Context) -> int:
        draw = compiled_module("mc_sum_cpu").draw
        start, blocks = request.stretch(n)
        total = 0
        for first in range(start, start + blocks, STEP):
            context.check()
            total += draw(request.seed, first, min(STEP, start + blocks - first), request.form)
        return total

    def merge(self, request: SumRequest, partials: Sequence[list[int]]) -> Result:
        """Return the total as text (it may have more than 64 bits), and the estimate."""
        sums = [value for partial in partials for value in partial]
        return Result(OK, {**_totals(request, sums), "sums": [str(value) for value in sums]})

    def verify(self, request: SumRequest, result: Result) -> bool:
        """Draw the shortest stretches again, and check that the sums add up."""
        if result.status != OK:
            return True
        try:
            sums = [int(value) for value in result.values["sums"]]
            claimed = {key: result.values[key] for key in ("total", "draws", "estimate")}
        except (KeyError, TypeError, ValueError):
            return False
        if len(sums) != SAMPLES or claimed != _totals(request, sums):
            return False
        # Which stretch is looked at depends on the claim: all of them are looked at sooner or later.
        chosen = hash(tuple(sums)) % SAMPLES
        return self._sum(request, chosen, Context()) == sums[chosen]

    def warmup(self, context: Context) -> None:
        """Compile, or load what an earlier start compiled."""
        compiled_module("jit").keep_in(context.cache)
        self.selftest(context)

    def selftest(self, context: Context) -> None:
        """Sum a few blocks and compare with numpy's own generator; raises `KernelError`."""
        blocks = 70 if context.simulated else 1000
        expected = compiled_module("mc_sum_cpu").by_numpy(seed=2**63 + 5, start=7, blocks=blocks)
        request = SumRequest(2**63 + 5, 7, blocks, "mean")
        if sum(self.run(request, context)) != expected:
            raise KernelError("mc.sum fails its self-test: it draws other numbers than numpy does")
        request = SumRequest(1, 0, 100, "pi")
        if self.run(request, context) != self.run(request, Context()):
            raise KernelError("mc.sum fails its self-test: other points lie in the circle than on the CPU")

    def tags(self) -> Mapping[str, str]:
        """Return what a worker announces of this kernel."""
        return {f"kernel:{self.name}": str(self.version)}


def _totals(request: SumRequest, sums: Sequence[int]) -> dict[str, object]:
    total = sum(sums)
    if request.form == "pi":
        draws = 2 * request.blocks
        return {"total": str(total), "draws": draws, "estimate": 4 * total / draws}
    draws = 4 * request.blocks
    return {"total": str(total), "draws": draws, "estimate": total / draws / 2**53}
