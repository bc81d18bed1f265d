"""What kind of failure a result is, and what is kept of it: pure functions of results."""

from __future__ import annotations

import msgspec

from computefarm.messages import Attempt as Past
from computefarm.messages import Outcome, Result

from .placement import mebibytes
from .state import Task

KILLERS = 3
"""Different worker processes that may vanish while running a task before it is given up.

Likewise: different workers that may find a tool missing for it, and attempts of it that may fill a disk."""

LOSSES = 12
"""Attempts of one task that may vanish, however few the workers were."""

TAIL = 2048
"""Characters of a failed attempt's output that are kept for `why` and `history`."""


def honest(result: Result) -> Result:
    """Return `result` with its kind of failure named; a success that lacks declared outputs is a failure."""
    if result.outcome is Outcome.SUCCEEDED:
        if not result.missing:
            return result
        reason = f"declared outputs were not produced: {', '.join(result.missing)}"
        return msgspec.structs.replace(
            result, outcome=Outcome.FAILED, reason=result.reason or reason, kind="output"
        )
    if result.kind:
        return result
    return msgspec.structs.replace(result, kind=_kind(result))


def _kind(result: Result) -> str:
    """Return the kind of a failure whose worker did not say it."""
    match result.outcome:
        case Outcome.TIMEOUT:
            return "timeout"
        case Outcome.CANCELLED:
            return "cancelled"
        case Outcome.LOST:
            return "worker-lost"
    if result.missing:
        return "output"
    if result.signal is not None:
        return "signal"
    return "exit" if result.exit_code else ""


def tail_of(result: Result) -> str:
    """Return the last lines that a failed attempt printed."""
    if result.outcome is Outcome.SUCCEEDED:
        return ""
    text = ""
    for piece in reversed(result.log):
        text = piece.text + text
        if len(text) > TAIL:
            start = text.find("\n", len(text) - TAIL) + 1
            return text[start or len(text) - TAIL :]
    return text


def hopeless(task: Task) -> str | None:
    """Return why a task is not tried again after yet another loss, or None."""
    if len(task.killers) >= KILLERS:
        names = ", ".join(process.split("/")[0] for process in task.killers)
        return f"lost with {KILLERS} different workers ({names})"
    losses = sum(1 for past in task.past if past.outcome == "lost")
    return f"lost {losses} times" if losses >= LOSSES else None


def acquitted(task: Task, worker: str) -> tuple[str, ...]:
    """Return the killers of a task once the last loss with `worker` has been taken back."""
    theirs = [process for process in task.killers if process.split("/")[0] == worker]
    losses = sum(1 for past in task.past if past.outcome == "lost" and past.worker == worker)
    if len(theirs) <= losses:
        return task.killers
    return tuple(process for process in task.killers if process != theirs[-1])


def of_kind(past: tuple[Past, ...], kind: str) -> list[Past]:
    """Return the earlier attempts that failed so."""
    return [attempt for attempt in past if attempt.kind == kind]


def out_of_memory(result: Result, why_not_again: str) -> Result:
    """Return a result that names how much memory there was use for, and why there is no further attempt."""
    reason = result.reason or "out of memory"
    if result.peak_memory and "peak" not in reason:
        reason += f" (peak {mebibytes(result.peak_memory)})"
    return msgspec.structs.replace(result, reason=f"{reason}; {why_not_again}")
