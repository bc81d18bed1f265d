"""Results that nobody has taken yet: kept with their logs while there is room, then without."""

from __future__ import annotations

import msgspec

from computefarm.messages import Done, Piece, Result

from .state import Session

SESSION_LOGS = 8 << 20
"""Characters of logs that are kept for one session."""

ALL_LOGS = 64 << 20
"""Characters of logs that are kept for all sessions together."""


class Untaken:
    """Bounds what clients that are away, or slow, make the manager keep."""

    def __init__(self) -> None:
        self.logs = 0
        """Characters that are kept now."""

    def keep(self, session: Session, done: Done) -> Done:
        """Return what to keep of a task's end until its client takes it."""
        if not done.result.log:
            return done
        size = _size(done.result)
        if session.logs + size > SESSION_LOGS or self.logs + size > ALL_LOGS:
            done = msgspec.structs.replace(done, result=_without_log(done.result, size))
            size = _size(done.result)
        session.logs += size
        self.logs += size
        return done

    def forget(self, session: Session, done: Done) -> None:
        """It was taken, or nobody will."""
        if done.result.log:
            size = _size(done.result)
            session.logs -= size
            self.logs -= size


def _size(result: Result) -> int:
    return sum([len(piece.text) for piece in result.log])


def _without_log(result: Result, size: int) -> Result:
    """Return a result that says in place of its log that it was cut."""
    last = result.log[-1]
    text = f"[{size:,} characters of output were not kept: too many results waited for their client]\n"
    return msgspec.structs.replace(result, log=(Piece(last.stream, last.created_at, text),))
