"""Answer requests with kernels for GPUs, in numba's simulator: run with NUMBA_ENABLE_CUDASIM=1
and the folder of a cache for compiled code.

Reads lines of JSON, `[request, parts]`; prints the values of each answer in hex.
"""

from __future__ import annotations

import json
import sys

from computefarm.workers.recompute.kernels.loading import compiled_module, cuda_module

from computefarm.worker_api.kernel import Context, find
from computefarm.worker_api.resident import pack


def main() -> None:
    compiled_module("jit").keep_in(sys.argv[1])
    hash_search_cuda, mc_sum_cuda = cuda_module("hash_search_cuda"), cuda_module("mc_sum_cuda")
    # Small steps, so that a tiny request takes several launches.
    hash_search_cuda.LEAST = hash_search_cuda.MOST = 16
    mc_sum_cuda.MOST = 64
    context = Context(device="cuda", simulated=True)
    for line in sys.stdin:
        raw, parts = json.loads(line)
        kernel = find(raw["kernel"])
        request = kernel.parse(raw)
        result = kernel.merge(request, [kernel.run(part, context) for part in kernel.split(request, parts)])
        print(pack({"status": result.status, **result.values}).hex(), flush=True)


if __name__ == "__main__":
    main()
