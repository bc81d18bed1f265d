"""From a client's loop to majordomo's sink: what both backends share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import zmq

from computefarm.errors import FarmError, Unreachable
from computefarm.messages import (
    Answer,
    Explanation,
    Need,
    Obstacle,
    Piece,
    Pool,
    Status,
    TaskSpec,
)
from computefarm.services.client import ClientService
from computefarm.services.loop import Loop
from computefarm.services.orders import Finish, Observer, Order
from computefarm.store.blobs import BlobStore

from .base import Broken, Ended, Event, Held, Link, Offered, Placed, Printed, Sink, Submission

ANSWER_S = 10.0
"""How long a question to the manager may take."""

ABANDON_S = 0.3
"""How long a process that ends at once waits for its last word to be sent."""

LEAVE_S = 0.05
"""…and then for the socket's own thread to bring it to the network."""


class Bridge(Observer):
    """Turns what the client service reports into backend events, handed over once per turn of the loop.

    One by one they would wake majordomo's thread each time, and the two would fight for the lock of Python.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._events: list[Event] = []
        self.pools: tuple[Pool, ...] = ()
        self.gone: tuple[Pool, ...] = ()
        self.settled = False
        self.heard = threading.Event()
        """Set when the farm has said what it offers, or that it cannot be used."""
        self.error: FarmError | None = None
        self.waiting: set[threading.Event] = set()
        """Set when the farm cannot be used: whoever waits for an answer waits in vain."""

    def flush(self) -> None:
        """Hand over what this turn has gathered."""
        if self._events:
            events, self._events = self._events, []
            for event in events:
                self._sink(event)

    def placed(self, task: int, attempt: int, worker: str, hostname: str) -> None:
        """Pass it on."""
        self._events.append(Placed(task, attempt, worker, hostname))

    def printed(self, task: int, attempt: int, pieces: tuple[Piece, ...]) -> None:
        """Pass it on."""
        self._events.append(Printed(task, attempt, pieces))

    def finished(self, finish: Finish) -> None:
        """Pass it on."""
        self._events.append(
            Ended(
                finish.task,
                finish.result,
                finish.cached,
                finish.worker,
                finish.hostname,
                finish.queued_s,
                finish.attempts,
            )
        )

    def held(
        self, tasks: tuple[int, ...], need: Need, obstacles: tuple[Obstacle, ...], offered: bool, ever: bool
    ) -> None:
        """Pass it on."""
        self._events.append(Held(tasks, need, obstacles, offered, ever))

    def offered(self, pools: tuple[Pool, ...], settled: bool, gone: tuple[Pool, ...]) -> None:
        """Remember it for `offers`, and pass it on."""
        self.pools = pools
        self.gone = gone
        self.settled = settled
        self.heard.set()
        self._events.append(Offered(pools, settled))

    def link(self, up: bool, text: str) -> None:
        """Pass it on."""
        self._events.append(Link(up, text))

    def broken(self, error: FarmError) -> None:
        """Remember it for whoever waits, and pass it on."""
        self.error = error
        for event in (self.heard, *tuple(self.waiting)):
            event.set()
        # At once: the loop may never turn again.
        self.flush()
        self._sink(Broken(error))


def orders(submissions: Sequence[Submission]) -> list[Order]:
    """Turn majordomo's submissions into a client's orders."""
    return [
        Order(
            spec=TaskSpec(
                task=one.task,
                name=one.name,
                need=0,
                action=one.action,
                priority=one.priority,
                retries=one.retries,
                read_cache=one.read_cache,
                write_cache=one.write_cache,
                kind=one.kind,
            ),
            need=one.need,
            sources=dict(one.sources),
            inputs=tuple(one.sources),
            project=one.project,
            reported_as=one.task,
        )
        for one in submissions
    ]


class ClientBackend:
    """What both backends do alike: hand wishes to a client's loop on a thread, and end that thread."""

    stop_s = 5.0
    """How long a clean end may take; then the process ends anyway."""

    _bridge: Bridge
    _client: ClientService
    _context: zmq.Context[zmq.Socket[bytes]]
    _loop: Loop
    _store: BlobStore
    _thread: threading.Thread
    _closed = False

    def submit(self, submissions: Sequence[Submission]) -> None:
        """Hand tasks to the loop's thread."""
        self._client.submit(orders(submissions))

    def cancel(self, tasks: Sequence[int], reason: str) -> None:
        """End these tasks, or all."""
        self._client.cancel(tasks, reason)

    def abandon(self) -> None:
        """Cancel everything, and wait until the word has left."""
        self.cancel((), "interrupted")
        left = threading.Event()
        # The second call comes in a later turn than the first, which ended with everything being sent.
        self._client.call(lambda: self._client.call(left.set))
        if left.wait(ABANDON_S):
            time.sleep(LEAVE_S)

    def status(self) -> Status:
        """Return the farm's state."""
        status = self.question("status").status
        assert status is not None
        return status

    def explain(self, task: int) -> Explanation:
        """Return what the manager knows of a task of this run."""
        explanation = self.question("explain", str(task)).explanation
        assert explanation is not None
        return explanation

    def question(self, about: str, task: str = "", session: str | None = None) -> Answer:
        """Ask the manager and wait for the answer; callable from any thread but the loop's."""
        return self.answer_to(lambda then: self._client.ask(about, task, then, session))

    def answer_to(self, ask: Callable[[Callable[[Answer], None]], None]) -> Answer:
        """Call `ask` with what takes the answer, and wait for it; raise what makes it impossible."""
        box: list[Answer] = []
        ready = threading.Event()

        def then(answer: Answer) -> None:
            box.append(answer)
            ready.set()

        self._bridge.waiting.add(ready)
        try:
            ask(then)
            ready.wait(0.0 if self._bridge.error else ANSWER_S)
        finally:
            self._bridge.waiting.discard(ready)
        if box:
            return box[0]
        raise self._bridge.error or Unreachable(
            f"the TaskManager did not answer within {ANSWER_S:.0f} s", hint="cf-taskmanager status"
        )

    def close(self) -> None:
        """Say goodbye, end what this backend started, join the thread; harmless when repeated."""
        if self._closed:
            return
        self._closed = True
        if self._thread.is_alive():
            self._client.call(self._loop.stop)
            self._thread.join(self.stop_s)
        if not self._thread.is_alive():
            self._store.close()
            self._context.destroy(linger=0)


def run_guarded(run: Callable[[], None], broken: Callable[[FarmError], None]) -> None:
    """Run a loop's thread; a bug there must end the run with a message, never hang it."""
    try:
        run()
    except FarmError as error:
        broken(error)
    except Exception as error:  # the last line of defence of a thread: reported, then raised for the log
        broken(FarmError(f"the farm's loop stopped unexpectedly: {type(error).__name__}: {error}"))
        raise
