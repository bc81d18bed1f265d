"""Planted bugs are found, or the simulator is worth nothing; and a seed tells the same story every time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .__main__ import fault_of, main, shrink
from .faults import KINDS
from .mutants import MUTANTS
from .world import World

ENOUGH = 1000
"""Worlds in which a planted bug must be found."""

LOOK = 100


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_planted_bug_is_found(mutant: str) -> None:
    found = any(fault_of(seed, mutant=mutant) for seed in range(ENOUGH))

    assert found, f"{mutant} survives {ENOUGH} worlds"


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS)
def test_how_often_a_planted_bug_is_found(mutant: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = sum(fault_of(seed, mutant=mutant) is not None for seed in range(LOOK))

    with capsys.disabled():
        print(f"\n{mutant}: found by {found} of {LOOK} seeds", end="")


def test_a_seed_tells_the_same_story_however_python_hashes() -> None:
    told = "from tests.simulation.world import World as W; w = W(3, trace=True); w.run(); print(*w.trace, sep='\\n')"
    stories = set()
    for salt in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": salt}
        root = Path(__file__).parents[2]
        done = subprocess.run(
            [sys.executable, "-c", told], cwd=root, env=environment, capture_output=True, check=True
        )
        stories.add(done.stdout)

    assert len(stories) == 1
    assert stories.pop().count(b"\n") > 100


def test_keeping_a_trace_changes_nothing() -> None:
    plain, traced = World(5), World(5, trace=True)
    plain.run()
    traced.run()

    assert (plain.now, plain.count()) == (traced.now, traced.count())
    assert plain.trace is None
    assert traced.trace


def test_what_a_failure_does_not_need_is_left_out() -> None:
    mutant = "immortal-sessions"
    seed = next(seed for seed in range(ENOUGH) if fault_of(seed, mutant=mutant))

    left_out = shrink(seed, (), mutant)

    assert "client-crash" not in left_out
    assert len(left_out) > len(KINDS) // 2
    assert fault_of(seed, left_out, mutant) is not None


def test_the_command_names_seed_and_commit_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "0:20", "--mutant", "immortal-sessions"]) == 1

    said = capsys.readouterr().out
    assert "seed 0 at commit " in said
    assert "python -m tests.simulation --seed 0 --trace" in said


def test_an_unknown_kind_of_fault_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--without", "los"])

    assert ended.value.code == 2
    assert "no such kind of fault: los; there are: loss copies" in capsys.readouterr().err
