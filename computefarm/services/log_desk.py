"""The manager's side of the farm's log: what comes in is handed to the writer, who asks is given pages.

A viewer pulls: one that does not ask costs nothing, and one that is slow reads later. The files are the
queue.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from computefarm.core.source import Source
from computefarm.errors import FarmError
from computefarm.logs.farm_log import FarmLog
from computefarm.logs.jsonl import Cursor
from computefarm.logs.reading import Reading, Wish, read_farm_log
from computefarm.messages import AskTime, FromManager, LogPage, Output, ReadLog, Reported, Time

from .loop import Loop
from .offload import Offload
from .output_desk import OutputDesk
from .peers import Peer

LOOK_S = 0.05
"""How often the log is looked at for those who wait for new lines."""

QUESTIONS = 4
"""Pages that one process may wait for at a time."""


class _Question(msgspec.Struct, eq=False):
    peer: Peer
    asked: ReadLog
    cursor: str
    seen: Cursor | None = None
    """How far the log went when it was read in vain."""
    run: str = ""
    reading: bool = False


class LogDesk:
    """Serves the log of one farm; without a log it says so."""

    def __init__(
        self,
        log: FarmLog | None,
        *,
        say: Callable[[str, FromManager], None],
        goes_on: Callable[[str], bool],
        workers: Callable[[str], list[str]] = lambda host: [],
    ) -> None:
        """`goes_on` tells whether a run is under way; `workers` returns those on a host."""
        self.outputs = OutputDesk(log, say=say, workers=workers)
        self._log = log
        self._say = say
        self._goes_on = goes_on
        self._reader = Offload("cf-log-reader")
        self._questions: dict[tuple[str, int], _Question] = {}
        self._look_at: float | None = None

    def attach(self, loop: Loop) -> None:
        """Start the thread that reads."""
        self._loop = loop
        self._reader.attach(loop)

    def close(self) -> None:
        """Write what waits; answer nobody any more."""
        self._reader.close(self._loop)
        if self._log is not None:
            self._log.close()

    # --- in -------------------------------------------------------------------------------------------

    def output(self, source: Source | None, output: Output) -> None:
        """Keep what an attempt has printed."""
        if self._log is not None and source is not None:
            self._log.output(source, output.attempt, output.pieces)

    def reported(self, peer: Peer, message: Reported) -> None:
        """Keep what a daemon has logged."""
        if self._log is not None:
            self._log.reported(peer.hello.hostname, message.program, message.records)

    def time(self, peer: Peer, question: AskTime) -> None:
        """Say what time it is here."""
        self._say(peer.name, Time(question.asked_s, time.time()))

    # --- out ------------------------------------------------------------------------------------------

    def asked(self, peer: Peer, message: ReadLog) -> str:
        """Answer with a page, now or when there is one; return what is wrong with asking, or nothing."""
        if self._log is None:
            self._say(peer.name, _sorry(message, "this farm keeps no log"))
            return ""
        mine = [name for name in self._questions if name[0] == peer.name]
        if len(mine) >= QUESTIONS:
            return f"more than {QUESTIONS} pages of the log asked for at a time"
        question = _Question(peer, message, message.cursor)
        self._questions[peer.name, message.number] = question
        self._read(question)
        return ""

    def forget(self, peer: str) -> None:
        """This one is gone."""
        self.outputs.forget(peer)
        for name in [name for name in self._questions if name[0] == peer]:
            del self._questions[name]

    def tick(self, now: float) -> None:
        """Look again for those who wait."""
        self.outputs.tick(now)
        if self._look_at is None or now < self._look_at:
            return
        assert self._log is not None
        self._look_at = None
        for question in list(self._questions.values()):
            if question.reading:
                continue
            if question.seen != self._log.end or (question.run and not self._going(question.run)):
                self._read(question)
            else:
                self._look_at = now + LOOK_S

    def next_deadline(self) -> float | None:
        """Return when to look again."""
        times = (self._look_at, self.outputs.next_deadline())
        return min((at for at in times if at is not None), default=None)

    def _read(self, question: _Question) -> None:
        log = self._log
        assert log is not None
        asked, peer = question.asked, question.peer
        wish = Wish(asked.run, asked.task, asked.host, asked.level)
        owner = peer.owner if peer.role == "client" else None
        cursor, end = question.cursor, log.end
        question.reading, question.seen = True, end
        # Asked before the log is read: what a run printed before its end has been written by then.
        going = not question.run or self._going(question.run)
        self._reader.submit(
            lambda: read_farm_log(log.path, log.runs, end, wish, cursor, owner),
            lambda value, error: self._have_read(question, going, value, error),
        )

    def _going(self, run: str) -> bool:
        assert self._log is not None
        return self._goes_on(run) or not self._log.idle

    def _have_read(
        self, question: _Question, going: bool, reading: Reading | None, error: BaseException | None
    ) -> None:
        question.reading = False
        asked, name = question.asked, (question.peer.name, question.asked.number)
        if self._questions.get(name) is not question:
            return
        if reading is None:
            del self._questions[name]
            if not isinstance(error, FarmError | OSError):
                assert error is not None
                raise error
            self._say(question.peer.name, _sorry(asked, str(error)))
            return
        page = reading.page
        if reading.run is not None and not question.run:
            question.run = reading.run.run
            going = True  # it was not asked before reading: the next page tells
        question.cursor = str(page.cursor)
        if asked.wait and going and page.at_end and not page.lines and not page.lost:
            if self._look_at is None:
                self._look_at = self._loop.clock() + LOOK_S
            return
        if asked.wait and not page.lines and not page.lost and not page.at_end:
            self._read(question)  # nothing wanted in what was looked at
            return
        del self._questions[name]
        answer = LogPage(
            asked.number,
            page.lines,
            question.cursor,
            page.at_end,
            going,
            page.lost,
            run=question.run,
        )
        self._say(question.peer.name, answer)


def _sorry(asked: ReadLog, text: str) -> LogPage:
    return LogPage(asked.number, (), asked.cursor, True, False, fault=text)
