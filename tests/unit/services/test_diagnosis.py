from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from computefarm.capability import parse
from computefarm.messages import Action, Outcome
from computefarm.sandbox.spawner import Ended
from computefarm.services.diagnosis import (
    absent_programs,
    judge,
    out_of_memory,
    programs_of,
    says_full,
)

ROOT = Path(__file__).parents[3]
SHELL = Action("shell", ("first", "make all\necho done"), timeout_s=90)
ARGV = Action("gcc", (("gcc", "-c", "a.c"),))


def ended(code: int | None = 0, number: int | None = None, **more: object) -> Ended:
    facts: dict[str, object] = {
        "timed_out": False, "halted": False, "command": 0, "run_s": 1.0, "cpu_s": 0.5,
        "peak_memory": 0, "error": "",
    }  # fmt: skip
    return Ended(1, code, number, **(facts | more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("action", "event", "outcome", "kind", "text"),
    [
        (SHELL, ended(0), Outcome.SUCCEEDED, "", ""),
        (SHELL, ended(3), Outcome.FAILED, "exit", "exit status 3: first"),
        (SHELL, ended(2, command=1), Outcome.FAILED, "exit", "exit status 2: make all …"),
        (SHELL, ended(None, signal.SIGSEGV), Outcome.FAILED, "signal", "killed by SIGSEGV: first"),
        (
            SHELL,
            ended(139),
            Outcome.FAILED,
            "signal",
            "exit status 139, a command of it killed by SIGSEGV: first",
        ),
        # Only a shell adds 128; and nobody dies of signal 2 but by a user.
        (ARGV, ended(139), Outcome.FAILED, "exit", "exit status 139: gcc -c a.c"),
        (SHELL, ended(130), Outcome.FAILED, "exit", "exit status 130: first"),
        (SHELL, ended(255), Outcome.FAILED, "exit", "exit status 255: first"),
        (
            SHELL,
            ended(None, signal.SIGTERM, timed_out=True),
            Outcome.TIMEOUT,
            "timeout",
            "timeout: ended at its limit of 90 s: first",
        ),
        (ARGV, ended(127, error="gcc: not found"), Outcome.FAILED, "exit", "gcc: not found"),
    ],
)
def test_the_end_of_commands_in_words(
    action: Action, event: Ended, outcome: Outcome, kind: str, text: str
) -> None:
    assert judge(action, event, halted=None) == (outcome, text, kind)


def test_what_was_ended_on_purpose_is_cancelled_unless_its_time_was_over() -> None:
    killed = ended(None, signal.SIGTERM, halted=True)

    assert judge(SHELL, killed, halted="by the user") == (Outcome.CANCELLED, "by the user", "cancelled")
    late = ended(None, signal.SIGTERM, halted=True, timed_out=True)
    assert judge(SHELL, late, halted="by the user").kind == "timeout"


def test_a_task_that_took_too_much_memory_is_ended_for_that_unless_it_was_quicker() -> None:
    killed = ended(None, signal.SIGKILL, halted=True)

    verdict = judge(SHELL, killed, halted=None, over="peak 3.9 GiB (declared 2 GiB)")
    assert verdict.kind == "out-of-memory"
    assert verdict.reason == "killed: out of memory, peak 3.9 GiB (declared 2 GiB): first"
    assert judge(SHELL, ended(0), halted=None, over="peak 3.9 GiB").outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize(
    ("event", "text", "guilty"),
    [
        (ended(None, signal.SIGKILL), "", True),
        (ended(137), "", True),
        (ended(2), "make: *** [Makefile:2: all] Killed\n", True),
        (ended(2), "error: Killedeer\n", False),
        (ended(None, signal.SIGSEGV), "", False),
        (ended(1), "", False),
    ],
)
def test_the_kernel_ended_it_for_want_of_memory(event: Ended, text: str, guilty: bool) -> None:
    verdict = out_of_memory(SHELL, event, text, 4_187_593_113)

    assert (verdict is not None) == guilty
    if verdict is not None:
        assert verdict == (Outcome.FAILED, "killed: out of memory, peak 3.9 GiB: first", "out-of-memory")


@pytest.mark.parametrize(
    "text",
    [
        "/bin/sh: 1: gcc: not found\n",
        "/bin/sh: line 1: gcc: command not found\n",
        "/bin/sh: 1: gcc: Permission denied\n",
        "env: \u2018gcc\u2019: No such file or directory\n",
        "sh: /usr/bin/gcc: not found",
    ],
)
def test_a_missing_program_is_read_from_what_the_shell_says(text: str) -> None:
    assert absent_programs(SHELL, ended(127), text) == {"gcc"}
    assert absent_programs(SHELL, ended(1), text) == set()


def test_a_missing_program_of_an_argument_vector_is_its_first_word() -> None:
    assert absent_programs(ARGV, ended(127, error="gcc: not found"), "") == {"gcc"}
    assert absent_programs(ARGV, ended(127), "") == set()


def test_the_programs_of_a_capability_are_those_of_probe_fingerprint_and_actions() -> None:
    gcc = parse((ROOT / "capabilities/gcc.yaml").read_text(), "gcc.yaml")

    assert programs_of(gcc) == {"gcc", "as", "ld", "ar"}


def test_a_complaint_of_a_full_disk() -> None:
    assert says_full(f"cc1: error: a.s: {os.strerror(errno.ENOSPC)}\n")
    assert says_full(f"tee: {os.strerror(errno.EDQUOT)}")
    assert not says_full("nothing of the kind")
