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

from computefarm.worker_api.kernel import (
    ANSWERED,
    BAD_REQUEST,
    ERROR,
    Context,
    Envelope,
    KernelError,
    Response,
    Result,
    find,
)
from computefarm.worker_api.lines import Line, read_lines

from .computing import Computed, Computing
from .devices import find as find_devices
from .devices import plan

USAGE = 3


class Batch:
    """The kernels of one process, each warmed up when it is first needed."""

    def __init__(self, computing: Computing, vram: int = 0) -> None:
        """`vram`: bytes of the GPU's memory that a request may use."""
        self._computing = computing
        self._vram = vram
        self._lacking: dict[str, KernelError | None] = {}

    def compute(self, line: Line) -> dict[str, object]:
        """Return the answer to one line, as it is written."""
        computed = Computed(Result(BAD_REQUEST, reason=f"line {line.number}: {line.trouble}"), "cpu")
        began, cpu = time.monotonic(), time.process_time()
        if not line.trouble:
            # An `id` in a file may be any text or number; it is for the results alone.
            raw = {key: value for key, value in line.raw.items() if key != "id"}
            try:
                envelope = Envelope.read(raw)
                self._warm(envelope.kernel)
                began, cpu = time.monotonic(), time.process_time()
                computed = self._answer(envelope, raw)
            except KernelError as error:
                computed = Computed(Result(error.status, reason=str(error)), "cpu")
        response = Response(
            id=b"",
            status=computed.result.status,
            reason=computed.result.reason,
            values=computed.result.values,
            device=computed.device,
            cpu_ms=(time.process_time() - cpu) * 1000.0,
            wall_ms=(time.monotonic() - began) * 1000.0,
        )
        return {**json.loads(response.as_json()), "id": line.id}

    def _answer(self, envelope: Envelope, raw: Mapping[str, object]) -> Computed:
        name = envelope.kernel
        try:
            device = self._computing.preferred(name, raw, envelope.device)
            return self._computing.compute(name, envelope.version, raw, device, self._vram)
        except KernelError:
            raise
        except MemoryError:
            return Computed(Result("too_large", reason="there is not enough memory for it now"), "cpu")
        except Exception as error:  # a fault of the kernel's: this request fails, the others go on
            return Computed(Result(ERROR, reason=f"{name} failed: {type(error).__name__}: {error}"), "cpu")

    def _warm(self, name: str) -> None:
        """Load a kernel when it is first asked for; raises `KernelError` when it does not work."""
        if name not in self._lacking:
            self._lacking[name] = self._loaded(name)
        error = self._lacking[name]
        if error is not None:
            raise error

    def _loaded(self, name: str) -> KernelError | None:
        try:
            find(name)
        except KernelError as error:
            return error
        lacking = self._computing.load([name], trusting=True)
        if not self._computing.works(name):
            return KernelError("; ".join(lacking))
        for text in lacking:
            print(f"note: {text}", file=sys.stderr)
        return None


def _computing(cache: str) -> tuple[Computing, int]:
    """Return what to compute with, and how much of the GPU's memory a request may use."""
    cpu = Context(scratch={}, cache=cache)
    if os.environ.get("CF_RECOMPUTE_DEVICE") != "gpu":
        return Computing(cpu), 0
    found = find_devices(os.environ)
    place = plan(found.devices, 1)[0]
    if place.device is None:
        print(f"note: computed on the CPU: {found.reason}", file=sys.stderr)
        return Computing(cpu), 0
    # Before CUDA is loaded, which looks at it once.
    os.environ.update(place.env)
    gpu = Context(device="cuda", scratch={}, cache=cache, simulated=place.device.simulated)
    return Computing(cpu, gpu, place.device), place.budget


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
    parser.add_argument("--with", action="append", default=[], dest="owners", help=argparse.SUPPRESS)
    parser.add_argument("requests", metavar="REQUESTS.jsonl")
    parser.add_argument("results", metavar="RESULTS.jsonl")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    options = _options(argv)
    if os.path.realpath(options.requests) == os.path.realpath(options.results):
        print(f"error: {options.results}: these are the requests themselves", file=sys.stderr)
        return USAGE
    os.environ.update(tuple(text.partition("=")[::2]) for text in options.owners)
    batch = Batch(*_computing(_cache(options.cache)))
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
