"""Workers that fail one task after the other within seconds are left alone for a while.

A full disk, a broken toolchain or a folder without rights makes a worker fail everything at once: being
free again so soon it draws all tasks to itself. But the same picture is what a broken source tree gives on
every worker, and a project in trouble must not cost the farm its workers. So it matters whose failure it is:

- *the worker's own* (it could not make an attempt ready, a tool was missing): five different tasks in a row;
- *the command's* (it exited non-zero, was killed, left outputs out): these count only where another worker
  has succeeded with tasks of the same kind since the first of the five. With a broken tree nobody succeeds.

A success ends a row. A worker that has just come out of quarantine has to prove itself: until its first
success, one failure of its own sends it back, for twice as long.
"""

from __future__ import annotations

from .dispatch import Dispatch
from .state import Strike, Task, Worker

STRIKES = 5
"""Different tasks, in a row."""

WINDOW_S = 10.0
"""Seconds within which they fail."""

REST_S = 10.0
"""Seconds of the first quarantine; each further one without a success between lasts twice as long."""

REST_MAX_S = 600.0


class Quarantine:
    """Counts what went wrong where, and decides who is left alone."""

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch

    def cleared(self, worker: Worker) -> None:
        """A task's command did what it should here."""
        worker.strikes.clear()
        worker.relapses = 0

    def failed(self, worker: Worker, task: Task, reason: str, now: float, *, own: bool) -> None:
        """A task failed here; `own` says that it looks like the worker's doing."""
        recent = [s for s in worker.strikes if s.at > now - WINDOW_S and s.key != task.key]
        recent = [*recent[1 - STRIKES :], Strike(now, task.key, task.kind, own, reason)]
        worker.strikes = recent
        if own and worker.relapses:
            self.rest(worker, f"failed again: {reason}", now)
        elif len(recent) >= STRIKES and all(_is_here(strike, worker, recent[0].at) for strike in recent):
            self.rest(worker, f"{STRIKES} tasks in a row failed there: {reason}", now)

    def rest(self, worker: Worker, reason: str, now: float) -> None:
        """Leave a worker alone, and have it return what it has not begun."""
        worker.quarantined_until = now + min(REST_MAX_S, REST_S * 2 ** min(worker.relapses, 10))
        worker.relapses += 1
        worker.quarantine = reason
        worker.strikes.clear()
        for attempt in worker.backlog.values():
            if not attempt.recalled:
                attempt.recalled = True
                self._dispatch.halt(attempt, "recalled", now, unless_begun=True)


def _is_here(strike: Strike, worker: Worker, since: float) -> bool:
    """Return whether this failure would not have happened elsewhere."""
    return strike.own or strike.kind.won_elsewhere(worker.name, since)
