"""A process's two connections to its manager: Hello on each, batches out, messages in.

Used by workers, clients, monitors and viewers alike; only what they say differs.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

import msgspec

from computefarm import __version__
from computefarm.codec import MAX_FRAME, decode_from_manager, encode
from computefarm.errors import FarmError, ProtocolError, Refused, Unreachable
from computefarm.messages import (
    PROTOCOL,
    Absent,
    AskTime,
    Chunk,
    Fetch,
    Finished,
    FromManager,
    Hello,
    Outcome,
    Output,
    Result,
    Submit,
    Time,
    ToManager,
    Welcome,
)
from computefarm.transport.peer_end import LinkEvent, LinkState, PeerEnd
from computefarm.transport.wire import Buffer

from .clock import FarmClock
from .dialling import Dialler
from .loop import Loop

BATCH_MESSAGES = 500
"""Messages in one frame, at most; a Submit is sized by its sender."""

REDIAL_S = 10.0
"""How long to wait before a manager that refused us is asked again."""

STRANGER_S = 2.0
"""The same for somebody who does not speak as our manager does: a manager that is just stopping looks so."""

OUTPUTS_SHOWN = 3
"""Names in the report of a result that no frame holds."""

REST_S = 1.0
"""Between two dials at our own wish: a manager that turns us away each time must not be stormed."""

LOOK_S = 2.0
"""How often a manager that cannot be reached is looked for elsewhere."""

NEVER = float("inf")

LATER_S = 0.003
"""How long what nobody waits for may wait for something to travel with."""


class Link:
    """Control and bulk connection of one process, kept greeted."""

    def __init__(
        self,
        *,
        role: str,
        host: str,
        hostname: str,
        control: PeerEnd,
        bulk: PeerEnd | None,
        up: Callable[[], None],
        message: Callable[[FromManager], None],
        data: Callable[[FromManager, Buffer | None], None] | None = None,
        down: Callable[[LinkEvent], None],
        dialler: Dialler | None = None,
        clock: FarmClock | None = None,
    ) -> None:
        """With a `clock`, the manager is asked what time it is."""
        self._role = role
        self._host = host
        self._hostname = hostname
        self._ends = {"control": control} if bulk is None else {"control": control, "bulk": bulk}
        self._up = up
        self._message = message
        self._data = data
        self._down = down
        self._boot = secrets.token_hex(8)
        self._farm_clock = clock
        self.welcome = False
        """Whether the manager takes what we say."""
        self._outbox: list[ToManager] = []
        self._outbox_due = NEVER
        """When it must be sent; at the end of this turn if that has passed."""
        self._frames: dict[str, list[tuple[bytes, Buffer | None]]] = {name: [] for name in self._ends}
        self._dialler = dialler
        self._dialled_at = float("-inf")
        self._redial_at: float | None = None
        self._look_at: float | None = None

    def attach(self, loop: Loop) -> None:
        """Register both connections, and greet at once where there is nothing to wait for."""
        self._loop = loop
        if self._dialler is not None:
            self._look_at = loop.clock() + LOOK_S
        for channel in self._ends:
            self._watch(channel)
            self._readable(channel)

    def _watch(self, channel: str) -> None:
        for source in self._ends[channel].sockets():
            self._loop.watch(source, lambda: self._readable(channel))

    def say(self, message: ToManager) -> None:
        """Send `message` on the control connection at the end of this turn."""
        self._outbox.append(message)
        self._outbox_due = 0.0

    def say_later(self, message: ToManager) -> None:
        """Send `message` with whatever is said next, or in a moment: nobody waits for it."""
        self._outbox.append(message)
        self._outbox_due = min(self._outbox_due, self._loop.clock() + LATER_S)

    @property
    def room(self) -> bool:
        """Return whether the control connection has taken everything so far."""
        return self.welcome and not self._frames["control"]

    def say_bulk(self, message: Chunk | Fetch | Absent, data: Buffer | None = None) -> None:
        """Send `message` on the bulk connection at the end of this turn."""
        self._frames["bulk"].append((encode([message]), data))

    def flush(self) -> None:
        """Send what has gathered; what the sockets do not take now waits for the next turn."""
        if self._outbox and (self._outbox_due <= 0 or self._outbox_due <= self._loop.clock()):
            self._outbox_due = NEVER
            self._frames["control"].extend((frame, None) for frame in _batches(self._outbox))
            self._outbox = []
        for channel, frames in self._frames.items():
            end = self._ends[channel]
            while frames and end.up and end.send(*frames[0]):
                del frames[0]

    def next_deadline(self) -> float | None:
        """Return when to try again what a full socket did not take, or a manager that refused."""
        if any(frames and self._ends[channel].up for channel, frames in self._frames.items()):
            return self._loop.clock() + 0.01
        ask_s = self._farm_clock.due_s() if self._farm_clock is not None else None
        ask_at = None
        if ask_s is not None:  # a time that has come must not move on with the clock
            ask_at = self._loop.clock() + ask_s if ask_s > 0 else 0.0
        said_at = self._outbox_due if self._outbox else None
        times = (self._redial_at, self._look_at, ask_at, said_at)
        return min((at for at in times if at is not None), default=None)

    def tick(self, now: float) -> None:
        """Dial again, or look elsewhere, when it is time."""
        if self._farm_clock is not None and (asked_s := self._farm_clock.question()) is not None:
            self.say(AskTime(asked_s))
        if self._look_at is not None and now >= self._look_at:
            self._look_at = now + LOOK_S
            if self._dialler is not None and self._dialler.elsewhere():
                self._move()
        if self._redial_at is not None and now >= self._redial_at:
            self._redial(now)

    def reconnect(self) -> None:
        """Give up both connections and dial again, at once unless that was tried a moment ago."""
        now = self._loop.clock()
        if now >= self._dialled_at + REST_S:
            self._redial(now)
        else:
            self._redial_at = self._dialled_at + REST_S

    def reconnect_later(self) -> None:
        """Dial again after a while: the manager has turned us away, but its mind may be changed."""
        self._redial_at = self._loop.clock() + REDIAL_S

    def _redial(self, now: float) -> None:
        self._redial_at = None
        self._dialled_at = now
        for channel, end in self._ends.items():
            self._frames[channel].clear()
            self._unwatch(end)
            end.reconnect()
            self._watch(channel)
            self._readable(channel)

    def _move(self) -> None:
        """Make new connections to where the manager is now."""
        assert self._dialler is not None
        self._redial_at = None
        for channel, end in list(self._ends.items()):
            self._frames[channel].clear()
            self._unwatch(end)
            end.close()
            self._ends[channel] = self._dialler.dial()
            self._watch(channel)
            self._readable(channel)

    def _unwatch(self, end: PeerEnd) -> None:
        for source in end.sockets():
            self._loop.unwatch(source)

    def close(self) -> None:
        """Send what can be sent now, and close."""
        self._outbox_due = 0.0
        self.flush()
        for channel, end in self._ends.items():
            self._unwatch(end)
            # A goodbye that is lost costs others a lease.
            end.close(last_words=channel == "control")

    def _greet(self, channel: str) -> None:
        hello = Hello(
            protocol=PROTOCOL,
            version=__version__,
            role=self._role,
            boot=self._boot,
            channel=channel,
            host=self._host,
            hostname=self._hostname,
        )
        # What was queued for the old connection is void: the session says again what still matters.
        self._frames[channel] = [(encode([hello]), None)]
        if channel == "control":
            self._look_at = None
            self.welcome = False
            self._outbox.clear()
            self._outbox_due = NEVER
            self._up()

    def _readable(self, channel: str) -> None:
        end = self._ends[channel]
        for event in end.events():
            if event.state is LinkState.UP:
                self._greet(channel)
                continue
            if event.state in (LinkState.REFUSED, LinkState.STRANGER):
                # ZeroMQ gives up after these; both connections are dialled again together.
                wait_s = REDIAL_S if event.state is LinkState.REFUSED else STRANGER_S
                self._redial_at = self._loop.clock() + wait_s
            if channel == "control":
                self.welcome = False
                if self._farm_clock is not None:
                    self._farm_clock.disconnected()
                if self._dialler is not None and self._look_at is None:
                    self._look_at = self._loop.clock() + LOOK_S
                self._down(event)
        try:
            received = end.receive()
        except ProtocolError as error:
            self._down(LinkEvent(LinkState.STRANGER, str(error)))
            return
        for body, data in received:
            for message in _decoded(body):
                if channel == "control":
                    self._control(message)
                elif self._data is not None:
                    self._data(message, data)

    def _control(self, message: FromManager) -> None:
        if isinstance(message, Time) and self._farm_clock is not None:
            self._farm_clock.answered(message.asked_s, message.at)
            return
        if isinstance(message, Welcome):
            self.welcome = True
            if self._farm_clock is not None:
                self._farm_clock.connected()
        self._message(message)


def link_error(event: LinkEvent) -> FarmError:
    """Return the error that a connection's state amounts to, for those who do not wait."""
    if event.state in (LinkState.REFUSED, LinkState.STRANGER):
        return Refused(event.text, hint=event.hint)
    return Unreachable(event.text, hint=event.hint)


