"""Compile the kernels for a GPU of compute capability 9.0, without one; prints JSON, name to PTX."""

from __future__ import annotations

import json
import types
from typing import Any

from computefarm.workers.recompute.kernels import hash_search_cuda, mc_sum_cuda
from numba import boolean, cuda, int64, uint32, uint64
from numba.cuda import dispatcher

WORDS, NUMBERS = uint32[::1], uint64[::1]
SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "scan": (hash_search_cuda.scan, (WORDS, int64, uint32, uint32, int64, int64, WORDS, WORDS)),
    "add": (mc_sum_cuda.add, (uint64, NUMBERS, int64[::1], boolean, int64, int64, uint64[:, ::1])),
}


def main() -> None:
    # Functions that kernels call are compiled for the GPU of this machine, of which there is none.
    dispatcher.get_current_device = lambda: types.SimpleNamespace(compute_capability=(9, 0))
    compiled = {
        name: cuda.compile_ptx(kernel.py_func, signature, cc=(9, 0))[0]
        for name, (kernel, signature) in SIGNATURES.items()
    }
    print(json.dumps(compiled))


if __name__ == "__main__":
    main()
