"""Why an attempt failed: the task's own doing, or something that its machine lacks."""

from __future__ import annotations

from collections.abc import Callable
from signal import SIGKILL

import msgspec

from computefarm.capability import Capability
from computefarm.host.oom import OomCounter
from computefarm.messages import Result
from computefarm.sandbox.spawner import Ended

from .attempts import Execution, with_outcome
from .diagnosis import absent_programs, out_of_memory, programs_of, says_full, tail
from .disk import Disk


class GiveBack(msgspec.Struct, frozen=True):
    """The attempt was not the task's own fault: somebody else should have it."""

    reason: str
    kind: str
    """As in `Declined.kind`."""


class Failures:
    """Looks at the machine after a failure; a success never comes here."""

    def __init__(
        self,
        *,
        oom: OomCounter,
        disk: Disk,
        capability: Callable[[str], Capability],
        check: Callable[[str, Callable[[str], None]], None],
    ) -> None:
        """`check` probes a capability and says what is wrong with it, or nothing."""
        self._oom = oom
        self._disk = disk
        self._capability = capability
        self._check = check

    def examine(
        self, execution: Execution, event: Ended, result: Result, then: Callable[[Result | GiveBack], None]
    ) -> None:
        """Call `then`, now or after a probe, with the result as it should be told."""
        action = execution.action
        text = tail(result.log)
        if execution.over or execution.halted is not None or event.timed_out:
            then(result)
            return
        peak = max(event.peak_memory, execution.peak)
        if self._oom.moved() and (verdict := out_of_memory(action, event, text, peak)) is not None:
            # What the shell made of it, 137, is nobody's exit code.
            facts = {"kind": verdict.kind, "peak_memory": peak, "exit_code": None, "signal": SIGKILL.value}
            then(with_outcome(result, verdict.outcome, verdict.reason, **facts))
            return
        if self._disk.guilty(says_full(text)):
            then(with_outcome(result, result.outcome, self._disk.full(), kind="disk-full"))
            return
        absent = absent_programs(action, event, text)
        if not absent or absent.isdisjoint(programs_of(self._capability(action.capability))):
            then(result)
            return

        def checked(reason: str) -> None:
            if reason:
                then(GiveBack(reason, "missing-tool"))
            else:
                then(result)

        self._check(action.capability, checked)
