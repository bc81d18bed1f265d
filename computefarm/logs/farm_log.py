"""Everything that the tasks and daemons of a farm print, written by a thread that nobody waits for.

`farm.jsonl` has one JSON object a line, as cutelog loads them; `runs/<run>/<task>.log` has the plain output
of each task. The same writer, without these files, keeps the lines of one run. What comes faster than it can
be written is counted, and said in the log itself.
"""

from __future__ import annotations

import logging
import queue
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Thread

import msgspec

from computefarm.core.source import Source
from computefarm.messages import LogRecord, Piece

from .jsonl import Cursor, LineLog
from .parsers import LEVELS
from .records import Record, Records, logger_name
from .runs import Runs, label_of
from .taskfiles import TaskFiles

QUEUED = 32 * 1024 * 1024
"""Bytes that wait to be written; more is left out, and counted."""

COMPANY_S = 0.01
"""What comes within this time is written together."""

SLICE = 64
"""Lines after which the thread lets others run: it shares a lock with the one that answers heartbeats."""

BREATH_S = 0.0002
"""How long it lets them."""

ATTEMPTS = 20_000
"""Attempts whose line parsers are remembered."""

FILE = "farm.jsonl"

log = logging.getLogger("computefarm.logs")


def log_folder(state: Path, farm: str) -> Path:
    """Return where a farm's log is kept."""
    return state / "farm-logs" / farm


class _Output(msgspec.Struct, frozen=True, gc=False):
    source: Source
    attempt: int
    pieces: tuple[Piece, ...]
    size: int


class _Reported(msgspec.Struct, frozen=True, gc=False):
    host: str
    program: str
    records: tuple[LogRecord, ...]
    size: int


