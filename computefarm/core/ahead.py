"""How many short tasks lie ready at a worker, so that it need not wait for us between two of them."""

from __future__ import annotations

from .state import Attempt, Task, Worker

AHEAD_S = 0.020
"""Seconds of work per slot that are sent ahead: what a worker does while messages gather and travel."""

LONG_S = 0.050
"""Over a short line longer tasks are not sent ahead; what waits longer is recalled when others idle."""

CREDIT = 16.0
"""Tasks sent ahead per slot, at most, over a short line."""

SHORT_LINE_S = 0.005
"""Up to here `AHEAD_S` makes up for the line too."""

LONG_LINE_S = 1.0
"""A longer line is taken for one of this length."""

LINE_CREDIT = 64.0
"""Tasks more per slot, at most, for the sake of a long line."""

PROOFS = 2
"""Attempts that must have told before a line is thought to be long."""

FORGETS = 0.05
"""How far what is known of a line follows a longer time: an occasional one says nothing about it."""


def credit(task: Task, worker: Worker) -> float:
    """Return how many tasks like this one are sent ahead per slot.

    The work on its way must last until the word of an end has come and the next task has gone out.
    """
    run_s = task.kind.run_s
    line_s = worker.line_s if worker.line_proofs >= PROOFS and worker.line_s > SHORT_LINE_S else 0.0
    if run_s is None or run_s >= max(LONG_S, line_s):
        return 0.0
    if run_s <= 0:
        return CREDIT
    return min(CREDIT, AHEAD_S / run_s) + min(LINE_CREDIT, line_s / run_s)


def measure(attempt: Attempt, worker: Worker, run_s: float, now: float) -> None:
    """Learn how long the line to a worker is from an attempt that it could begin at once and that has ended.

    What making ready and giving account takes is part of it, for a task sent ahead saves that as well.
    """
    if attempt.prompt:
        took_s = min(LONG_LINE_S, max(0.0, now - attempt.sent_at - run_s))
        known = worker.line_s
        if took_s < known or worker.line_proofs == 0:
            worker.line_s = took_s
        else:
            worker.line_s = known + FORGETS * (took_s - known)
        worker.line_proofs += 1


def simple(task: Task) -> bool:
    """Return whether a task needs nothing but a slot."""
    need = task.queue.need
    return need.cpus == 1 and not (need.exclusive or need.gpus or need.declared or task.avoid)
