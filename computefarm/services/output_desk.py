"""The manager's part in reading a task's whole output: it asks the worker that has it, and passes pages on.

One page at a time, and only what was asked for: nothing gathers here, however much it is.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from computefarm.errors import FarmError
from computefarm.logs.farm_log import FarmLog
from computefarm.messages import FromManager, OutputPage, ReadOutput

from .peers import Peer

PATIENCE_S = 5.0
"""How long a worker may take for a page."""

QUESTIONS = 4
"""Pages that one process may wait for at a time."""


class _Relay(msgspec.Struct, eq=False):
    """One page on its way."""

    asker: str
    asked: ReadOutput
    candidates: list[str]
    """Workers of that host that were not asked yet."""
    until: float
    worker: str = ""
    """Who is asked now."""
    fault: str = ""
    """What the last one said."""


class OutputDesk:
    """Finds the worker for each question, and its asker for each page."""

    def __init__(
        self,
        log: FarmLog | None,
        *,
        say: Callable[[str, FromManager], None],
        workers: Callable[[str], list[str]],
    ) -> None:
        """`workers` returns those that are connected from a host, by its name."""
        self._log = log
        self._say = say
        self._workers = workers
        self._number = 0
        self._relays: dict[int, _Relay] = {}

    def asked(self, peer: Peer, message: ReadOutput, now: float) -> str:
        """Have it answered; return what is wrong with asking, or nothing."""
        if sum(relay.asker == peer.name for relay in self._relays.values()) >= QUESTIONS:
            return f"more than {QUESTIONS} pages of outputs asked for at a time"
        candidates = self._workers(message.host)
        fault = self._objection(peer, message)
        if not fault and not candidates:
            fault = f"no worker on {message.host} is connected, and there it lies"
        if fault:
            self._say(peer.name, OutputPage(message.number, fault=fault))
            return ""
        self._number += 1
        self._relays[self._number] = _Relay(peer.name, message, candidates, now + PATIENCE_S)
        self._next(self._number)
        return ""

    def answered(self, worker: str, page: OutputPage) -> bool:
        """Pass a page on; return False for one that this worker was not asked for."""
        relay = self._relays.get(page.number)
        if relay is None or relay.worker != worker:
            return False
        if page.fault:
            relay.fault = page.fault
            self._next(page.number)
        else:
            del self._relays[page.number]
            self._say(relay.asker, msgspec.structs.replace(page, number=relay.asked.number))
        return True

    def forget(self, peer: str) -> None:
        """This one is gone."""
        for number, relay in list(self._relays.items()):
            if relay.asker == peer:
                del self._relays[number]
            elif relay.worker == peer:
                relay.fault = f"the worker on {relay.asked.host} has gone away"
                self._next(number)

    def tick(self, now: float) -> None:
        """Give up on workers that do not answer."""
        for number in [number for number, relay in self._relays.items() if now >= relay.until]:
            relay = self._relays[number]
            relay.fault = f"the worker on {relay.asked.host} does not answer"
            relay.until = now + PATIENCE_S
            self._next(number)

    def next_deadline(self) -> float | None:
        """Return when to call `tick`."""
        return min((relay.until for relay in self._relays.values()), default=None)

    def _next(self, number: int) -> None:
        """Ask the next worker, or tell why there is no page."""
        relay = self._relays[number]
        if relay.candidates:
            relay.worker = relay.candidates.pop(0)
            self._say(relay.worker, msgspec.structs.replace(relay.asked, number=number))
            return
        del self._relays[number]
        self._say(relay.asker, OutputPage(relay.asked.number, fault=relay.fault))

    def _objection(self, peer: Peer, message: ReadOutput) -> str:
        """Return why this key may not read it: a client is shown its own runs only."""
        if peer.role != "client":
            return ""
        if self._log is None:
            return "this farm keeps no log, so it does not know whose run that is"
        try:
            facts = self._log.runs.find(message.run, peer.owner)
        except FarmError as error:
            return error.args[0]  # type: ignore[no-any-return]
        # A worker knows a run by its name alone.
        others = [other for other in self._log.runs.called(facts.run) if other.owner != peer.owner]
        if facts.run != message.run or others:
            return f"the farm's log has no run of this key that is certainly called {message.run!r}"
        return ""
