"""Table 2 of a request on a GPU: every pair of buckets joined, and what cannot go on at table 3 left out.

Importing this module loads numpy and numba's CUDA.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from . import pos1_cuda_join as device
from .cuda_jit import SIMULATED, THREADS, cuda, release
from .pos1_chacha import key_words
from .pos1_request import Pos1Request, Shape
from .pos1_vram import Plan, plan

TOGETHER: Final = 4 if SIMULATED else THREADS
"""Threads of a block; the simulator has a thread of Python for each."""
MOST_BLOCKS: Final = 2 if SIMULATED else 4096
"""Of kernels whose threads take one number after the other."""
SIMULATED_MEMORY: Final = 1 << 30


def join(
    request: Pos1Request, form: Shape, check: Callable[[], None], vram: int
) -> tuple[list[Any], int] | None:
    """Return the matches of each leaf as rows (left x, right x, left y), and how many were left out.

    When all leaves are asked for, those are left out that match nothing at table 3. None: a leaf has no match
    at all, and nothing could stand in for it. `vram`: bytes of the GPU's memory that may be used; 0: all that
    is free. Raises `TooLarge`, and `MemoryError` for far more matches than there ought to be.
    """
    leaves = form.leaves[request.first : request.last]
    free = _free()
    most = min(vram, free) if vram else free
    pairs = sum(len(leaf.pairs) for leaf in leaves)
    joiner = Joiner(request, form, plan(request.k, request.d, pairs, most), most)
    try:
        counts = joiner.table_2(check)
        if counts is None:
            return None
        whole = len(leaves) == len(form.leaves)
        indices = joiner.alive(form) if whole else np.arange(sum(counts), dtype=np.int64)
        return joiner.lists(indices), sum(counts) - len(indices)
    finally:
        joiner.close()


def jobs_of(request: Pos1Request, form: Shape, bits: int) -> Any:
    """Return what the kernels `insert` and `probe` are told: a row for each piece of each pair of buckets."""
    jobs = []
    d = request.d
    for leaf, entry in enumerate(form.leaves[request.first : request.last]):
        for a, b in entry.pairs:
            # 2: x of the first bucket are looked at as the right ones as well.
            directions = 1 if a == b or form.ordered else 2
            jobs += [(a << d, (b << d) + piece, leaf, directions) for piece in range(0, 1 << d, 1 << bits)]
    return np.array(jobs, np.int64)


def chunk_of(k: int, bits: int) -> int:
    """Return how many x a block of threads does: what 128 blocks of ChaCha give, at most 2**bits."""
    return min(2048 if k <= 32 else 1024, 1 << bits)


class Joiner:
    """What one request has in a GPU's memory."""

    def __init__(self, request: Pos1Request, form: Shape, how: Plan, most: int) -> None:
        """Prepare to do it as planned, and to use `most` bytes in no case."""
        self.request, self.form, self.how, self.most = request, form, how, most
        self.leaves = len(form.leaves[request.first : request.last])
        self.jobs = jobs_of(request, form, how.bits)
        self._on_device: dict[str, Any] = {}

    def close(self) -> None:
        """Give the memory back."""
        self._on_device.clear()
        release()

    def table_2(self, check: Callable[[], None]) -> list[int] | None:
        """Find all matches; return how many each leaf has, or None when one that is needed has none."""
        self._allocate()
        needed = len(self.form.jobs) == len({job[2] for job in self.form.jobs})
        counts = np.zeros(self.leaves + 1, np.int64)
        for job in range(0, len(self.jobs), self.how.jobs):
            check()
            counts = self._launch(job, min(self.how.jobs, len(self.jobs) - job), counts)
            after = job + self.how.jobs
            done = int(self.jobs[after, 2]) if after < len(self.jobs) else self.leaves
            if needed and not counts[:done].all():
                return None
        return [int(count) for count in counts[:-1]]

    def _allocate(self) -> None:
        memory, how = self._on_device, self.how
        memory["key"] = cuda.to_device(key_words(self.request.plot_id))
        memory["jobs"] = cuda.to_device(self.jobs)
        memory["nodes"] = cuda.device_array(how.jobs << how.bits, np.uint64)
        memory["heads"] = cuda.device_array(how.jobs << how.bits + 1, np.int32)
        memory["counts"] = cuda.to_device(np.zeros(self.leaves + 1, np.int64))
        memory["rows"] = cuda.device_array((how.rows, 4), np.int64)

    def _launch(self, job: int, jobs: int, before: Any) -> Any:
        """Do some jobs; return how many matches there are after them, by leaf and in all."""
        memory, k, d, bits = self._on_device, self.request.k, self.request.d, self.how.bits
        heads = memory["heads"]
        device.clear[_blocks(len(heads)), TOGETHER](heads, len(heads))
        common = (memory["key"], k, memory["jobs"], job, bits, chunk_of(k, bits), memory["nodes"], heads)
        chunk = chunk_of(k, bits)
        device.insert[((1 << bits) // chunk, jobs), TOGETHER](*common)
        while True:
            looking = ((1 << d) // chunk, jobs)
            device.probe[looking, TOGETHER](*common, memory["counts"], memory["rows"])
            counts = memory["counts"].copy_to_host()
            if counts[-1] <= len(memory["rows"]):
                return counts
            self._grow(int(counts[-1]), before)

    def _grow(self, wanted: int, before: Any) -> None:
        """Make room for more matches, and forget those of the jobs that are to be done again."""
        memory = self._on_device
        old, kept = memory["rows"], int(before[-1])
        room = max(2 * len(old), wanted + wanted // 4)
        if Plan(self.how.bits, self.how.jobs, room).vram > self.most:
            raise MemoryError(f"more matches than fit into {self.most >> 20} MiB of the GPU's memory")
        memory["rows"] = cuda.device_array((room, 4), np.int64)
        if kept:
            memory["rows"][:kept].copy_to_device(old[:kept])
        memory["counts"].copy_to_device(before)

    def alive(self, form: Shape) -> Any:
        """Return the indices of the matches that have a partner at table 3."""
        memory, k = self._on_device, self.request.k
        rows, count = memory["rows"], int(memory["counts"].copy_to_host()[-1])
        if not count:
            return np.empty(0, np.int64)
        for done in ("nodes", "heads"):
            del memory[done]
        lists = 1 << (2 * count - 1).bit_length()
        heads = memory["heads"] = cuda.device_array(lists, np.int32)
        ys = memory["ys"] = cuda.device_array(count, np.int64)
        after = memory["after"] = cuda.device_array(count, np.int32)
        keep = memory["keep"] = cuda.device_array(count, np.uint8)
        starts, partners = (cuda.to_device(part) for part in partners_of(form))
        directions = 1 if form.all_ordered else 2
        blocks = _blocks(count)
        device.clear[_blocks(lists), TOGETHER](heads, lists)
        device.hashed[blocks, TOGETHER](k, rows, count, lists - 1, ys, after, heads, keep)
        device.mark[blocks, TOGETHER](
            rows, count, lists - 1, ys, after, heads, starts, partners, directions, keep
        )
        return np.flatnonzero(keep.copy_to_host())

    def lists(self, indices: Any) -> list[Any]:
        """Return the matches of some indices by leaf, each leaf's in the order of their x."""
        if not len(indices):
            return [np.empty((0, 3), np.int64)] * self.leaves
        out = cuda.device_array((len(indices), 4), np.int64)
        device.gather[_blocks(len(indices)), TOGETHER](self._on_device["rows"], cuda.to_device(indices), out)
        found = out.copy_to_host()
        # Threads append in any order.
        found = found[np.lexsort((found[:, 1], found[:, 0], found[:, 3]))]
        bounds = np.searchsorted(found[:, 3], np.arange(self.leaves + 1))
        return [np.ascontiguousarray(found[bounds[n] : bounds[n + 1], :3]) for n in range(self.leaves)]


def partners_of(form: Shape) -> tuple[Any, Any]:
    """Return the lists to join with each list: where those of list n begin, and all of them."""
    partners: list[list[int]] = [[] for _ in form.leaves]
    for a, b, _ in form.jobs:
        partners[a].append(b)
    starts = np.zeros(len(partners) + 1, np.int64)
    starts[1:] = np.cumsum([len(some) for some in partners])
    return starts, np.array([partner for some in partners for partner in some], np.int64)


def _blocks(numbers: int) -> int:
    return max(1, min(MOST_BLOCKS, -(-numbers // TOGETHER)))


def _free() -> int:
    """Return how many bytes of the GPU's memory may be used: nearly all that is free."""
    if SIMULATED:
        return SIMULATED_MEMORY
    return int(cuda.current_context().get_memory_info()[0] * 0.95)
