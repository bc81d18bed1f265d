"""The warm process: loads every kernel, checks it by known answers, computes one request after the other.

    python -m computefarm.workers.recompute.resident [options] SOCKET LIFELINE

It ends when its worker does: `LIFELINE` is a pipe that closes then, whatever this process is doing.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from computefarm.worker_api.kernel import (
    Cancelled,
    Context,
    DeadlinePassed,
    Kernel,
    KernelError,
    answer,
    find,
    names,
)
from computefarm.worker_api.resident import MAX, Ask, Drop, Frames, Ready, Told, frame, pack, read_ask, unpack

LOOK_S = 0.005
"""How often a computation looks whether anybody still wants it."""


def load(context: Context, wanted: Sequence[str]) -> tuple[dict[str, Kernel[Any, Any]], list[str]]:
    """Return the kernels that work here, warm, and why the others do not."""
    kernels: dict[str, Kernel[Any, Any]] = {}
    lacking: list[str] = []
    for name in wanted:
        try:
            kernel = find(name)
            kernel.warmup(context)
            kernel.selftest(context)
        except KernelError as error:
            lacking.append(f"{name}: {error}")
        except Exception as error:  # whatever a kernel does wrong must not cost the others
            lacking.append(f"{name}: {type(error).__name__}: {error}")
        else:
            kernels[name] = kernel
    return kernels, lacking


def tags_of(kernels: Mapping[str, Kernel[Any, Any]], devices: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return what a worker with these kernels announces."""
    tags = {"devices": " ".join(devices)}
    for name, kernel in kernels.items():
        tags.update(kernel.tags())
        tags[f"kernel:{name}"] = str(kernel.version)
    return tuple(sorted(tags.items()))


class Resident:
    """One process's side of the dialogue."""

    def __init__(self, sock: socket.socket, context: Context) -> None:
        self._socket = sock
        self._frames = Frames()
        self._context = context
        self._kernels: dict[str, Kernel[Any, Any]] = {}
        self._dropped: set[int] = set()
        self._asked: list[Ask] = []
        self._number = 0
        self._until = 0.0
        self._look_at = 0.0
        context.check = self.check

    def run(self, wanted: Sequence[str]) -> None:
        """Warm up, say so, and serve until the worker closes the socket."""
        began = time.monotonic()
        self._until = float("inf")
        self._kernels, lacking = load(self._context, wanted)
        devices = (self._context.device,)
        self._say(Ready(tags_of(self._kernels, devices), tuple(lacking), time.monotonic() - began))
        while True:
            while not self._asked:
                self._hear()
            self._compute(self._asked.pop(0))

    def check(self) -> None:
        """Stop what nobody waits for; called by kernels every few milliseconds."""
        now = time.monotonic()
        if now >= self._until:
            raise DeadlinePassed("the deadline passed while it was computed")
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            if select.select((self._socket,), (), (), 0)[0]:
                self._hear()
            if self._number in self._dropped:
                raise Cancelled("nobody wants it any more")

    def _hear(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise SystemExit(0)
        for body in self._frames.feed(data):
            message = read_ask(body)
            if isinstance(message, Drop):
                self._dropped.add(message.number)
            else:
                self._asked.append(message)

    def _compute(self, ask: Ask) -> None:
        began, cpu = time.monotonic(), time.process_time()
        self._number, self._until, self._look_at = ask.number, began + ask.budget_s, began + LOOK_S
        status, reason, values = self._answer(ask)
        self._dropped.discard(ask.number)
        self._say(
            Told(
                ask.number,
                status,
                reason,
                values,
                device=str(self._context.scratch.get("device") or self._context.device),
                cpu_ms=(time.process_time() - cpu) * 1000.0,
                wall_ms=(time.monotonic() - began) * 1000.0,
            )
        )

    def _answer(self, ask: Ask) -> tuple[str, str, bytes]:
        kernel = self._kernels.get(ask.kernel)
        if kernel is None or kernel.version < ask.version:
            return "error", f"there is no kernel {ask.kernel} for requests of version {ask.version} here", b""
        try:
            raw = unpack(ask.body)
            if not isinstance(raw, dict):
                return "bad_request", "the request is not a mapping", b""
            result = answer(kernel, raw, self._context)
            values = pack(result.values)
        except msgspec.MsgspecError as error:
            return "bad_request", f"the request is not msgpack: {error}", b""
        except MemoryError:
            return "too_large", "there is not enough memory for it now", b""
        except Exception as error:  # a fault of the kernel's: this request fails, the process goes on
            return "error", f"{ask.kernel} failed: {type(error).__name__}: {error}", b""
        return result.status, result.reason[:2000], values

    def _say(self, message: Ready | Told) -> None:
        data = frame(message)
        if len(data) > MAX and isinstance(message, Told):
            reason = "the answer is too large"
            data = frame(msgspec.structs.replace(message, status="error", values=b"", reason=reason))
        self._socket.sendall(data)


def _wanted(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return which kernels to load: those of `CF_RECOMPUTE_KERNELS`, a comma list, else all there are."""
    named = environ.get("CF_RECOMPUTE_KERNELS", "")
    return tuple(name.strip() for name in named.split(",") if name.strip()) or names()


def _end_with_the_worker(lifeline: int) -> None:
    """End this process when the other end of a pipe is closed, even in the middle of a computation."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            os.read(lifeline, 1)
        os._exit(0)

    threading.Thread(target=wait, name="cf-lifeline", daemon=True).start()


def main(argv: Sequence[str] | None = None) -> int:
    """Serve one worker."""
    parser = argparse.ArgumentParser(prog="resident")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--memory", type=int, default=0)
    parser.add_argument("--cache", default="")
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("socket", type=int)
    parser.add_argument("lifeline", type=int)
    options = parser.parse_args(argv)
    _end_with_the_worker(options.lifeline)
    if options.nice:
        os.nice(options.nice)
    device = "cuda" if options.device == "gpu" else "cpu"
    context = Context(device=device, memory=options.memory, cache=options.cache, scratch={})
    with socket.socket(fileno=options.socket) as sock:
        try:
            Resident(sock, context).run(_wanted(os.environ))
        except (BrokenPipeError, ConnectionResetError):
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
