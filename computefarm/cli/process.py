"""What every long-lived command does: log to stderr, end on signals, go to the background when asked."""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from computefarm.errors import FarmError, Refused, UsageError
from computefarm.home import Home, private_folder
from computefarm.host.pids import OwnProcesses
from computefarm.services.loop import Loop
from computefarm.transport.farms import Access, find_access

WAIT_S = 10.0
"""One line this often while there is no farm to work for."""

LOOK_S = 0.25
"""How often one is looked for."""

log = logging.getLogger("computefarm.process")


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are ours: one sentence, what to type next, exit 3."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the command line, and end."""
        self.exit(UsageError.exit_code, f"{self.prog}: {message}\n  {self.prog} --help\n")


def fail(error: FarmError, program: str) -> int:
    """Print an error for people and return its exit code."""
    sys.stdout.flush()
    print(f"{program}: {error}", file=sys.stderr)
    return error.exit_code


def set_up_logging(verbose: bool = False) -> None:
    """Log to stderr, one line per record."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )


@contextlib.contextmanager
def registered() -> Iterator[None]:
    """Count this process among ComputeFarm's own while it runs: its load is not its host's."""
    own = OwnProcesses()
    own.register()
    try:
        yield
    finally:
        own.forget()


class Signals:
    """Turns signals into calls on the loop's thread."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._calls: dict[int, Callable[[], None]] = {}
        self.received = 0
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        loop.watch(self._read, self._arrived)

    def on(self, number: signal.Signals, call: Callable[[], None]) -> None:
        """Run `call` in the loop when `number` arrives."""
        self._calls[number] = call
        signal.signal(number, lambda *_: None)

    def stop_on_signals(self) -> None:
        """Leave the loop on SIGINT and SIGTERM; a second one ends the process at once."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self.on(number, lambda number=number: self._stop(number))  # type: ignore[misc]

    def _stop(self, number: int) -> None:
        if self.received:
            os._exit(128 + number)
        self.received = number
        self._loop.stop()

    def _arrived(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in os.read(self._read, 512):
                call = self._calls.get(number)
                if call is not None:
                    call()


def wait_for_farm(home: Home, farm: str, wanted: Callable[[], bool] = lambda: True) -> Access | None:
    """Return how to reach the farm, waiting for one; None when it is not `wanted` any more."""
    said = float("-inf")
    while wanted():
        why = "no farm is configured here; start one: cf-taskmanager start, or join one: --join LINE"
        try:
            access = find_access(home, farm)
        except Refused:
            raise
        except FarmError as error:
            access, why = None, str(error)
        if access is not None:
            return access
        if farm == "local":
            raise UsageError(
                "this needs a farm; `local` is the one that runs inside majordomo",
                hint="cf-taskmanager start --daemon    # then again, without --farm",
            )
        if time.monotonic() - said >= WAIT_S:
            said = time.monotonic()
            log.warning("waiting: %s", why)
        time.sleep(LOOK_S)
    return None


def quiet_garbage_collector() -> None:
    """Collect garbage rarely: a service's tables are large and hold no cycles worth looking for often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def into_background(home: Home, program: str) -> None:
    """Continue as a daemon that logs to a file; the parent returns to the shell when the child says so."""
    folder = private_folder(home.state / "logs")
    log = folder / f"{program}.log"
    before = log.stat().st_size if log.exists() else 0
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        with os.fdopen(reading) as news:
            text = news.read()
        if text.startswith("ok"):
            print(text[2:].strip(), flush=True)
            os._exit(0)
        sys.stderr.write(_tail(log, before) or f"{program}: it did not start, and did not say why\n")
        print(f"  all that it has logged: {log}", file=sys.stderr)
        os._exit(int(text or "1") if (text or "1").isdigit() else 1)
    os.close(reading)
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ["CF_DAEMON_FD"] = str(writing)


def tell_parent(text: str) -> None:
    """Let the shell go on: the daemon is up (or `text` is its exit code)."""
    number = os.environ.pop("CF_DAEMON_FD", "")
    if number:
        with contextlib.suppress(OSError):
            os.write(int(number), text.encode())
            os.close(int(number))


def _tail(path: Path, begins: int, lines: int = 5) -> str:
    """Return the last of the lines after the first `begins` bytes."""
    try:
        with path.open("rb") as file:
            file.seek(begins)
            return "".join(file.read().decode(errors="replace").splitlines(keepends=True)[-lines:])
    except OSError:
        return ""
