"""The warm process: loads every kernel, checks it by known answers, computes one request after the other.

    python -m computefarm.workers.recompute.resident [options] SOCKET LIFELINE

It ends when its worker does: `LIFELINE` is a pipe that closes then, whatever this process is doing. When it
had to compile something it starts over with what is on disk now, without what the compiler left in memory.
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
from pathlib import Path

import msgspec

from computefarm.worker_api.kernel import Cancelled, Context, DeadlinePassed, names
from computefarm.worker_api.resident import (
    MAX,
    Ask,
    Changed,
    Drop,
    Frames,
    Ready,
    Told,
    frame,
    pack,
    read_ask,
    unpack,
    warmed,
)

from .computing import Computing
from .devices import own

PROGRAM = "computefarm.workers.recompute.resident"
LOOK_S = 0.005
"""How often a computation looks whether anybody still wants it."""


class Resident:
    """One process's side of the dialogue."""

    def __init__(self, sock: socket.socket, computing: Computing) -> None:
        self._socket = sock
        self._frames = Frames()
        self._computing = computing
        self._lost = ""
        self._lacking: list[str] = []
        self._dropped: set[int] = set()
        self._asked: list[Ask] = []
        self._number = 0
        self._until = 0.0
        self._look_at = 0.0
        for context in computing.contexts.values():
            context.check = self.check

    def warm_up(self, wanted: Sequence[str]) -> None:
        """Load these kernels, and see that they work."""
        self._until = float("inf")
        self._lacking = self._computing.load(wanted)
        self._lost = self._computing.lost

    def serve(self, began: float) -> None:
        """Say that it is warm, and since when it tried; serve until the worker closes the socket."""
        tags = self._computing.tags()
        self._say(Ready(tags, tuple(self._lacking), time.monotonic() - began, self._lost))
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
        status, reason, values, device = self._answer(ask)
        self._dropped.discard(ask.number)
        self._say(
            Told(
                ask.number,
                status,
                reason,
                values,
                device=device,
                cpu_ms=(time.process_time() - cpu) * 1000.0,
                wall_ms=(time.monotonic() - began) * 1000.0,
            )
        )
        self._tell_loss()

    def _answer(self, ask: Ask) -> tuple[str, str, bytes, str]:
        try:
            raw = unpack(ask.body)
            if not isinstance(raw, dict):
                return "bad_request", "the request is not a mapping", b"", ""
            computed = self._computing.compute(ask.kernel, ask.version, raw, ask.device, ask.vram)
            values = pack(computed.result.values)
        except msgspec.MsgspecError as error:
            return "bad_request", f"the request is not msgpack: {error}", b"", ""
        except MemoryError:
            return "too_large", "there is not enough memory for it now", b"", ""
        except Exception as error:  # a fault of the kernel's: this request fails, the process goes on
            return "error", f"{ask.kernel} failed: {type(error).__name__}: {error}", b"", ""
        return computed.result.status, computed.result.reason[:2000], values, computed.device

    def _tell_loss(self) -> None:
        """Say once why this process does not use its GPU any more."""
        if self._computing.lost != self._lost:
            self._lost = self._computing.lost
            self._say(Changed(self._computing.tags(), self._lost))

    def _say(self, message: Ready | Changed | Told) -> None:
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


def kept(cache: str) -> frozenset[str]:
    """Return the files of a cache of compiled code, and their versions."""
    found, ready = set(), warmed(cache)
    for path in Path(cache).rglob("*") if cache else ():
        if path == ready:
            continue  # that another process has become warm is nothing to load
        with contextlib.suppress(OSError):
            found.add(f"{path} {path.stat().st_mtime_ns}")
    return frozenset(found)


def start_over(options: argparse.Namespace, began: float) -> None:
    """Run this program anew in this process; returns only where that is not possible."""
    inherited = (options.socket, options.lifeline)
    again = ["--device", options.device, "--memory", str(options.memory), "--cache", options.cache]
    try:
        for number in inherited:
            os.set_inheritable(number, True)
        # It is as nice as it should be already.
        os.execv(
            sys.executable,
            [sys.executable, "-m", PROGRAM, *again, "--began", str(began), *map(str, inherited)],
        )
    except OSError as error:
        print(f"this process keeps the memory of its compiler: {error}", file=sys.stderr)


def _computing(options: argparse.Namespace) -> Computing:
    cpu = Context(memory=options.memory, cache=options.cache, scratch={})
    device = own(os.environ) if options.device == "gpu" else None
    if device is None:
        return Computing(cpu)
    gpu = Context(device="cuda", cache=options.cache, scratch={}, simulated=device.simulated)
    return Computing(cpu, gpu, device)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve one worker."""
    parser = argparse.ArgumentParser(prog="resident")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--memory", type=int, default=0)
    parser.add_argument("--cache", default="")
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("--began", type=float, default=0.0)
    parser.add_argument("socket", type=int)
    parser.add_argument("lifeline", type=int)
    options = parser.parse_args(argv)
    _end_with_the_worker(options.lifeline)
    if options.nice:
        os.nice(options.nice)
    computing = _computing(options)
    with socket.socket(fileno=options.socket) as sock:
        resident = Resident(sock, computing)
        began, before = options.began or time.monotonic(), kept(options.cache)
        try:
            resident.warm_up(_wanted(os.environ))
            if not options.began and kept(options.cache) != before:
                start_over(options, began)
            with contextlib.suppress(OSError):
                if options.cache:
                    warmed(options.cache).touch()
            resident.serve(began)
        except (BrokenPipeError, ConnectionResetError):
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
