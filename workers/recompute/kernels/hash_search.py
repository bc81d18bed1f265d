"""The kernel `hash.search`: find numbers whose SHA-256 begins with zero bits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import ClassVar, Final

import msgspec

from computefarm.worker_api.kernel import (
    OK,
    BadRequest,
    Context,
    Cost,
    Envelope,
    KernelError,
    Result,
    octets,
    whole,
)

from .loading import compiled_module, cuda_module

STEP: Final = 1 << 14
"""Numbers between two looks at the deadline: about 4 ms."""
VRAM: Final = 17 << 20
"""Bytes that a search takes of a GPU's memory, at the most."""
MOST_PREFIX: Final = 47
"""Bytes; with 8 of the number and 9 of padding they fill one block."""


class SearchRequest(msgspec.Struct, frozen=True):
    """Look for numbers n, `start` and later, for which SHA-256(prefix ‖ n as 8 bytes) begins with zeros."""

    prefix: bytes
    start: int
    count: int
    bits: int
    limit: int
    """Return at most so many, the smallest."""


class HashSearch:
    """Tries every number of a range."""

    name: ClassVar[str] = "hash.search"
    version: ClassVar[int] = 1
    devices: ClassVar[frozenset[str]] = frozenset({"cpu", "cuda"})

    def parse(self, raw: Mapping[str, object]) -> SearchRequest:
        """Return the request; raises `BadRequest`."""
        if Envelope.read(raw).version != 1:
            raise BadRequest("`v`: this kernel knows version 1 of its requests")
        request = SearchRequest(
            prefix=octets(raw, "prefix", most=MOST_PREFIX, default=b""),
            start=whole(raw, "start", 0, (1 << 63) - 1, default=0),
            count=whole(raw, "count", 1, 1 << 40),
            bits=whole(raw, "bits", 1, 256),
            limit=whole(raw, "limit", 1, 1000, default=16),
        )
        if request.start + request.count > 1 << 63:
            raise BadRequest("`start` + `count` is beyond 2**63")
        return request

    def cost(self, request: SearchRequest) -> Cost:
        """Estimate memory and time."""
        return Cost(
            memory=1 << 20,
            cpu_s=1e-4 + request.count * 2.5e-7,
            gpu_s=1e-3 + request.count * 1e-9,
            vram=VRAM,
            splittable=max(1, request.count // STEP),
        )

    def split(self, request: SearchRequest, parts: int) -> Sequence[SearchRequest]:
        """Return at most `parts` neighbouring ranges."""
        parts = max(1, min(parts, request.count))
        bounds = [request.count * n // parts for n in range(parts + 1)]
        return [
            msgspec.structs.replace(request, start=request.start + low, count=high - low)
            for low, high in pairwise(bounds)
        ]

    def run(self, part: SearchRequest, context: Context) -> list[int]:
        """Return the numbers of a range that fit, at most `limit`."""
        if context.device == "cuda":
            search = cuda_module("hash_search_cuda").search
            return list(search(part.prefix, part.start, part.count, part.bits, part.limit, context.check))
        search = compiled_module("hash_search_cpu").search
        found: list[int] = []
        for start in range(part.start, part.start + part.count, STEP):
            context.check()
            count = min(STEP, part.start + part.count - start)
            found += search(part.prefix, start, count, part.bits)
            if len(found) >= part.limit:
                break
        return found[: part.limit]

    def merge(self, request: SearchRequest, partials: Sequence[list[int]]) -> Result:
        """Return the smallest of all."""
        found = sorted(number for partial in partials for number in partial)[: request.limit]
        hashes = [_hash(request, number) for number in found]
        return Result(OK, {"numbers": found, "hashes": hashes, "count": len(found)})

    def verify(self, request: SearchRequest, result: Result) -> bool:
        """Say whether every number fits and lies in the range; that none was missed cannot be seen."""
        if result.status != OK:
            return True
        try:
            numbers = list(result.values["numbers"])
            hashes = list(result.values["hashes"])
        except (KeyError, TypeError):
            return False
        return (
            len(numbers) == len(set(numbers)) <= request.limit
            and hashes == [_hash(request, number) for number in numbers]
            and all(
                request.start <= number < request.start + request.count
                and int.from_bytes(digest, "big") >> (256 - request.bits) == 0
                for number, digest in zip(numbers, hashes, strict=True)
            )
        )

    def warmup(self, context: Context) -> None:
        """Compile, or load what an earlier start compiled."""
        compiled_module("jit").keep_in(context.cache)
        self.selftest(context)

    def selftest(self, context: Context) -> None:
        """Search a small range and compare with hashlib; raises `KernelError`."""
        count, bits = (24, 2) if context.simulated else (3000, 8)
        request = SearchRequest(b"computefarm", (1 << 32) - count // 2, count, bits, 100)
        numbers = range(request.start, request.start + request.count)
        known = [number for number in numbers if _hash(request, number)[0] >> (8 - bits) == 0]
        if self.run(request, context) != known:
            raise KernelError("hash.search fails its self-test: it finds other numbers than hashlib does")

    def tags(self) -> Mapping[str, str]:
        """Return what a worker announces of this kernel."""
        return {f"kernel:{self.name}": str(self.version)}


def _hash(request: SearchRequest, number: int) -> bytes:
    return hashlib.sha256(request.prefix + number.to_bytes(8, "big")).digest()
