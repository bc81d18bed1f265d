"""A client's loop: submits a run's tasks, serves their inputs, puts their outputs in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from computefarm.codec import MAX_ACTION, decode_action
from computefarm.core.client import (
    ClientCommand,
    ClientEvent,
    ClientSession,
    Linked,
    Reconnect,
    Rejected,
    Say,
    Silent,
    Tell,
)
from computefarm.core.outputs import stray_output
from computefarm.errors import FarmError, Refused, Unreachable
from computefarm.messages import (
    Accepted,
    Answer,
    Digest,
    Done,
    FromManager,
    LogPage,
    Offers,
    Outcome,
    OutputPage,
    Placed,
    ReadLog,
    ReadOutput,
    Result,
    Taken,
    TaskOutput,
    Waiting,
    Want,
    Welcome,
)
from computefarm.store.blobs import BlobStore
from computefarm.transport.mailbox import Mailbox
from computefarm.transport.peer_end import LinkEvent, LinkState, PeerEnd
from computefarm.transport.wire import Buffer

from .deliveries import Deliveries, failed
from .dialling import Dialler
from .link import Link, link_error
from .loop import Loop
from .orders import Finish, Observer, Order, SourceShelf
from .transfer import Transfer

MANY = 64
"""Tasks in flight from which on the client takes its time."""

PACE_S = 0.005
"""Between two turns then."""

LOST_S = 10.0
"""A manager that has been away for this long is reported as unreachable."""


STRANGE = 2
"""Answers in a row from somebody who is not our manager that are believed."""

ANEW = 1 << 40
"""Added to the number of a task that is submitted once more because its outputs were lost."""


class ClientService:
    """One run's connection to a farm."""

    def __init__(
        self,
        *,
        session: str,
        host: str,
        hostname: str,
        control: PeerEnd,
        bulk: PeerEnd,
        store: BlobStore,
        observer: Observer,
        shared: bool = False,
        dialler: Dialler | None = None,
        role: str = "client",
    ) -> None:
        self._session_id = session
        self._store = store
        self._observer = observer
        self._shared = shared
        self._calls: Mailbox[Callable[[], None]] = Mailbox()
        self._shelf = SourceShelf()
        self._orders: dict[int, Order] = {}
        self._answers: dict[int, Callable[[Answer], None]] = {}
        self._pages: dict[int, tuple[ReadLog | ReadOutput, Callable[[Any], None]]] = {}
        self._page = 0
        self._taken: list[int] = []
        """Tasks done in this turn; told in one message."""
        self._down: LinkEvent | None = None
        self._linked = self._submitted = False
        self._down_since: float | None = None
        self._strange = 0
        """How often in a row somebody has answered who does not speak as our manager does."""
        self._transfer = Transfer(
            "cf-client-io",
            store=store,
            shelf=self._shelf,
            say=lambda *said: self._link.say_bulk(*said),
            arrived=lambda digests: self._deliveries.arrived(digests),
            failed=lambda digests, text: self._deliveries.failed(digests, text),
        )
        self._deliveries = Deliveries(
            store, self._transfer, project=self._project, finish=self._finish, again=self._once_more
        )
        self._link = Link(
            role=role,
            host=host,
            hostname=hostname,
            control=control,
            bulk=bulk,
            up=self._connected,
            message=self._heard,
            data=self._bulk_heard,
            down=self._went_down,
            dialler=dialler,
        )

    # --- the loop's side ---

    def attach(self, loop: Loop) -> None:
        """Register the connections and the mailbox of calls from other threads."""
        self._loop = loop
        self._clock = loop.clock
        self._session = ClientSession(self._session_id, now=loop.clock())
        self._transfer.attach(loop)
        self._down_since = loop.clock()
        loop.watch(self._calls.fileno(), self._called)
        self._link.attach(loop)

    def tick(self, now: float) -> None:
        """Heartbeats, re-requests, and the patience with an absent manager."""
        self._obey(self._session.tick(now))
        self._transfer.tick(now)
        self._link.tick(now)
        if self._down_since is not None and now - self._down_since >= LOST_S:
            self._down_since = None
            stranger = self._down is not None and self._down.state is LinkState.STRANGER
            self._observer.broken(link_error(self._down) if self._down and stranger else _unreachable(LOST_S))

    def next_deadline(self) -> float | None:
        """Return the earliest deadline of the parts."""
        parts = (
            self._session.next_deadline(),
            self._transfer.next_deadline(),
            self._down_since + LOST_S if self._down_since is not None else None,
            self._link.next_deadline(),
        )
        return min((part for part in parts if part is not None), default=None)

    def pace(self) -> float:
        """Wait for company while many tasks are out: none of them waits for this process."""
        return PACE_S if len(self._orders) >= MANY else 0.0

    def flush(self) -> None:
        """Send what this turn has gathered, and let the observer pass on what it was told."""
        if self._taken:
            taken, self._taken = tuple(self._taken), []
            self._obey(self._session.taken(taken, self._clock()))
        self._link.flush()
        self._observer.flush()

    def close(self) -> None:
        """Say goodbye: what still runs for this session is cancelled."""
        # Who only asked something leaves without a word in the manager's log.
        self._obey(self._session.leave(self._clock(), "the run is over" if self._submitted else ""))
        self._link.flush()
        self._transfer.close(self._loop)
        self._link.close()
        self._calls.close()

    # --- for other threads ---

    def call(self, function: Callable[[], None]) -> None:
        """Run `function` on the loop's thread."""
        self._calls.put(function)

    def submit(self, orders: Sequence[Order]) -> None:
        """Submit tasks; callable from any thread."""
        self._calls.put(lambda: self._submit(orders))

    def cancel(self, tasks: Sequence[int], reason: str) -> None:
        """Cancel tasks (all when empty); callable from any thread."""
        self._calls.put(lambda: self._obey(self._session.cancel(tuple(tasks), self._clock(), reason)))

    def ask(self, about: str, task: str, then: Callable[[Answer], None], session: str | None = None) -> None:
        """Ask the manager about this session or another; `then` runs on the loop's thread.

        Callable from any thread.
        """
        asked = self._session_id if session is None else session
        self._calls.put(lambda: self._ask(about, task, then, asked))

    def cancel_run(
        self, session: str, names: Sequence[str], reason: str, then: Callable[[Answer], None]
    ) -> None:
        """Cancel tasks of another session of this key (all without names); callable from any thread."""
        self._calls.put(
            lambda: self._await(self._session.cancel_run(session, tuple(names), self._clock(), reason), then)
        )

    def read_log(self, wish: ReadLog, then: Callable[[LogPage], None]) -> None:
        """Ask for a page of the farm's log; `then` runs on the loop's thread. Callable from any thread."""
        self._calls.put(lambda: self._ask_page(wish, then))

    def read_output(self, wish: ReadOutput, then: Callable[[OutputPage], None]) -> None:
        """Ask for a page of what an attempt printed; `then` runs on the loop's thread. From any thread."""
        self._calls.put(lambda: self._ask_page(wish, then))

    # --- on the loop's thread ---

    def _ask_page(self, wish: ReadLog | ReadOutput, then: Callable[[Any], None]) -> None:
        self._page += 1
        asked = msgspec.structs.replace(wish, number=self._page)
        self._pages[self._page] = (asked, then)
        if self._link.welcome:
            self._link.say(asked)

    def _called(self) -> None:
        for function in self._calls.drain():
            function()

    def _ask(self, about: str, task: str, then: Callable[[Answer], None], session: str) -> None:
        self._await(self._session.ask(about, self._clock(), task, session), then)

    def _await(self, asked: tuple[int, list[ClientCommand]], then: Callable[[Answer], None]) -> None:
        number, commands = asked
        self._answers[number] = then
        self._obey(commands)

    def _submit(self, orders: Sequence[Order]) -> None:
        self._submitted = True
        for order in orders:
            self._orders[order.spec.task] = order
            self._shelf.put(order.sources)
        orders = self._without_giants(orders)
        if self._shared:
            absent = {d for order in orders for d in order.inputs if d not in self._store}
            if absent:
                # The embedded farm has no wire: the files go straight into its store.
                self._transfer.submit(
                    lambda: self._shelve(absent), lambda _value, error: self._shelved(orders, error)
                )
                return
        self._send(orders)

    def _without_giants(self, orders: Sequence[Order]) -> Sequence[Order]:
        """Fail the tasks that no message can hold; return the others."""
        giants = [order for order in orders if len(order.spec.action) > MAX_ACTION]
        for order in giants:
            size, inputs = len(order.spec.action), len(order.inputs)
            reason = (
                f"the task has too many inputs: {inputs:,}, and their names alone are {size:,} bytes, where "
                f"{MAX_ACTION:,} are the limit; pack them into one file, with tar for instance"
            )
            del self._orders[order.spec.task]
            result = Result(Outcome.FAILED, reason=reason)
            self._observer.finished(Finish(order.reported_as, result, False, "", "", 0.0, ()))
        return [order for order in orders if order not in giants] if giants else orders

    def _shelve(self, digests: Iterable[Digest]) -> None:
        for digest in digests:
            path = self._shelf.path(digest)
            if path is not None and digest not in self._store:
                self._store.add_file(path)

    def _shelved(self, orders: Sequence[Order], error: BaseException | None) -> None:
        if error is not None and not isinstance(error, OSError | FarmError):
            raise error
        # A file that could not be read is asked for again by the manager, and fails its task by name.
        self._send(orders)

    def _send(self, orders: Sequence[Order]) -> None:
        tasks = [(order.need, order.spec) for order in orders]
        self._obey(self._session.submit(tasks, self._clock()))

    def _connected(self) -> None:
        self._obey(self._session.connected(self._clock()))
        self._transfer.restart()

    def _went_down(self, event: LinkEvent) -> None:
        self._obey(self._session.disconnected(self._clock()))
        # A manager that is stopping, or is being killed, takes a connection and hangs up as a stranger would.
        self._strange = self._strange + 1 if event.state is LinkState.STRANGER and not self._linked else 0
        if event.state is LinkState.REFUSED or self._strange >= STRANGE:
            self._observer.broken(link_error(event))
            return
        if self._strange:
            return
        told, self._down = self._down, event
        if self._down_since is None or told is None or told.text != event.text:
            self._down_since = self._down_since or self._clock()
            self._observer.link(False, event.text)

    def _heard(self, message: FromManager) -> None:
        if self._linked:
            self._down_since = None
        if isinstance(message, LogPage | OutputPage) and message.number in self._pages:
            self._pages.pop(message.number)[1](message)
        if isinstance(message, Welcome):
            for asked, _ in self._pages.values():
                self._link.say(asked)
        self._obey(self._session.receive(message, self._clock()))

    def _bulk_heard(self, message: FromManager, data: Buffer | None) -> None:
        if not self._transfer.heard(message, data):
            self._heard(message)

    def _obey(self, commands: Iterable[ClientCommand]) -> None:
        for command in commands:
            match command:
                case Say(message=Taken() as message):
                    self._link.say_later(message)
                case Say(message=message):
                    self._link.say(message)
                case Tell(event=event):
                    self._told(event)
                case Reconnect(reason=reason):
                    self._observer.link(False, reason)
                    self._link.reconnect()

    def _told(self, event: ClientEvent) -> None:
        match event:
            case Done():
                self._done(event)
            case Placed():
                self._observer.placed(event.task % ANEW, event.attempt, event.worker, event.hostname)
            case TaskOutput():
                self._observer.printed(event.task % ANEW, event.attempt, event.pieces)
            case Waiting():
                self._observer.held(
                    tuple(task % ANEW for task in event.tasks),
                    event.need,
                    event.obstacles,
                    event.offered,
                    event.ever,
                )
            case Offers():
                self._observer.offered(event.pools, event.settled, event.gone)
            case Answer():
                then = self._answers.pop(event.number, None)
                if then is not None:
                    then(event)
            case Linked():
                self._down_since = None
                self._linked = True
                self._observer.link(True, f"connected to farm {event.farm}")
            case Rejected():
                self._observer.broken(Refused(event.text))
            case Silent():
                # Perhaps it starts again on a busy machine: the same patience as with one that is away.
                if self._down_since is None:
                    self._down_since = self._clock() - event.seconds
            case Accepted():
                pass  # written down: `unaccepted` of the session counts
            case Want():
                pass  # the manager pulls inputs on the bulk connection

    # --- outputs ---

    def _done(self, done: Done) -> None:
        order = self._orders.get(done.task)
        if order is None:
            return
        if done.result.outputs:
            # The manager has looked too; but these are this user's files.
            stray = stray_output(done.result.outputs, decode_action(order.spec.action).outputs)
            if stray is not None:
                done = failed(done, f"the farm sent what it must not: {stray}")
        self._deliveries.take(done)

    def _project(self, task: int) -> Path:
        return self._orders[task].project

    def _once_more(self, done: Done, text: str) -> None:
        """Run the task once more, without the result cache: the manager has lost its outputs."""
        order = self._orders[done.task]
        if order.spec.task >= ANEW:
            self._finish(failed(done, f"its outputs cannot be fetched: {text}"))
            return
        del self._orders[done.task]
        self._obey(self._session.taken((done.task,), self._clock()))
        spec = msgspec.structs.replace(order.spec, task=order.spec.task + ANEW, read_cache=False)
        self._orders[spec.task] = msgspec.structs.replace(order, spec=spec)
        self._obey(self._session.submit([(order.need, spec)], self._clock()))

    def _finish(self, done: Done) -> None:
        order = self._orders.pop(done.task, None)
        if order is None:
            return
        self._taken.append(done.task)
        self._observer.finished(
            Finish(
                task=order.reported_as,
                result=done.result,
                cached=done.cached,
                worker=done.worker,
                hostname=done.hostname,
                queued_s=done.queued_s,
                attempts=done.attempts,
            )
        )


def _unreachable(seconds: float) -> Unreachable:
    return Unreachable(
        f"no answer from the TaskManager for {seconds:.0f} s",
        hint="cf-taskmanager status    # is it running? Or run without it: majordomo run --farm local",
    )
