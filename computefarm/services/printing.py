"""What running attempts print: lines, sent while they run, and a bounded log of them for the result."""

from __future__ import annotations

import time
from collections.abc import Callable

from computefarm.messages import Piece
from computefarm.sandbox.lines import BoundedLog, LineSplitter
from computefarm.sandbox.spawner import Text

from .attempts import Attempt, Execution

OUTPUT_DELAY_S = 0.05
"""Lines wait this long for company before they are sent."""

OUTPUT_BYTES = 64 * 1024
"""…or until there are this many bytes of them."""

LIVE_BYTES = 4 * 1024 * 1024
"""Of one attempt's output, this much is sent live; the bounded log of the result has the end of it."""


class Printing:
    """Sends the lines of all attempts of a worker, a few at a time."""

    def __init__(
        self, printed: Callable[[Attempt, tuple[Piece, ...]], None], clock: Callable[[], float]
    ) -> None:
        self._printed = printed
        self._clock = clock
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
        if execution.pending:
            self._send(execution)

    def forget(self, execution: Execution) -> None:
        """Send nothing more of it."""
        self._talking.pop(execution.ticket, None)

    def tick(self, now: float) -> None:
        """Send lines that have waited long enough."""
        for execution in list(self._talking.values()):
            if now - execution.pending_since >= OUTPUT_DELAY_S:
                self._send(execution)

    def next_deadline(self) -> float | None:
        """Return when lines are to be sent."""
        if not self._talking:
            return None
        return min(execution.pending_since for execution in self._talking.values()) + OUTPUT_DELAY_S

    def _piece(self, execution: Execution, stream: int, text: str) -> None:
        piece = Piece(stream, time.time(), text, execution.seq)
        execution.seq += 1
        if execution.log is None:
            execution.log = BoundedLog()
        execution.log.add(piece)
        execution.live_bytes += len(text)
        if execution.live_bytes > LIVE_BYTES:
            return
        if not execution.pending:
            execution.pending_since = self._clock()
            self._talking[execution.ticket] = execution
        execution.pending.append(piece)
        execution.pending_bytes += len(text)
        if execution.pending_bytes >= OUTPUT_BYTES:
            self._send(execution)

    def _send(self, execution: Execution) -> None:
        if execution.pending:
            self._printed(execution.attempt, tuple(execution.pending))
            execution.pending = []
            execution.pending_bytes = 0
        self._talking.pop(execution.ticket, None)