class FarmLog:
    """The writer. `output` and `reported` never wait and never fail."""

    def __init__(
        self,
        folder: Path,
        *,
        limit: int,
        runs: int = 50,
        parser_of: Callable[[Source], str] = lambda _: "",
        alone: bool = False,
    ) -> None:
        """`limit` is the most bytes of `farm.jsonl`; `parser_of` names the line parser of an attempt.

        When it is `alone`, nothing but that file is written.
        """
        self.path = folder / FILE
        self.files = None if alone else TaskFiles(folder / "runs")
        self._runs = None if self.files is None else Runs(folder / "runs", runs, self.files.forget)
        self.left_out = 0
        """Lines left out so far because they came too fast."""
        self._lines = LineLog(self.path, limit)
        self.end: Cursor = self._lines.end()
        """Where the next line will be."""
        self._parser_of = parser_of
        self._queue: queue.SimpleQueue[_Output | _Reported | None] = queue.SimpleQueue()
        self._taken_in = self._done_with = 0
        """Bytes put into the queue, and out of it: each is written by one thread only."""
        self._told = 0
        self._attempts: OrderedDict[tuple[str, str, int, str], Records] = OrderedDict()
        self._numbers: dict[tuple[str, str], int] = {}
        self._encoder = msgspec.json.Encoder()
        self._fault = ""
        self._thread = Thread(target=self._work, name="cf-farm-log", daemon=True)
        self._thread.start()

    # --- for the loop's thread ---

    def output(self, source: Source, attempt: int, pieces: tuple[Piece, ...]) -> None:
        """Take what an attempt has printed."""
        size = 200 + sum([len(piece.text) for piece in pieces])
        if self._full(size):
            self.left_out += sum(piece.text.count("\n") or 1 for piece in pieces)
            return
        self._taken_in += size
        self._queue.put(_Output(source, attempt, pieces, size))

    def reported(self, host: str, program: str, records: tuple[LogRecord, ...]) -> None:
        """Take what a daemon has logged."""
        size = 200 + sum([len(record.text) for record in records])
        if self._full(size):
            self.left_out += len(records)
            return
        self._taken_in += size
        self._queue.put(_Reported(host, program, records, size))

    def _full(self, size: int) -> bool:
        return self._taken_in - self._done_with + size > QUEUED

    @property
    def runs(self) -> Runs:
        """Return which runs the log tells of."""
        assert self._runs is not None
        return self._runs

    @property
    def fault(self) -> str:
        """Return what is wrong with the disk; empty when nothing is."""
        return self._fault

    @property
    def idle(self) -> bool:
        """Return whether everything that was put in has been written."""
        return self._taken_in == self._done_with

    def close(self, patience_s: float = 5.0) -> None:
        """Write what waits, for so long at most; harmless when repeated."""
        self._queue.put(None)
        self._thread.join(patience_s)

    # --- the thread ---

    def _work(self) -> None:
        going = True
        while going:
            batch = [self._queue.get()]
            if batch[0] is not None:
                time.sleep(COMPANY_S)
            while not self._queue.empty():
                batch.append(self._queue.get())
            for item in batch:
                if item is None:
                    going = False
                else:
                    try:
                        self._take(item)
                    except Exception:  # whatever a peer has sent: the log goes on
                        log.exception("some lines could not be written to %s", self.path)
                    self._done_with += item.size
                self.end = self._lines.end()
            self._confess()
        self._lines.close()

    def _take(self, item: _Output | _Reported) -> None:
        if isinstance(item, _Reported):
            self._put([self._daemon(item.host, item.program, record) for record in item.records])
            return
        source = item.source
        for run, owner, task in source.tasks:
            label = label_of(run)
            if self._runs is not None and self.files is not None:
                label = self._runs.label(run, owner, self._lines.end())
                self.files.write(label, task, item.attempt, item.pieces)
            name = (label, task, item.attempt, source.host)
            records = self._attempts.get(name)
            if records is None:
                parser = self._parser_of(source)
                records = self._attempts[name] = Records(
                    run=label,
                    host=source.host,
                    capability=source.capability,
                    task=task,
                    attempt=item.attempt,
                    parser=parser,
                )
                if len(self._attempts) > ATTEMPTS:
                    self._attempts.popitem(last=False)
            for piece in item.pieces:
                self._feed(records, piece)

    def _feed(self, records: Records, piece: Piece) -> None:
        """Write a piece's lines, a few at a time."""
        text, start, line = piece.text, 0, piece.line
        while start < len(text):
            end, count = start, 0
            while count < SLICE and end < len(text):
                end = text.find("\n", end) + 1 or len(text)
                count += 1
            part = (
                piece
                if end - start == len(text)
                else Piece(piece.stream, piece.created_at, text[start:end], piece.seq, line)
            )
            self._put(records.feed((part,)))
            start, line = end, line + count
            if count == SLICE:
                time.sleep(BREATH_S)

    def _put(self, records: Sequence[Record]) -> None:
        encode = self._encoder.encode
        self._lines.append([encode(record) for record in records])
        fault = self._lines.fault or (self.files.fault if self.files is not None else "")
        if fault and not self._fault:
            log.error("the farm's log is not kept: %s; the farm goes on", fault)
        elif self._fault and not fault:
            self._note(f"{self._lines.lost:,} bytes of this log could not be written: {self._fault}")
        self._fault = fault

    def _daemon(self, host: str, program: str, record: LogRecord) -> Record:
        seq = self._numbers.get((host, program), 0)
        self._numbers[host, program] = seq + 1
        return {
            "created": record.created_at,
            "level": record.level if record.level in LEVELS else "info",
            "name": logger_name("", host, program),
            "msg": record.text,
            "task": "",
            "attempt": 0,
            "host": host,
            "stream": "log",
            "seq": seq,
        }

    def _note(self, text: str) -> None:
        record = self._daemon("", "log", LogRecord(time.time(), "warning", text))
        self._lines.append([self._encoder.encode(record)])

    def _confess(self) -> None:
        """Say in the log how much of it is missing."""
        missing = self.left_out - self._told
        if missing:
            self._told += missing
            self._note(f"{missing:,} lines are missing here: they came faster than they could be written")
