"""Run the kernels of `chia.pos1` for GPUs compiled for this CPU, one thread after the other, at full size.

numba finds the same types for both, so this shows what its simulator cannot (that computes with Python's
numbers): sums that would not wrap, mixed signs that would make a float. What only a GPU can show is left: threads
at the same time. Argument: the folder of a cache for compiled code. Prints one line of JSON for each request.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
import textwrap
import types
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from computefarm.workers.recompute.kernels.loading import compiled_module

NAME = "computefarm.workers.recompute.kernels.cuda_jit"
PLACES = {
    "cuda.grid(1)": "np.int64(block_x)",
    "cuda.gridsize(1)": "np.int64(blocks_x)",
    "cuda.blockIdx.x": "np.int32(block_x)",
    "cuda.blockIdx.y": "np.int32(block_y)",
    "cuda.threadIdx.x": "np.int32(0)",
    "cuda.blockDim.x": "np.int32(1)",
    "cuda.shared.array(ROOM, np.uint32)": "np.full(ROOM, 0xDEADBEEF, np.uint32)",
    "cuda.syncthreads()": "pass",
    "cuda.atomic.exch": "exchanged",
    "cuda.atomic.add": "added",
}
"""What CUDA's words mean in a block of one thread."""


@numba.njit
def exchanged(values: Any, place: Any, value: Any) -> Any:
    old = values[place]
    values[place] = value
    return old


@numba.njit
def added(values: Any, place: Any, value: Any) -> Any:
    old = values[place]
    values[place] += value
    return old


def translated(function: Callable[..., Any], first: str) -> Any:
    """Return a function compiled for the CPU, which is told its block before everything else."""
    source = textwrap.dedent(inspect.getsource(function))
    source = re.sub(r"^@\w+\n", "", source)
    source = re.sub(r"^def (\w+)\(", rf"def \1({first}", source)
    for there, here in PLACES.items():
        source = source.replace(there, here)
    assert "cuda." not in source, source
    space = function.__globals__
    space.update(exchanged=exchanged, added=added)
    exec(compile(source, inspect.getfile(function), "exec"), space)
    return numba.njit(error_model="numpy")(space[function.__name__])


class Array:
    """Memory of a GPU that is none."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, part: slice) -> Array:
        return Array(self.values[part])

    def copy_to_host(self) -> Any:
        return self.values.copy()

    def copy_to_device(self, other: Any) -> None:
        self.values[:] = getattr(other, "values", other)


class Kernel:
    """Runs block after block."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.run = translated(function, "block_x, block_y, blocks_x, ")

    def __getitem__(self, shape: tuple[Any, int]) -> Callable[..., None]:
        blocks, _ = shape
        width, height = blocks if isinstance(blocks, tuple) else (blocks, 1)

        def launch(*given: Any) -> None:
            values = [getattr(value, "values", value) for value in given]
            for y in range(height):
                for x in range(width):
                    self.run(x, y, width, *values)

        return launch


def filled(shape: Any, dtype: Any) -> Array:
    """Return memory with what others left there."""
    array = np.empty(shape, dtype)
    array.view(np.uint8)[...] = 0xA5
    return Array(array)


def stand_in() -> types.ModuleType:
    """Return what takes the place of the module that compiles for GPUs."""
    module = types.ModuleType(NAME)
    cuda = types.SimpleNamespace(
        to_device=lambda values: Array(np.array(values)),
        device_array=filled,
        current_context=lambda: types.SimpleNamespace(get_memory_info=lambda: (1 << 40, 1 << 40)),
    )
    vars(module).update(
        cuda=cuda,
        kernel=Kernel,
        device_function=lambda function: translated(function, ""),
        release=lambda: None,
        SIMULATED=False,
        THREADS=1,
    )
    return module


def main() -> None:
    compiled_module("jit").keep_in(sys.argv[1])
    sys.modules[NAME] = stand_in()
    from computefarm.workers.recompute.kernels.pos1 import ChiaPos1

    from computefarm.worker_api.kernel import Context, answer

    kernel, context = ChiaPos1(), Context(device="cuda")
    for line in sys.stdin:
        result = answer(kernel, json.loads(line), context)
        proofs = result.values.get("proofs", [result.values.get("proof", b"")])
        said = {
            "status": result.status,
            "reason": result.reason,
            "proofs": [proof.hex() for proof in proofs],
            "quality": result.values.get("quality", b"").hex(),
            "candidates": result.values.get("candidates"),
        }
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
