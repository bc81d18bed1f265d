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

    def __init__(self, message: str, exit_code: int = 1, *, reason: str = "") -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.reason = reason or message
        """The message without its place, for displays that name the place themselves."""

    def get_name(self) -> str:
        """Return doit's own word, which scripts around doit's reports know."""
        return "TaskFailed"


class FarmErred(TaskError):
    """A command ended with a code above 125, which doit counts as an error rather than a failure."""

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or message

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


def failure_of(task: Task, event: Ended, declared: Iterable[str]) -> FarmFailed | FarmErred | None:
    """Return what went wrong with a task that ended, None when nothing did."""
    result = event.result
    place = event.hostname or event.worker
    if result.outcome is Outcome.SUCCEEDED:
        absent = [target for target in task.targets if not os.path.exists(target)]
        missing = list(result.missing) or absent
        if not missing:
            return None
        text = _missing(missing)
    else:
        text = reason_of(result)
    if result.outcome is Outcome.FAILED and (hint := undeclared_hint(result, declared)):
        text = f"{text}\n  {hint}"
    message = f"on {place}: {text}" if place and not result.missing else text
    if result.outcome is Outcome.FAILED and result.exit_code is not None and result.exit_code > 125:
        return FarmErred(message, reason=text)
    return FarmFailed(message, reason=text)


def reason_of(result: Result) -> str:
    """Say why an attempt failed, in a few words that do not name its place."""
    if result.missing and not result.exit_code:
        return _missing(result.missing)
    if result.reason:
        return result.reason
    if result.outcome is Outcome.TIMEOUT:
        return f"timeout: it ran for {result.run_s:.1f} s"
    if result.outcome is Outcome.LOST:
        return "lost: every worker that ran it went away"
    if result.outcome is Outcome.CANCELLED:
        return "cancelled"
    if result.signal is not None:
        return f"killed by signal {result.signal}"
    return f"the command exited with {result.exit_code}"


def _missing(names: Iterable[str]) -> str:
    return "\n".join(f"declared target {name} was not produced" for name in names)


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
