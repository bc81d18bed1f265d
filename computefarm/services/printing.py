"""What running attempts print: lines, sent while they run, and a bounded log of them for the result."""

from __future__ import annotations

import time
from collections.abc import Callable

from computefarm.messages import Piece
from computefarm.sandbox.lines import BoundedLog, LineSplitter
from computefarm.sandbox.spawner import Text

from .attempts import Attempt, Execution
from .flow import Allowance, Flow, lines_of
from .spill import Spill

OUTPUT_DELAY_S = 0.05
"""Lines wait this long for company before they are sent."""

OUTPUT_BYTES = 64 * 1024
"""…or until there are this many bytes of them."""


class Printing:
    """Sends the lines of all attempts of a worker, a few at a time and no more than it may."""

    def __init__(
        self,
        printed: Callable[[Attempt, tuple[Piece, ...]], None],
        clock: Callable[[], float],
        *,
        wall: Callable[[], float] = time.time,
        room: Callable[[], bool] = lambda: True,
        spill: Spill | None = None,
    ) -> None:
        """`wall` is the farm's time; `room` tells whether the connection takes more."""
        self._printed = printed
        self._clock = clock
        self._wall = wall
        self._room = room
        self._spill = spill
        self._allowance = Allowance(clock)
        self._talking: dict[int, Execution] = {}
        """By ticket: those with lines that wait."""

    def take(self, execution: Execution, event: Text) -> None:
        """Take what a task has written."""
        splitter = execution.splitters.get(event.stream)
        if splitter is None:
            splitter = execution.splitters[event.stream] = LineSplitter()
        text = splitter.feed(event.data)
        if text:
            self._piece(execution, event.stream, text)

    def finish(self, execution: Execution) -> None:
        """Send the rest: the task has ended."""
        for stream, splitter in execution.splitters.items():
            rest = splitter.finish()
            if rest:
                self._piece(execution, stream, rest)
        while execution.flow is not None and execution.flow.size:
            self._send(execution, execution.flow)
        self.forget(execution)

    def forget(self, execution: Execution) -> None:
        """Send nothing more of it."""
        self._talking.pop(execution.ticket, None)
        if self._spill is not None and execution.flow is not None:
            self._spill.finish(execution)

    def tick(self, now: float) -> None:
        """Send lines that have waited long enough, in turns."""
        if self._spill is not None:
            self._spill.sweep(now)
        for execution in list(self._talking.values()):
            flow = execution.flow
            if flow is not None and now - flow.since >= OUTPUT_DELAY_S:
                self._send_some(execution, flow, now)

    def next_deadline(self) -> float | None:
        """Return when lines are to be sent."""
        if not self._talking:
            return None
        return min(e.flow.since for e in self._talking.values() if e.flow is not None) + OUTPUT_DELAY_S

    def close(self) -> None:
        """Write what is to be kept here."""
        if self._spill is not None:
            self._spill.close()

    def _piece(self, execution: Execution, stream: int, text: str) -> None:
        piece = Piece(stream, self._wall(), text, execution.seq, execution.lines)
        execution.seq += 1
        lines = lines_of(text)
        execution.lines += lines
        if execution.log is None:
            execution.log = BoundedLog()
            execution.flow = Flow()
        flow = execution.flow
        assert flow is not None
        execution.log.add(piece)
        if self._spill is not None:
            self._spill.take(execution, text)
        now = self._clock()
        flow.put(piece, now, lines)
        self._talking[execution.ticket] = execution
        if flow.size >= OUTPUT_BYTES and now >= execution.held_until:
            self._send_some(execution, flow, now)

    def _send_some(self, execution: Execution, flow: Flow, now: float) -> None:
        """Send what may be sent now; the rest waits for its turn."""
        if self._room() and (flow.urgent() or self._allowance.any()):
            self._send(execution, flow)
        if flow.size:
            flow.since = now
            execution.held_until = now + OUTPUT_DELAY_S
        else:
            self._talking.pop(execution.ticket, None)

    def _send(self, execution: Execution, flow: Flow) -> None:
        where = self._spill.where(execution) if self._spill is not None and flow.dropped else ""
        pieces = flow.take(where=where)
        self._allowance.spend(
            sum([len(piece.text) for piece in pieces]), sum([lines_of(piece.text) for piece in pieces])
        )
        self._printed(execution.attempt, pieces)
