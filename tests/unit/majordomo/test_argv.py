"""Command lines as people type them."""

from __future__ import annotations

import pytest
from doit.cmdparse import CmdOption, CmdParse, CmdParseError

from computefarm.majordomo.argv import asked, option_error

COMMANDS = ["run", "list", "why", "help"]


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("--help", ["help"]),
        ("-h", ["help"]),
        ("--version", ["--version"]),
        ("run --help", ["help", "run"]),
        ("run -a --help", ["help", "run"]),
        ("list -h", ["help", "list"]),
        ("why TASK --help", ["help", "why"]),
        ("why --version", ["--version"]),
        ("", None),
        ("run", None),
        ("task", None),
        # A task's own options are the task's business.
        ("task --help", None),
        ("run task --help", None),
        ("run -- --help", None),
    ],
)
def test_help_and_version_are_found(line: str, answer: list[str] | None) -> None:
    assert asked(line.split(), COMMANDS) == answer


OPTION = {"name": "num_process", "short": "n", "long": "process", "type": int, "default": 0, "help": ""}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--nosuch", "option --nosuch not recognized"),
        ("-n x", "parameter `num_process`: 'x' is no int"),
        ("-n", "option -n requires argument"),
    ],
)
def test_an_option_s_error_is_one_sentence_and_what_to_type(line: str, said: str) -> None:
    with pytest.raises(CmdParseError) as raised:
        CmdParse([CmdOption(OPTION)]).parse(line.split())

    assert str(option_error(raised.value, "run")) == f"{said}\n  majordomo help run"
