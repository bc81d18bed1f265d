"""Work that must not run on a loop's thread: hashing, SQLite, copying files.

One background thread per `Offload`, in order; what it returns goes to a continuation on the loop's thread.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

from computefarm.transport.mailbox import Mailbox

from .loop import Loop

Work = Callable[[], Any]
Then = Callable[[Any, BaseException | None], None]
"""Called on the loop's thread with the value, or with the exception that the work raised."""


class Offload:
    """A queue of work for one background thread."""

    def __init__(self, name: str) -> None:
        self._work: queue.SimpleQueue[tuple[Work, Then | None] | None] = queue.SimpleQueue()
        self._done: Mailbox[tuple[Then, Any, BaseException | None]] = Mailbox()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def attach(self, loop: Loop) -> None:
        """Start the thread and deliver results in `loop`."""
        loop.watch(self._done.fileno(), self._deliver)
        self._thread.start()

    def submit(self, work: Work, then: Then | None = None) -> None:
        """Run `work` after all that was submitted before it."""
        self._work.put((work, then))

    def close(self, loop: Loop | None = None) -> None:
        """Finish what is queued, then end the thread; continuations no longer run."""
        if loop is not None:
            loop.unwatch(self._done.fileno())
        if self._thread.is_alive():
            self._work.put(None)
            self._thread.join(10)
        self._done.close()

    def _deliver(self) -> None:
        for then, value, error in self._done.drain():
            then(value, error)

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            work, then = item
            value: Any = None
            failure: BaseException | None = None
            try:
                value = work()
            except Exception as error:  # reported to whoever asked, on their thread
                failure = error
            if then is not None:
                self._done.put((then, value, failure))
            elif failure is not None:
                threading.excepthook(
                    threading.ExceptHookArgs((type(failure), failure, failure.__traceback__, self._thread))
                )
