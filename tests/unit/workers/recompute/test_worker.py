"""What tasks of the capability run."""

from __future__ import annotations

import sys

from computefarm.worker_api import registry
from computefarm.worker_api.contract import Action, TaskContext


def test_a_batch_runs_with_the_worker_s_python_and_its_compiled_kernels() -> None:
    action = Action("recompute", (("cf-recompute", "batch", "a.jsonl", "b.jsonl"), "echo done", ("true",)))

    batch, text, other = registry.find("recompute").commands(action, TaskContext("/d", cache="/c/kernels"))

    assert batch[0] == sys.executable
    assert batch[batch.index("--cache") + 1] == "/c/kernels"
    assert batch[-2:] == ("a.jsonl", "b.jsonl")
    assert text == ("/bin/sh", "-e", "-c", "echo done")
    assert other == ("true",)
