"""Local tasks: one at a time, beside the main loop, because Python actions swap the process's own stdout."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec

from .leash import hold


class LocalEnded(msgspec.Struct):
    """A local task's actions have run."""

    node: Any
    fail: Any
    """doit's failure, or None."""
    error: BaseException | None
    """What is not a failure of the task: `sys.exit()` in an action, an interrupt."""
    started_at: float
    run_s: float


class LocalThread:
    """Runs one local task after the other on a thread of its own."""

    def __init__(self, put: Callable[[LocalEnded], None]) -> None:
        self._put = put
        self._work: queue.SimpleQueue[tuple[Any, Any] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def run(self, node: Any, stream: Any) -> None:
        """Begin a task; `LocalEnded` follows."""
        if self._thread is None:
            # A daemon, because an action that never returns must not keep a stopped run alive.
            self._thread = threading.Thread(target=self._loop, name="majordomo-local", daemon=True)
            self._thread.start()
        self._work.put((node, stream))

    def close(self) -> None:
        """Let the thread end when it is idle."""
        self._work.put(None)

    def _loop(self) -> None:
        while (work := self._work.get()) is not None:
            node, stream = work
            self._put(execute(node, stream))


def execute(node: Any, stream: Any) -> LocalEnded:
    """Run a local task's actions here and now."""
    started, begun = time.time(), time.monotonic()
    fail, error = None, None
    if node.task.actions:
        hold()
    try:
        fail = node.task.execute(stream)
    except BaseException as raised:  # an action may raise anything; the main thread decides what it means
        error = raised
    return LocalEnded(node, fail, error, started, time.monotonic() - begun)


def end_children(patience_s: float = 2.0) -> None:
    """End every process below this one: TERM, then KILL."""
    import psutil

    with contextlib.suppress(psutil.Error):
        children = _children()
        for child in children:
            with contextlib.suppress(psutil.Error):
                child.terminate()
        _, alive = psutil.wait_procs(children, timeout=patience_s)
        for child in alive:
            with contextlib.suppress(psutil.Error):
                child.kill()
        psutil.wait_procs(alive, timeout=patience_s)


def _children() -> list[Any]:
    """Return every process below this one but the guard, which ends by itself."""
    import psutil

    leash = hold() if hold.cache_info().currsize else None
    guard = leash.pid if leash is not None else 0
    return [child for child in psutil.Process().children(recursive=True) if child.pid != guard]


def leave_at_once(code: int) -> None:
    """End this process and all below it without another word."""
    with contextlib.suppress(Exception):  # nothing may stop the user from leaving
        import psutil

        for child in _children():
            with contextlib.suppress(psutil.Error):
                child.send_signal(signal.SIGKILL)
    os._exit(code)
