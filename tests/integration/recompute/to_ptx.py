"""Compile every kernel for a GPU, without one: the only check that knows types short of a GPU itself.

    python tests/integration/recompute/to_ptx.py [--compute 8.0] [--keep FOLDER]

Prints one line of JSON for each kernel: what NVIDIA's compiler made of it and, where its assembler is installed,
registers, bytes of shared memory and bytes that did not fit into registers. Ends with 1 when a kernel uses
floating point numbers or the GPU's slow memory, and with 3 when there is no such compiler.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import types
from pathlib import Path
from typing import Any

from numba import boolean, cuda, int32, int64, uint8, uint32, uint64

WORDS, NUMBERS, SIGNED, ROWS = uint32[::1], uint64[::1], int64[::1], int64[:, ::1]
HEADS, KEEP = int32[::1], uint8[::1]
BUCKETS = (WORDS, int64, ROWS, int64, int64, int64, NUMBERS, HEADS)
MODULES: dict[str, dict[str, tuple[Any, ...]]] = {
    "hash_search_cuda": {"scan": (WORDS, int64, uint32, uint32, int64, int64, WORDS, WORDS)},
    "mc_sum_cuda": {"add": (uint64, NUMBERS, SIGNED, boolean, int64, int64, uint64[:, ::1])},
    "pos1_cuda_join": {
        "clear": (HEADS, int64),
        "insert": BUCKETS,
        "probe": (*BUCKETS, SIGNED, ROWS),
        "hashed": (int64, ROWS, int64, int64, SIGNED, HEADS, HEADS, KEEP),
        "mark": (ROWS, int64, int64, SIGNED, HEADS, HEADS, SIGNED, SIGNED, int64, KEEP),
        "gather": (ROWS, SIGNED, ROWS),
    },
}
"""Module to kernel to its arguments, as the module calls it."""


def assembler() -> str | None:
    """Return NVIDIA's assembler, of CUDA's toolkit or of its wheels."""
    wheels = sorted(Path(sysconfig.get_path("purelib")).glob("nvidia/*/bin/ptxas"))
    return shutil.which("ptxas") or (str(wheels[0]) if wheels else None)


def assembled(ptx: str, compute: tuple[int, int]) -> dict[str, int]:
    """Return what the kernel takes of a GPU; nothing where there is no assembler."""
    program = assembler()
    if program is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        arch = "-arch=sm_{}{}".format(*compute)
        said = subprocess.run(
            [program, arch, "-v", "-o", str(source.with_suffix(".cubin")), str(source)],
            capture_output=True, text=True, check=True,
        ).stderr  # fmt: skip
    numbers = {"registers": r"Used (\d+) reg", "stack": r"(\d+) bytes stack", "shared": r"(\d+) bytes smem"}
    found = {name: re.search(pattern, said) for name, pattern in numbers.items()}
    spilled = sum(int(count) for count in re.findall(r"(\d+) bytes spill", said))
    return {**{name: int(match[1]) if match else 0 for name, match in found.items()}, "spilled": spilled}


def nothing() -> None:
    """Do nothing, on a GPU."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--compute", default="8.0", help="compute capability of the GPU")
    parser.add_argument("--keep", type=Path, help="a folder for the PTX")
    options = parser.parse_args()
    compute = tuple(int(part) for part in options.compute.split("."))
    # Not with the others: the simulator has none, and imports this for the signatures.
    dispatcher = importlib.import_module("numba.cuda.dispatcher")
    # Functions that kernels call are compiled for the GPU of this machine, of which there is none.
    vars(dispatcher)["get_current_device"] = lambda: types.SimpleNamespace(compute_capability=compute)
    try:
        cuda.compile_ptx(nothing, (), cc=compute)
    except Exception as error:  # of whatever package lacks something
        print(
            f"no compiler for GPUs: {type(error).__name__}: {' '.join(str(error).split())[:300]}",
            file=sys.stderr,
        )
        return 3
    bad = 0
    for module, kernels in MODULES.items():
        imported = importlib.import_module(f"computefarm.workers.recompute.kernels.{module}")
        for name, signature in kernels.items():
            ptx, _ = cuda.compile_ptx(getattr(imported, name).py_func, signature, cc=compute)
            if options.keep:
                (options.keep / f"{module}.{name}.ptx").write_text(ptx)
            made = {
                "kernel": f"{module}.{name}",
                "lines": ptx.count("\n"),
                "float": len(re.findall(r"\.f(16|32|64)\b", ptx)),
                "local": len(re.findall(r"\.local\b", ptx)),
                **assembled(ptx, compute),
            }
            bad += bool(made["float"] or made["local"] or made.get("spilled"))
            print(json.dumps(made), flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