def _decoded(body: bytes) -> list[FromManager]:
    try:
        return decode_from_manager(body)
    except ProtocolError:
        # A newer manager may say things we do not know; what we do know comes in other frames.
        return []


def _fitting(message: ToManager) -> list[bytes]:
    """Return a message's frame; one that no frame holds is cut, or told as the failure that it is."""
    frame = encode([message])
    if len(frame) <= MAX_FRAME:
        return [frame]
    match message:
        case Finished(result=result):
            names = ", ".join(entry.path[:80] for entry in result.outputs[:OUTPUTS_SHOWN])
            reason = (
                f"the task made too much to tell: {len(result.outputs):,} files ({names} …); "
                "let it pack them into one, with tar for instance"
            )
            failed = Result(Outcome.FAILED, reason=reason, run_s=result.run_s, kind="output")
            return [encode([msgspec.structs.replace(message, result=failed)])]
        case Output(pieces=pieces) if len(pieces) > 1:
            half = len(pieces) // 2
            parts = (pieces[:half], pieces[half:])
            return [f for part in parts for f in _fitting(msgspec.structs.replace(message, pieces=part))]
        case _:
            raise ProtocolError(f"a {type(message).__name__} of {len(frame):,} bytes was to be sent")


def _batches(messages: list[ToManager]) -> list[bytes]:
    frames: list[bytes] = []
    batch: list[ToManager] = []

    def close() -> None:
        if not batch:
            return
        frame = encode(batch)
        if len(frame) <= MAX_FRAME:
            frames.append(frame)
        else:
            for message in batch:
                frames.extend(_fitting(message))
        batch.clear()

    for message in messages:
        if isinstance(message, Submit):
            close()
        batch.append(message)
        if isinstance(message, Submit) or len(batch) >= BATCH_MESSAGES:
            close()
    close()
    return frames
