from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from computefarm.capability import Capability, parse
from computefarm.host.oom import OomCounter
from computefarm.messages import Action, Outcome, Piece, Result, Run
from computefarm.sandbox.lines import BoundedLog
from computefarm.sandbox.spawner import Ended
from computefarm.services.attempts import Execution
from computefarm.services.diagnosis import judge, result_of
from computefarm.services.disk import Disk
from computefarm.services.failures import Failures, GiveBack

GCC = parse((Path(__file__).parents[3] / "capabilities/gcc.yaml").read_text(), "gcc.yaml")


class Machine:
    """What a failure may be due to, as the test wants it."""

    def __init__(self) -> None:
        self.killed = self.crowded = False
        self.complaint = False
        self.withdrawn = ""
        self.probed: list[str] = []
        self.waiting: list[Callable[[str], None]] = []
        self.failures = Failures(
            oom=cast(OomCounter, self), disk=cast(Disk, self), capability=self.capability, check=self.check
        )
        self.told: list[Result | GiveBack] = []

    def moved(self) -> bool:
        return self.killed

    def guilty(self, complained: bool) -> bool:
        self.complaint = complained
        return self.crowded

    def full(self) -> str:
        return "disk full on nn02: 0 B free in /c"

    def capability(self, name: str) -> Capability:
        return GCC

    def check(self, capability: str, then: Callable[[str], None]) -> None:
        self.probed.append(capability)
        then(self.withdrawn)

    def ends(
        self, code: int | None, number: int | None = None, text: str = "", halted: str | None = None
    ) -> Result | GiveBack:
        """Return what is told of an attempt that ended like this."""
        action = Action("gcc", ("gcc -c a.c",))
        execution = Execution(Run(1, 1, "t", b""), action, 1)
        execution.halted = halted
        execution.log = BoundedLog()
        execution.log.add(Piece(2, 0.0, text))
        event = Ended(1, code, number, False, halted is not None, 0, 1.0, 1.0, 5_000_000, "")
        result = result_of(execution, event, judge(action, event, halted=halted))
        self.failures.examine(execution, event, result, self.told.append)
        return self.told[-1]


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_on_a_sound_machine_it_is_the_tasks_own_doing(machine: Machine) -> None:
    told = machine.ends(1, text="a.c:1: error\n")

    assert isinstance(told, Result)
    assert (told.outcome, told.kind, told.exit_code) == (Outcome.FAILED, "exit", 1)
    assert machine.probed == []


def test_who_is_killed_while_the_kernel_wants_memory_ran_out_of_it(machine: Machine) -> None:
    machine.killed = True
    told = machine.ends(137)

    assert isinstance(told, Result)
    assert (told.kind, told.exit_code, told.signal) == ("out-of-memory", None, signal.SIGKILL)
    other = machine.ends(1)
    assert isinstance(other, Result)
    assert other.kind == "exit"


def test_a_full_disk_is_to_blame_whatever_the_command_says(machine: Machine) -> None:
    machine.crowded = True
    told = machine.ends(1, text="as: No space left on device\n")

    assert isinstance(told, Result)
    assert (told.kind, told.reason) == ("disk-full", "disk full on nn02: 0 B free in /c")
    assert machine.complaint


def test_who_was_ended_on_purpose_accuses_nobody(machine: Machine) -> None:
    machine.killed = machine.crowded = True
    told = machine.ends(None, signal.SIGTERM, halted="cancelled")

    assert isinstance(told, Result)
    assert told.kind == "cancelled"


def test_a_tool_that_is_gone_gives_the_attempt_back(machine: Machine) -> None:
    machine.withdrawn = "gcc is no longer offered: gcc: not found in PATH"
    told = machine.ends(127, text="/bin/sh: 1: gcc: not found\n")

    assert told == GiveBack(machine.withdrawn, "missing-tool")
    assert machine.probed == ["gcc"]


def test_a_tool_that_is_there_after_all_is_a_plain_failure(machine: Machine) -> None:
    told = machine.ends(127, text="/bin/sh: 1: gcc: not found\n")

    assert isinstance(told, Result)
    assert (told.kind, told.exit_code) == ("exit", 127)
    assert machine.probed == ["gcc"]


def test_a_program_that_the_capability_does_not_name_is_not_probed_for(machine: Machine) -> None:
    machine.withdrawn = "gone"
    told = machine.ends(127, text="/bin/sh: 1: gccc: not found\n")

    assert isinstance(told, Result)
    assert machine.probed == []
