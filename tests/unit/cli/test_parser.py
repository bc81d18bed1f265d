"""Mistyped command lines of the other programs: one sentence, what to type, exit 3."""

from __future__ import annotations

from typing import Any

import pytest

from computefarm.cli import monitor, taskmanager, worker


@pytest.mark.parametrize(
    ("program", "line", "said"),
    [
        (worker, "--slots x", "cf-worker: argument --slots: invalid int value: 'x'\n  cf-worker --help\n"),
        (worker, "--nosuch", "cf-worker: unrecognized arguments: --nosuch\n  cf-worker --help\n"),
        (monitor, "--interval x", "invalid float value: 'x'\n  cf-monitor --help\n"),
        (taskmanager, "", "required: COMMAND\n  cf-taskmanager --help\n"),
        (taskmanager, "invite --role boss", "'boss'"),
        (taskmanager, "invite", "required: --role\n  cf-taskmanager invite --help\n"),
    ],
)
def test_a_mistyped_line_is_told(
    program: Any, line: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        program._parser().parse_args(line.split())

    assert ended.value.code == 3
    assert said in capsys.readouterr().err
