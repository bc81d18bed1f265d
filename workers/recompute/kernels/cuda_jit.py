"""Compile with numba for CUDA, and give a GPU's memory back.

A kernel says that it can use a GPU by `devices = frozenset({"cpu", "cuda"})`, and by `Cost.gpu_s` and
`Cost.vram` of its requests. Its `run`, `warmup` and `selftest` are then called with both kinds of `Context`,
and take a module `NAME_cuda` instead of `NAME_cpu` where the context's device is `cuda`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Final

import numba
from numba import cuda as _cuda

cuda: Any = _cuda

# A request may be small; that it does not fill a GPU is nothing to write into a worker's log.
numba.config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # type: ignore[attr-defined]
SIMULATED: Final = bool(numba.config.ENABLE_CUDASIM)  # type: ignore[attr-defined]
if SIMULATED:
    # Words overflow as they should; the simulator computes with numpy, which warns of it.
    warnings.filterwarnings("ignore", message="overflow encountered", category=RuntimeWarning)
THREADS: Final = 128
"""Of a block, unless a kernel has reasons."""


def kernel(function: Callable[..., Any]) -> Any:
    """Compile `function`, which is started for many threads, when it is first called with some types."""
    return cuda.jit(cache=bool(getattr(numba.config, "CF_KEEP", False)))(function)


def device_function(function: Callable[..., Any]) -> Any:
    """Compile `function`, which kernels call."""
    return cuda.jit(device=True)(function)


def release() -> None:
    """Give back the memory of arrays that nobody refers to any more; numba puts that off otherwise."""
    if not SIMULATED:
        cuda.current_context().deallocations.clear()
