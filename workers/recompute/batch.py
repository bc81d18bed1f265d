"""A task's batch of requests: reads lines of JSON, computes them one after the other, writes lines of JSON.

    python -m computefarm.workers.recompute.batch REQUESTS.jsonl RESULTS.jsonl

Ends with 1 when a request was not answered; every request has its line in the results all the same.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from computefarm.worker_api.kernel import (
    ANSWERED,
    BAD_REQUEST,
    Context,
    Kernel,
    KernelError,
    Response,
    Result,
    answer,
    find,
)


class Batch:
    """The kernels of one process, each warmed up when it is first needed."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._kernels: dict[str, Kernel[Any, Any]] = {}

    def compute(self, line: bytes, number: int) -> Response:
        """Return the answer to one line."""
        began, cpu = time.monotonic(), time.process_time()
        result = self._answer(line, number)
        return Response(
            id=b"",
            status=result.status,
            reason=result.reason,
            values=result.values,
            device=self._context.device,
            cpu_ms=(time.process_time() - cpu) * 1000.0,
            wall_ms=(time.monotonic() - began) * 1000.0,
        )

    def _answer(self, line: bytes, number: int) -> Result:
        try:
            raw = json.loads(line)
        except (ValueError, RecursionError) as error:
            return Result(BAD_REQUEST, reason=f"line {number} is not JSON: {error}")
        if not isinstance(raw, dict) or not isinstance(raw.get("kernel"), str):
            return Result(BAD_REQUEST, reason=f"line {number} is no request: it names no kernel")
        raw.pop("id", None)
        try:
            return answer(self._kernel(raw["kernel"]), raw, self._context)
        except KernelError as error:
            return Result(error.status, reason=str(error))

    def _kernel(self, name: str) -> Kernel[Any, Any]:
        kernel = self._kernels.get(name)
        if kernel is None:
            kernel = find(name)
            kernel.warmup(self._context)
            self._kernels[name] = kernel
        return kernel


def _id_of(line: bytes) -> object:
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError):
        return ""
    return raw.get("id", "") if isinstance(raw, dict) else ""


def results(lines: Iterator[bytes], context: Context) -> Iterator[Mapping[str, object]]:
    """Yield the answers to lines, as they are written."""
    batch = Batch(context)
    for number, line in enumerate(lines, 1):
        if line.strip():
            said = json.loads(batch.compute(line, number).as_json())
            yield {**said, "id": _id_of(line)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="cf-recompute batch", description="Compute a file of requests here."
    )
    parser.add_argument("requests", metavar="REQUESTS.jsonl")
    parser.add_argument("results", metavar="RESULTS.jsonl")
    options = parser.parse_args(argv)
    context = Context(scratch={}, cache=os.environ.get("NUMBA_CACHE_DIR", ""))
    unanswered: list[str] = []
    try:
        with open(options.requests, "rb") as lines, open(options.results, "w", encoding="utf-8") as out:
            for said in results(iter(lines), context):
                print(json.dumps(said), file=out)
                if said["status"] not in ANSWERED:
                    unanswered.append(
                        f"{said['id'] or 'a request'}: {said['status']}: {said.get('reason', '')}"
                    )
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 3
    for text in unanswered[:10]:
        print(f"error: {text}", file=sys.stderr)
    if unanswered:
        print(f"error: not answered: {len(unanswered)}; all are in {Path(options.results)}", file=sys.stderr)
    return 1 if unanswered else 0


if __name__ == "__main__":
    sys.exit(main())
