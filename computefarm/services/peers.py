"""What the TaskManager keeps of one connected process: who it is, and what it is about to be told."""

from __future__ import annotations

from collections.abc import Sequence

from computefarm.codec import MAX_FRAME, encode
from computefarm.messages import (
    Done,
    FromManager,
    Hello,
    Outcome,
    Placed,
    Result,
    Run,
    Settled,
    TaskKey,
    TaskOutput,
)

BATCH_BYTES = 1024 * 1024
"""A frame of messages is closed when the large fields in it exceed this."""

PLACED_S = 0.02
"""A task that ends within this time is only told as ended."""


class Peer:
    """One connected process: its identity and the routes of its two connections."""

    __slots__ = (
        "bulk",
        "control",
        "frames",
        "hello",
        "name",
        "outbox",
        "owner",
        "placed",
        "placed_due",
        "role",
        "settled",
        "who",
    )

    def __init__(self, name: str, owner: str, role: str, hello: Hello) -> None:
        self.name = name
        self.owner = owner
        self.role = role
        self.hello = hello
        self.control: bytes | None = None
        self.bulk: bytes | None = None
        self.outbox: list[FromManager] = []
        self.frames: list[bytes] = []
        self.settled: dict[str, list[tuple[TaskKey, int]]] = {}
        """Results taken in this turn, by the epoch that sent them; told in one message."""
        self.placed: dict[tuple[str, int], Placed] = {}
        """Held back for a moment: of a task that has ended by then, only the end is news."""
        self.placed_due = 0.0
        self.who = name
        """Its name, its key's name and its address, for the log."""

    def gather(self, message: FromManager, now: float) -> None:
        """Put a message into the outbox, or where it may be merged with others or become superfluous."""
        match message:
            case Settled(attempts=attempts, epoch=epoch):
                self.settled.setdefault(epoch, []).extend(attempts)
                return
            case Placed(session=session, task=task):
                if not self.placed:
                    self.placed_due = now + PLACED_S
                self.placed[session, task] = message
                return
            case Done(session=session, task=task):
                self.placed.pop((session, task), None)
            case TaskOutput(session=session, task=task):
                placed = self.placed.pop((session, task), None)
                if placed is not None:
                    self.outbox.append(placed)
        self.outbox.append(message)

    def close_turn(self, now: float) -> None:
        """Turn what this turn has gathered into frames."""
        if self.settled:
            self.outbox.extend(Settled(tuple(those), epoch) for epoch, those in self.settled.items())
            self.settled = {}
        if self.placed and now >= self.placed_due:
            self.outbox.extend(self.placed.values())
            self.placed = {}
        if self.outbox:
            self.frames.extend(_frames(self.outbox))
            self.outbox = []

    def forget_unsent(self) -> None:
        """Drop what was not sent on a connection that is gone."""
        self.outbox.clear()
        self.frames.clear()
        self.settled.clear()
        self.placed.clear()


def _weight(message: FromManager) -> int:
    """Return roughly how many bytes a message adds, looking only where there can be many."""
    if isinstance(message, Run):
        return 200 + len(message.action)
    if isinstance(message, TaskOutput):
        return 100 + sum(len(piece.text) for piece in message.pieces)
    if isinstance(message, Done):
        result = message.result
        return 200 + 150 * len(result.outputs) + sum(len(piece.text) for piece in result.log)
    return 200


def _frames(messages: Sequence[FromManager]) -> list[bytes]:
    """Encode messages into as few frames as the size limit allows."""
    frames: list[bytes] = []
    batch: list[FromManager] = []
    weight = 0
    for message in messages:
        batch.append(message)
        weight += _weight(message)
        if weight >= BATCH_BYTES:
            frames.append(encode(batch))
            batch, weight = [], 0
    if batch:
        frames.append(encode(batch))
    if max(map(len, frames), default=0) <= MAX_FRAME:
        return frames
    # Whatever a peer made so large must not stop the manager: it is told alone, shortened, or not at all.
    alone = (encode([_shortened(message)]) for message in messages)
    return [frame for frame in alone if len(frame) <= MAX_FRAME]


def _shortened(message: FromManager) -> FromManager:
    """Return a message that fits: an end without its outputs is a failure that says so."""
    if len(encode([message])) <= MAX_FRAME:
        return message
    match message:
        case Done(result=result):
            reason = f"what the task gave back is too large: {len(result.outputs):,} files and their names"
            failed = Result(Outcome.FAILED, reason=reason, run_s=result.run_s)
            return Done(
                message.session, message.task, failed, worker=message.worker, hostname=message.hostname
            )
        case TaskOutput(pieces=pieces):
            half = pieces[: len(pieces) // 2]
            return (
                _shortened(TaskOutput(message.session, message.task, message.attempt, half))
                if half
                else message
            )
    return message
