"""The Worker's loop: a `WorkerSession` that decides, `Executions` that do, a `Link` to the manager."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from computefarm.core.worker import (
    RESULT_HOLD_S,
    LetGo,
    Quit,
    Recall,
    Reconnect,
    Say,
    Start,
    Stop,
    Upload,
    WorkerCommand,
    WorkerSession,
)
from computefarm.host.oom import OomCounter
from computefarm.messages import (
    Digest,
    Finished,
    FromManager,
    Goodbye,
    Offer,
    Output,
    OutputPage,
    Piece,
    ReadOutput,
    Register,
    Reported,
    Result,
    Welcome,
)
from computefarm.quantities import format_duration
from computefarm.sandbox.pool import SpawnerPool
from computefarm.store.blobs import BlobStore
from computefarm.store.layout import PrivateDirs
from computefarm.transport.peer_end import LinkEvent, PeerEnd
from computefarm.transport.wire import Buffer

from .attempts import Attempt
from .bulk import StoreShelf
from .clock import FarmClock
from .dialling import Dialler
from .disk import Disk
from .equip import Toolbox
from .execution import Executions
from .failures import Failures
from .link import Link
from .loop import Loop
from .offering import Offering
from .own_records import OwnRecords
from .printing import Printing
from .spill import Spill
from .transfer import Transfer
from .warm import WarmCapability

log = logging.getLogger("computefarm.worker")

AHEAD = 8
"""Attempts per slot made ready while others run, so that the spawner never waits for this process."""

PRESSED = 6
"""Attempts in hand per slot from which on the worker takes its time."""

PACE_S = 0.003
"""Between two turns under pressure."""

LINES = 64 * 1024 * 1024
"""Characters of lines that wait for a manager that is away."""

SAY_AGAIN_S = 10.0
"""A worker that cannot reach its manager says so this often."""


class WorkerService:
    """One worker: offers capabilities, runs attempts in its slots."""

    def __init__(
        self,
        *,
        register: Register,
        control: PeerEnd,
        bulk: PeerEnd,
        store: BlobStore,
        directories: PrivateDirs,
        spawners: SpawnerPool,
        toolbox: Toolbox,
        facts: Mapping[str, str],
        quit: Callable[[str, str], None],
        dialler: Dialler | None = None,
        result_hold_s: float = RESULT_HOLD_S,
        spill: Spill | None = None,
        own: OwnRecords | None = None,
        warm: WarmCapability | None = None,
    ) -> None:
        """`spill` keeps what is too much to be sent; `own` has this process's records for the farm's log."""
        self._register = register
        self._result_hold_s = result_hold_s
        self._store = store
        self._directories = directories
        self._spawners = spawners
        self._toolbox = toolbox
        self._facts = facts
        self._quit = quit
        self._warm = warm
        self._spill = spill
        self._own = own
        self._farm_clock = FarmClock()
        self._lines: dict[Attempt, list[Output]] = {}
        """Said at the end of the turn, or before the end of the attempt; kept while the manager is away."""
        self._lines_size = 0
        self._pinned: dict[Attempt, tuple[Digest, ...]] = {}
        self._begun_now: dict[Attempt, None] = {}
        self._down_since: float | None = None
        self._next_complaint: float | None = None
        self._link = Link(
            role="worker",
            host=register.host,
            hostname=register.hostname,
            control=control,
            bulk=bulk,
            up=self._connected,
            message=self._heard,
            data=self._bulk_heard,
            down=self._down,
            dialler=dialler,
            clock=self._farm_clock,
        )
        self._transfer = Transfer(
            "cf-worker-io",
            store=store,
            shelf=StoreShelf(store),
            say=self._link.say_bulk,
            arrived=self._arrived,
            failed=self._pull_failed,
        )

    # --- the loop's side ---

    def attach(self, loop: Loop) -> None:
        """Register everything this worker waits on."""
        self._loop = loop
        self._clock = loop.clock
        slots = self._register.slots
        self._session = WorkerSession(
            self._register.worker,
            slots,
            now=loop.clock(),
            ahead=AHEAD * slots,
            result_hold_s=self._result_hold_s,
        )
        self._obey(self._session.offer(self._register, loop.clock()))
        self._transfer.attach(loop)
        self._oom = OomCounter(now=loop.clock())
        folders = (self._directories.root, self._store.root)
        self._disk = Disk(self._register.hostname, folders, self._hold, loop.clock)
        probe = self._toolbox.probe if self._warm is None else self._warm.probing(self._toolbox.probe)
        self._offering = Offering(probe, self._reoffer)
        self._offering.attach(loop)
        self._offering.set(self._register.offers)
        if self._warm is not None:
            self._warm.attach(loop, say=self._link.say, offer=self.offer)
        self._toolbox.note(self._register.offers)
        failures = Failures(
            oom=self._oom, disk=self._disk, capability=self._toolbox.capability, check=self._offering.check
        )
        self._executions = Executions(
            store=self._store,
            directories=self._directories,
            spawner=self._spawners,
            died=self._spawner_died,
            offload=self._transfer.offload,
            toolbox=self._toolbox,
            failures=failures,
            disk=self._disk,
            facts=self._facts,
            fetch=self._transfer.want,
            begun=self._begun,
            printed=self._printed,
            ended=self._ended,
            declined=self._declined,
            clock=loop.clock,
            printing=Printing(
                self._printed,
                loop.clock,
                wall=self._farm_clock.now,
                room=lambda: self._link.room,
                spill=self._spill,
            ),
        )
        for fileno in self._spawners.filenos():
            self._watch_spawner(fileno)
        self._link.attach(loop)

    def tick(self, now: float) -> None:
        """Heartbeats, re-sends, lines that have waited, complaints about an absent manager."""
        self._obey(self._session.tick(now))
        self._executions.tick(now)
        self._oom.sample(now)
        self._disk.tick(now)
        self._offering.tick(now)
        if self._warm is not None:
            self._warm.tick(now)
        self._transfer.tick(now)
        self._link.tick(now)
        if self._next_complaint is not None and now >= self._next_complaint:
            self._complain(now)

    def next_deadline(self) -> float | None:
        """Return the earliest deadline of the parts."""
        parts = (
            self._session.next_deadline(),
            self._executions.next_deadline(),
            self._disk.next_deadline(),
            self._offering.next_deadline(),
            self._warm.next_deadline() if self._warm is not None else None,
            self._transfer.next_deadline(),
            self._next_complaint,
            self._link.next_deadline(),
            self._clock() + 0.01 if self._spawners.wants_write() else None,
        )
        return min((part for part in parts if part is not None), default=None)

    def pace(self) -> float:
        """Wait for company while the spawner has the next tasks in its queue."""
        return PACE_S if len(self._executions) >= PRESSED * self._register.slots else 0.0

    def flush(self) -> None:
        """Start what this turn decided, then say what it said."""
        if self._begun_now:
            begun, self._begun_now = self._begun_now, {}
            for attempt in begun:
                self._obey(self._session.begun(*attempt, self._clock()))
        self._spawners.flush()
        if self._lines and self._link.welcome:
            for attempt in list(self._lines):
                self._say_lines(attempt)
        if self._own and self._link.welcome:
            records = self._own.take(self._clock(), self._farm_clock)
            if records:
                self._link.say(Reported("worker", records))
        self._link.flush()

    def close(self) -> None:
        """End every attempt, say goodbye, leave nothing behind."""
        for fileno in self._spawners.filenos():
            self._loop.unwatch(fileno)
        self._executions.close()
        if self._warm is not None:
            self._warm.close()
        self._link.say(Goodbye("the worker stops"))
        self._link.flush()
        self._offering.close()
        self._transfer.close(self._loop)
        self._directories.close()
        self._link.close()

    def _watch_spawner(self, fileno: int) -> None:
        self._loop.watch(fileno, lambda: self._executions.readable(fileno))

    def _spawner_died(self, fileno: int) -> None:
        self._loop.unwatch(fileno)
        for replacement in self._spawners.replace_dead():
            self._watch_spawner(replacement)

    # --- for whoever runs the worker ---

    def offer(self, offers: tuple[Offer, ...]) -> None:
        """Change what this worker offers, and tell the manager."""
        self._offering.set(offers)
        self._reoffer(offers)

    def probe_again(self) -> None:
        """Look again at everything this worker offers, or did."""
        log.info("probing again")
        self._offering.check_all()

    def _reoffer(self, offers: tuple[Offer, ...]) -> None:
        self._toolbox.note(offers)
        self._register = msgspec.structs.replace(self._register, offers=offers)
        self._obey(self._session.offer(self._register, self._clock()))

    def drain(self) -> None:
        """Take no new work; quit when the last attempt has ended."""
        self._obey(self._session.leave(self._clock()))

    # --- from the manager ---

    def _connected(self) -> None:
        self._obey(self._session.connected(self._clock()))
        self._transfer.restart()

    def _heard(self, message: FromManager) -> None:
        if self._warm is not None:
            self._warm.heard(message)
        if isinstance(message, ReadOutput):
            self._read_output(message)
        if isinstance(message, Welcome):
            log.info("connected to farm %s", message.farm)
            self._next_complaint = None
            self._down_since = None
        self._obey(self._session.receive(message, self._clock()))

    def _read_output(self, asked: ReadOutput) -> None:
        """Answer with a page of what an attempt has printed here."""
        spill = self._spill
        if spill is None:
            self._link.say(OutputPage(asked.number, fault="this worker keeps no outputs"))
            return

        def then(page: Any, error: BaseException | None) -> None:
            if error is not None:
                raise error
            if self._link.welcome:
                self._link.say(page)

        self._transfer.offload.submit(lambda: spill.page(asked), then)

    def _bulk_heard(self, message: FromManager, data: Buffer | None) -> None:
        if not self._transfer.heard(message, data):
            self._heard(message)

    def _down(self, event: LinkEvent) -> None:
        now = self._clock()
        self._obey(self._session.disconnected(now))
        if self._warm is not None:
            self._warm.disconnected()
        self._complaint = event
        if self._down_since is None:
            self._down_since = now
            self._next_complaint = now + 1.0

    def _complain(self, now: float) -> None:
        assert self._down_since is not None
        event = self._complaint
        hint = f"; try: {event.hint}" if event.hint else ""
        away_s = now - self._down_since
        log.warning("not connected for %.0f s: %s; trying on%s%s", away_s, event.text, self._kept(), hint)
        self._next_complaint = now + SAY_AGAIN_S

    def _kept(self) -> str:
        """Return what is kept for a manager that is away, for people."""
        going, held = len(self._session.running), len(self._session.unsettled)
        if not going and not held:
            return ""
        hold = format_duration(self._result_hold_s)
        return f"; tasks that go on: {going}, results that are held for {hold}: {held}"

    # --- from the parts ---

    def _arrived(self, digests: list[Digest]) -> None:
        self._executions.arrived(digests)

    def _pull_failed(self, digests: list[Digest], text: str) -> None:
        self._executions.unavailable(digests, text)

    def _begun(self, attempt: Attempt) -> None:
        # Told at the end of the turn: of an attempt that has ended by then, only the end is news.
        self._begun_now[attempt] = None

    def _printed(self, attempt: Attempt, pieces: tuple[Piece, ...]) -> None:
        size = sum([len(piece.text) for piece in pieces])
        if self._lines_size + size > LINES:
            return  # of a manager that is away for long: the result has the last of them
        self._lines_size += size
        self._lines.setdefault(attempt, []).append(Output(*attempt, pieces))

    def _say_lines(self, attempt: Attempt) -> None:
        for output in self._lines.pop(attempt, ()):
            self._lines_size -= sum([len(piece.text) for piece in output.pieces])
            self._link.say(output)

    def _ended(self, attempt: Attempt, result: Result) -> None:
        self._begun_now.pop(attempt, None)
        if self._store.wants_room:
            self._transfer.submit(self._store.evict, self._evicted)
        digests = tuple(entry.digest for entry in result.outputs)
        if digests:
            # The manager fetches them after it has heard of them: they must still be here then.
            self._store.pin(digests)
            self._pinned[attempt] = digests
        self._obey(self._session.ended(*attempt, result, self._clock()))

    def _declined(self, attempt: Attempt, reason: str, absent: tuple[Digest, ...], kind: str) -> None:
        self._obey(self._session.decline(*attempt, reason, self._clock(), absent, kind))

    def _hold(self, reason: str) -> None:
        self._obey(self._session.hold(reason, self._clock()))
        if reason:
            self._executions.recall_waiting(reason)

    def _obey(self, commands: Iterable[WorkerCommand]) -> None:
        for command in commands:
            match command:
                case Say(message=message):
                    if self._lines and isinstance(message, Finished):
                        self._say_lines((message.key, message.attempt))
                    self._link.say(message)
                case Start(run=run):
                    self._executions.start(run)
                case Stop(key=key, attempt=attempt, reason=reason):
                    self._executions.halt((key, attempt), reason)
                case Recall(key=key, attempt=attempt, reason=reason):
                    self._executions.recall((key, attempt), reason)
                case Upload():
                    pass  # the manager pulls outputs on the bulk connection
                case Reconnect(reason=reason):
                    log.warning("%s; connecting again", reason)
                    self._link.reconnect()
                case LetGo(attempts=attempts, reason=reason):
                    self._lines.clear()
                    self._lines_size = 0
                    log.warning("results given up: %d; %s", len(attempts), reason)
                case Quit(reason=reason, code=code):
                    self._quit(reason, code)
        if self._pinned:
            self._unpin_settled()

    def _unpin_settled(self) -> None:
        held = self._session.unsettled
        for attempt in [attempt for attempt in self._pinned if attempt not in held]:
            self._store.unpin(self._pinned.pop(attempt))

    def _evicted(self, _value: Any, error: BaseException | None) -> None:
        if error is not None:
            log.error("the store cannot be trimmed: %s", error)
