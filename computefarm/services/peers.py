"""What the TaskManager keeps of one connected process: who it is, and what it is about to be told."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from computefarm.codec import MAX_FRAME, encode
from computefarm.messages import (
    Accepted,
    Done,
    FromManager,
    Hello,
    Outcome,
    OutputPage,
    Piece,
    Placed,
    Result,
    Run,
    Settled,
    TaskKey,
    TaskOutput,
)

BATCH_BYTES = 1024 * 1024
"""A frame of messages is closed when the large fields in it exceed this."""

UNHEARD = 32 * 1024 * 1024
"""Bytes of tasks' lines said to a peer since its last word; from then on they are left out, and counted."""

BACKLOG_BYTES = 64 * 1024 * 1024
"""Bytes kept for a peer that does not read; then it is dropped, and adopts its session when it returns."""

BACKLOG_FRAMES = 2000
"""The same in frames."""

NEVER = float("inf")

PLACED_S = 0.02
"""A task that ends within this time is only told as ended; that it is written down is told with its end."""


class Peer:
    """One connected process: its identity and the routes of its two connections."""

    __slots__ = (
        "backlog",
        "bulk",
        "control",
        "frames",
        "hello",
        "later",
        "later_due",
        "left_out",
        "met",
        "name",
        "outbox",
        "owner",
        "placed",
        "placed_due",
        "role",
        "settled",
        "unheard",
        "who",
    )

    def __init__(self, name: str, owner: str, role: str, hello: Hello) -> None:
        self.name = name
        self.owner = owner
        self.role = role
        self.hello = hello
        self.control: bytes | None = None
        self.bulk: bytes | None = None
        self.met = False
        """Whether it has ever greeted on a control connection: only then does the core know it."""
        self.outbox: list[FromManager] = []
        self.frames: deque[bytes] = deque()
        self.backlog = 0
        """Bytes in `frames`."""
        self.unheard = 0
        """Bytes of tasks' lines said to it since it said something itself."""
        self.left_out: dict[tuple[str, int, int], int] = {}
        """Lines of an attempt that it was not sent, by session, task and attempt."""
        self.settled: dict[str, list[tuple[TaskKey, int]]] = {}
        """Results taken in this turn, by the epoch that sent them; told in one message."""
        self.placed: dict[tuple[str, int], Placed] = {}
        """Held back for a moment: of a task that has ended by then, only the end is news."""
        self.placed_due = 0.0
        self.later: list[FromManager] = []
        """What nobody waits for: told with whatever is told next, or after the same moment."""
        self.later_due = 0.0
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
            case Accepted():
                if not self.later:
                    self.later_due = now + PLACED_S
                self.later.append(message)
                return
            case Done(session=session, task=task):
                self.placed.pop((session, task), None)
                if self.left_out:
                    self._confess(message)
            case TaskOutput(session=session, task=task):
                if self.unheard >= UNHEARD:
                    self._leave_out(message)
                    return
                placed = self.placed.pop((session, task), None)
                if placed is not None:
                    self.outbox.append(placed)
                if self.left_out:
                    self._confess(message)
                self.unheard += _weight(message)
        self.outbox.append(message)

    def due(self) -> float:
        """Return when something that is held back must be told."""
        placed = self.placed_due if self.placed else NEVER
        return min(placed, self.later_due) if self.later else placed

    @property
    def choked(self) -> bool:
        """Return whether more is kept for it than anybody who reads would need."""
        return self.backlog > BACKLOG_BYTES or len(self.frames) > BACKLOG_FRAMES

    def _leave_out(self, output: TaskOutput) -> None:
        """Count lines instead of keeping them: nobody is looking, and the result has its log."""
        name = (output.session, output.task, output.attempt)
        lines = sum(piece.text.count("\n") or 1 for piece in output.pieces)
        self.left_out[name] = self.left_out.get(name, 0) + lines

    def _confess(self, message: TaskOutput | Done) -> None:
        """Say how many lines of this task were left out."""
        pieces = message.pieces if isinstance(message, TaskOutput) else message.result.log[-1:]
        at, seq = (pieces[0].created_at, max(0, pieces[0].seq - 1)) if pieces else (0.0, 0)
        for name in [name for name in self.left_out if name[:2] == (message.session, message.task)]:
            text = f"[{self.left_out.pop(name)} lines left out: they were not read in time]\n"
            self.outbox.append(TaskOutput(*name, (Piece(2, at, text, seq),)))

    def close_turn(self, now: float) -> None:
        """Turn what this turn has gathered into frames."""
        if self.settled:
            self.outbox.extend(Settled(tuple(those), epoch) for epoch, those in self.settled.items())
            self.settled = {}
        if self.placed and now >= self.placed_due:
            self.outbox.extend(self.placed.values())
            self.placed = {}
        if self.later and (self.outbox or now >= self.later_due):
            self.outbox = [*self.later, *self.outbox]
            self.later = []
        if self.outbox:
            frames = _frames(self.outbox)
            self.frames.extend(frames)
            self.backlog += sum(map(len, frames))
            self.outbox = []

    def sent(self) -> None:
        """The first frame has been taken by the connection."""
        self.backlog -= len(self.frames.popleft())

    def forget_frames(self) -> None:
        """Drop what no connection has taken."""
        self.frames.clear()
        self.backlog = 0

    def forget_unsent(self) -> None:
        """Drop what was not sent on a connection that is gone."""
        self.outbox.clear()
        self.forget_frames()
        self.left_out.clear()
        self.unheard = 0
        self.settled.clear()
        self.placed.clear()
        self.later.clear()


def _weight(message: FromManager) -> int:
    """Return roughly how many bytes a message adds, looking only where there can be many."""
    if isinstance(message, Run):
        return 200 + len(message.action)
    if isinstance(message, OutputPage):
        return 200 + len(message.data)
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
