"""The manager's porter: answers who has only an invitation, and logs who was turned away."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from computefarm.codec import decode_to_manager
from computefarm.core.commands import PeerId
from computefarm.errors import ProtocolError
from computefarm.messages import Disconnect, FromManager, Join
from computefarm.transport.invitation import Enrolment
from computefarm.transport.manager_end import Incoming, ManagerEnd

from .roster import Roster

log = logging.getLogger("computefarm.taskmanager")

REPORT_S = 1.0
"""Between two reports of who was turned away."""


class Porter:
    """Stands at the port; nobody who comes to him only is a peer."""

    def __init__(
        self, end: ManagerEnd, roster: Roster, enrolment: Enrolment | None, clock: Callable[[], float]
    ) -> None:
        self._end = end
        self._roster = roster
        self._enrolment = enrolment
        self._clock = clock
        self._report_at = clock()

    def invited(self, incoming: Incoming) -> FromManager:
        """Return the answer to a key out of an invitation, which may say one thing: Join."""
        answer: FromManager = Disconnect("role", "an invitation is good for joining and nothing else")
        try:
            messages = decode_to_manager(incoming.body)
        except ProtocolError as error:
            messages = []
            answer = Disconnect("protocol", str(error))
        if len(messages) == 1 and isinstance(messages[0], Join) and self._enrolment is not None:
            answer = self._enrolment.join(incoming.identity, messages[0], time.time())
            log.info("invitation of role %s: %s", incoming.identity.enrols, answer)
        return answer

    def report(self, oddities: Callable[[], list[tuple[PeerId, str]]]) -> None:
        """Log who was turned away, equal cases in one line, so that a flood of them fills no disk."""
        now = self._clock()
        if now < self._report_at:
            return
        for name, text in oddities():
            peer = self._roster.get(name)
            if peer is not None and peer.control is not None:
                self._end.refuse(peer.control, text)
        refusals = self._end.refusals()
        for refusal in refusals:
            log.warning("%s", refusal)
        for complaint in self._end.complaints():
            log.warning("%s", complaint)
        if refusals:
            self._report_at = now + REPORT_S
