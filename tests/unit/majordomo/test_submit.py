"""`majordomo submit` against a scripted farm: what it prints, waits for, and returns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from computefarm.backends.base import Broken, Ended, Printed
from computefarm.errors import NothingOffers, Unreachable
from computefarm.majordomo.adhoc import NUMBER, submission
from computefarm.majordomo.commands_submit import Following
from computefarm.majordomo.patience import Patience
from computefarm.messages import Outcome, Piece, Result
from computefarm.testing.backend import ScriptedBackend

Script = Callable[[ScriptedBackend], None]


def follow(script: Script, tmp_path: Path, *, grace: float = 0.0) -> int:
    backend = ScriptedBackend()
    backend.on_submit = lambda farm, _: script(farm)
    task = submission(["true"], root=tmp_path, capability="shell")
    try:
        return Following(backend, Patience(None, grace=grace)).run(task)
    finally:
        assert backend.closed


def ends(farm: ScriptedBackend, result: Result) -> None:
    farm.report(Ended(NUMBER, result, False, "w1", "here", 0.0, ()))


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (Result(Outcome.SUCCEEDED, 0), 0),
        (Result(Outcome.FAILED, 7, reason="exit status 7: x"), 7),
        (Result(Outcome.FAILED, 127), 127),
        (Result(Outcome.FAILED, None, 9, "killed by signal 9"), 137),
        (Result(Outcome.FAILED, 0, missing=("out",)), 1),
        (Result(Outcome.TIMEOUT, None, 15, "timeout: ended after 1 s"), 1),
        (Result(Outcome.LOST, reason="lost 3 times"), 1),
        (Result(Outcome.CANCELLED, reason="cancelled by root@vm"), 1),
    ],
)
def test_the_exit_code_is_the_command_s_own(
    result: Result, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert follow(lambda farm: ends(farm, result), tmp_path) == code
    said = capsys.readouterr().err
    if result.reason and result.exit_code != 7:
        assert f"on here: {result.reason}" in said
    if result.missing:
        assert "declared target out was not produced" in said


def test_its_output_is_passed_on_once_and_in_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pieces = [
        Piece(1, 0.0, "a\n", 0),
        Piece(2, 0.0, "b\n", 1),
        Piece(1, 0.0, "c\n", 2),
        Piece(1, 0.0, "end\n", 5),
    ]

    def script(farm: ScriptedBackend) -> None:
        farm.place(NUMBER)
        farm.report(Printed(NUMBER, 1, tuple(pieces[:2])))
        # What comes with the result has all of it, but for a part that was too long to be kept.
        ends(farm, Result(Outcome.SUCCEEDED, 0, log=tuple(pieces)))

    assert follow(script, tmp_path) == 0
    out, err = capsys.readouterr()
    assert out == "a\nc\nend\n"
    assert err.startswith("b\n")
    assert "some output is left out here" in err


def test_a_further_attempt_begins_anew_and_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def script(farm: ScriptedBackend) -> None:
        for attempt in (1, 2):
            farm.place(NUMBER, attempt)
            farm.report(Printed(NUMBER, attempt, (Piece(1, 0.0, f"{attempt}\n", 0),)))
        ends(farm, Result(Outcome.SUCCEEDED, 0))

    assert follow(script, tmp_path) == 0
    out, err = capsys.readouterr()
    assert out == "1\n2\n"
    assert "attempt 2 on here (w1)" in err


def test_what_nothing_offers_is_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(NothingOffers, match="no worker offers shell"):
        follow(lambda farm: farm.hold(NUMBER, reason="gcc 12"), tmp_path)


def test_a_farm_that_is_gone_ends_it(tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        follow(lambda farm: farm.report(Broken(Unreachable("gone"))), tmp_path)
