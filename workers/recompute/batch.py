"""A task's batch of requests: reads lines of JSON, computes them one after the other, writes lines of JSON.

    python -m computefarm.workers.recompute.batch [--cache FOLDER] REQUESTS.jsonl RESULTS.jsonl

Ends with 1 when a request was not answered. Every request has its line in the results all the same; since a
task that fails brings no files back, they are printed too then, for its log.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

from computefarm.worker_api.kernel import (
    ANSWERED,
    BAD_REQUEST,
    ERROR,
    Context,
    Envelope,
    Kernel,
    KernelError,
    Response,
    Result,
    answer,
    find,
)
from computefarm.worker_api.lines import Line, read_lines

USAGE = 3


class Batch:
    """The kernels of one process, each warmed up when it is first needed."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._kernels: dict[str, Kernel[Any, Any] | KernelError] = {}

    def compute(self, line: Line) -> dict[str, object]:
        """Return the answer to one line, as it is written."""
        result = Result(BAD_REQUEST, reason=f"line {line.number}: {line.trouble}")
        began, cpu = time.monotonic(), time.process_time()
        if not line.trouble:
            # An `id` in a file may be any text or number; it is for the results alone.
            raw = {key: value for key, value in line.raw.items() if key != "id"}
            try:
                kernel = self._kernel(Envelope.read(raw).kernel)
                began, cpu = time.monotonic(), time.process_time()
                result = self._answer(kernel, raw)
            except KernelError as error:
                result = Result(error.status, reason=str(error))
        response = Response(
            id=b"",
            status=result.status,
            reason=result.reason,
            values=result.values,
            device=str(self._context.scratch.get("device") or self._context.device),
            cpu_ms=(time.process_time() - cpu) * 1000.0,
            wall_ms=(time.monotonic() - began) * 1000.0,
        )
        return {**json.loads(response.as_json()), "id": line.id}

    def _answer(self, kernel: Kernel[Any, Any], raw: Mapping[str, object]) -> Result:
        try:
            return answer(kernel, raw, self._context)
        except MemoryError:
            return Result("too_large", reason="there is not enough memory for it now")
        except Exception as error:  # a fault of the kernel's: this request fails, the others go on
            return Result(ERROR, reason=f"{kernel.name} failed: {type(error).__name__}: {error}")

    def _kernel(self, name: str) -> Kernel[Any, Any]:
        known = self._kernels.get(name)
        if known is None:
            known = self._kernels[name] = self._warm(name)
        if isinstance(known, KernelError):
            raise known
        return known

    def _warm(self, name: str) -> Kernel[Any, Any] | KernelError:
        try:
            kernel = find(name)
            kernel.warmup(self._context)
        except KernelError as error:
            return error
        return kernel


def _cache(folder: str) -> str:
    """Return the folder for compiled code if it can be used, else nothing, saying so."""
    if not folder:
        return ""
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        print(f"note: {folder}: {error.strerror}: kernels are compiled for this batch alone", file=sys.stderr)
        return ""


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="cf-recompute batch", description="Compute a file of requests on this machine, one by one."
    )
    parser.add_argument("--cache", default="", help=argparse.SUPPRESS)
    parser.add_argument("requests", metavar="REQUESTS.jsonl")
    parser.add_argument("results", metavar="RESULTS.jsonl")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    options = _options(argv)
    if os.path.realpath(options.requests) == os.path.realpath(options.results):
        print(f"error: {options.results}: these are the requests themselves", file=sys.stderr)
        return USAGE
    batch = Batch(Context(scratch={}, cache=_cache(options.cache)))
    count = unanswered = 0
    try:
        with open(options.requests, "rb") as asked, open(options.results, "w", encoding="utf-8") as out:
            for line in read_lines(asked):
                said = batch.compute(line)
                print(json.dumps(said), file=out)
                count += 1
                if said["status"] not in ANSWERED:
                    unanswered += 1
                    reason = line.trouble or f"{said['status']}: {said.get('reason', '')}"
                    print(f"{options.requests}:{line.number}: error: {reason}", file=sys.stderr)
        if unanswered:
            with open(options.results, encoding="utf-8") as done:
                sys.stdout.writelines(done)
            print(f"error: {unanswered} of {count} requests were not answered", file=sys.stderr)
    except OSError as error:
        print(f"error: {error.filename or options.results}: {error.strerror}", file=sys.stderr)
        return USAGE
    return 1 if unanswered else 0


if __name__ == "__main__":
    sys.exit(main())
