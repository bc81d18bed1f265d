"""`chia.pos1` on a GPU: in numba's simulator always, and as far as a compiler can tell where there is NVIDIA's."""

from __future__ import annotations

import json
import os
import random
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from computefarm.worker_api.kernel import Context, answer, find

HERE = Path(__file__).parent
CHECKS = (
    "values_of_x",
    "hashes",
    "joins",
    "too_many_matches",
    "table_3",
    "proofs",
    "qualities",
    "signatures",
    "limits",
)


def test_in_the_simulator_everything_is_as_in_plain_python() -> None:
    pytest.importorskip("numba", reason="the recompute kernels need numba (pip install '.[recompute]')")
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", str(HERE / "simulated_pos1.py"), *CHECKS],
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == list(CHECKS)


def typed(requests: list[dict[str, Any]], cache: str) -> list[dict[str, Any]]:
    """Return what the kernels for GPUs answer when they are compiled for this CPU."""
    lines = [{key: v.hex() if isinstance(v, bytes) else v for key, v in raw.items()} for raw in requests]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    done = subprocess.run(
        [sys.executable, str(HERE / "typed_pos1.py"), cache],
        input="".join(json.dumps(line) + "\n" for line in lines),
        env=environ, capture_output=True, text=True, timeout=800, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_compiled_for_a_cpu_they_answer_as_the_cpu_does(context: Context, plot: Path, chiapos: Any) -> None:
    """With the types that a GPU computes with, which its simulator does not: mainnet's proof, and fresh ones.

    Half of the fresh ones have a pair in one bucket, and some requests are of another plot.
    """
    from computefarm.workers.recompute.kernels.pos1_known import KNOWN, KnownProof, request_of

    kernel = find("chia.pos1")
    prover = chiapos.DiskProver(str(plot))
    requests, equal = [request_of(KNOWN, d) for d in (12, 16, 18)], 0
    while len(requests) < 40 or equal < 5:
        challenge = secrets.token_bytes(32)
        for index, quality in enumerate(prover.get_qualities_for_challenge(challenge)):
            proof = prover.get_full_proof(challenge, index)
            known = KnownProof(prover.get_id(), prover.get_size(), challenge, proof, quality)
            d = (4, 9, known.k - 7)[len(requests) % 3]
            kept = known.truncated(d)
            equal += any(kept[n] == kept[n + 1] for n in range(0, 64, 2))
            raw = request_of(known, d)
            requests.append({**raw, "form": "trunc64", "data": kept} if len(requests) % 5 == 0 else raw)
    requests += [{**random.choice(requests), "plot_id": secrets.token_bytes(32)} for _ in range(10)]
    given = typed(requests, context.cache)

    assert len(given) == len(requests)
    for raw, said in zip(requests, given, strict=True):
        result = answer(kernel, raw, context)
        proofs = result.values.get("proofs", [result.values.get("proof", b"")])
        assert said["proofs"] == [proof.hex() for proof in proofs]
        assert (said["status"], said["quality"]) == (result.status, result.values.get("quality", b"").hex())
        assert said["candidates"] == result.values.get("candidates")
    assert sum(said["status"] == "ok" for said in given) >= 40


def test_a_gpu_is_offered_and_what_it_takes_is_said() -> None:
    from computefarm.workers.recompute.kernels.pos1_known import KNOWN, request_of

    kernel = find("chia.pos1")
    costs = [kernel.cost(kernel.parse(request_of(KNOWN, d))) for d in (16, 19, 22)]

    assert "cuda" in kernel.devices
    assert [cost.vram >> 20 for cost in costs] == sorted(cost.vram >> 20 for cost in costs)
    assert costs[-1].vram < 300 << 20, "level C7 fits beside seven others"
    assert all(0 < cost.gpu_s < cost.cpu_s for cost in costs)
