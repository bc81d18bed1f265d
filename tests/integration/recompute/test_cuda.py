"""The kernels for GPUs, in numba's simulator. What a compiler says of them is seen in `test_ptx`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from computefarm.worker_api.kernel import Context, find
from computefarm.worker_api.resident import unpack

SEARCH = {"kernel": "hash.search", "prefix": "c0ffee", "start": 2**32 - 12, "count": 24, "bits": 2}
SUM = {"kernel": "mc.sum", "seed": 2**64 - 3, "start": 5, "blocks": 70, "form": "mean"}
REQUESTS: list[tuple[dict[str, Any], int]] = [
    (SEARCH, 1),
    ({**SEARCH, "limit": 3}, 2),
    ({**SEARCH, "prefix": "00" * 47, "start": 2**63 - 6, "count": 6, "bits": 1}, 1),
    ({**SEARCH, "prefix": "", "start": 0, "count": 6, "bits": 1}, 1),
    ({**SEARCH, "prefix": "ab" * 29, "count": 6, "bits": 1}, 1),
    ({**SEARCH, "count": 2, "bits": 256}, 1),
    (SUM, 1),
    ({**SUM, "form": "pi"}, 5),
    ({**SUM, "start": 2**62 - 7, "blocks": 3}, 1),
]


def test_answers_are_those_of_the_cpu_to_the_last_bit(context: Context) -> None:
    for name in ("hash.search", "mc.sum"):
        find(name).warmup(context)
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("simulated.py")), context.cache],
        input="".join(json.dumps(line) + "\n" for line in REQUESTS),
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    answers = [unpack(bytes.fromhex(line)) for line in done.stdout.splitlines()]
    assert len(answers) == len(REQUESTS)
    for (raw, _), answer in zip(REQUESTS, answers, strict=True):
        kernel = find(raw["kernel"])
        request = kernel.parse(raw)
        expected = kernel.merge(request, [kernel.run(request, context)])
        assert answer == {"status": "ok", **expected.values}, raw
    assert len(answers[0]["numbers"]) >= 3, "the requests find something"
