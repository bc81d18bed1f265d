"""How a farm task fails, in doit's terms, and which exit code that is."""

from __future__ import annotations

import os
from collections.abc import Iterable

from doit.exceptions import BaseFail, TaskError, TaskFailed, UnmetDependency
from doit.task import Task

from computefarm.backends.base import Ended
from computefarm.errors import FarmError
from computefarm.messages import Outcome, Result

PRECEDENCE = (143, 130, 4, 6, 5, 3, 2, 1)
"""Which exit code wins when several apply."""


def exit_code(codes: Iterable[int]) -> int:
    """Return the one exit code of a run in which all of `codes` came up."""
    seen = set(codes)
    for code in PRECEDENCE:
        if code in seen:
            return code
    return max(seen, default=0)


class FarmFailed(TaskFailed):
    """A farm task failed; `exit_code` says how the run ends because of it."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code

    def get_name(self) -> str:
        """Return doit's own word, which scripts around doit's reports know."""
        return "TaskFailed"


class FarmErred(TaskError):
    """A command ended with a code above 125, which doit counts as an error rather than a failure."""

    def get_name(self) -> str:
        """Return doit's own word."""
        return "TaskError"


def failed_to_plan(error: FarmError) -> FarmFailed:
    """Return the failure of a task that could not be sent."""
    return FarmFailed(str(error), error.exit_code)


def code_of(fail: BaseFail) -> int:
    """Return the exit code that a failure stands for; 0 for a task that was only blocked."""
    if isinstance(fail, UnmetDependency):
        return 0
    if isinstance(fail, FarmFailed):
        return fail.exit_code
    return 1 if isinstance(fail, TaskFailed) else 2


def failure_of(task: Task, event: Ended, declared: Iterable[str]) -> BaseFail | None:
    """Return what went wrong with a task that ended, None when nothing did."""
    result = event.result
    if result.outcome is Outcome.SUCCEEDED:
        absent = [target for target in task.targets if not os.path.exists(target)]
        missing = list(result.missing) or absent
        return FarmFailed(_missing(missing, event)) if missing else None
    text = _reason(result, event)
    if result.outcome is not Outcome.FAILED:
        return FarmFailed(text)
    if hint := undeclared_hint(result, declared):
        text = f"{text}\n  {hint}"
    if result.exit_code is not None and result.exit_code > 125:
        return FarmErred(text)
    return FarmFailed(text)


def _reason(result: Result, event: Ended) -> str:
    place = f" on {event.hostname or event.worker}" if event.hostname or event.worker else ""
    if result.missing and not result.exit_code:
        return result.reason or _missing(result.missing, event)
    if result.reason:
        return f"{result.reason}{place}" if place and place not in result.reason else result.reason
    if result.outcome is Outcome.TIMEOUT:
        return f"timeout: it ran for {result.run_s:.1f} s{place}"
    if result.outcome is Outcome.LOST:
        return "lost: every worker that ran it went away"
    if result.outcome is Outcome.CANCELLED:
        return "cancelled"
    if result.signal is not None:
        return f"killed by signal {result.signal}{place}"
    return f"the command exited with {result.exit_code}{place}"


def _missing(names: Iterable[str], event: Ended) -> str:
    place = f" on {event.hostname}" if event.hostname else ""
    return "\n".join(f"declared target {name} was not produced{place}" for name in names)


def undeclared_hint(result: Result, declared: Iterable[str]) -> str:
    """Return the line that tells of a project file the command wanted but did not declare, or nothing."""
    from computefarm.sandbox.undeclared import undeclared_file

    text = "".join(piece.text for piece in result.log)
    name = undeclared_file(text, os.path.isfile, frozenset(declared))
    if not name:
        return ""
    return (
        f"its output names {name}, which is in the project but not declared: "
        f"add it to file_dep, or needs(inputs=[{name!r}])"
    )
