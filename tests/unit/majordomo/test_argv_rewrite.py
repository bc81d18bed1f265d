from __future__ import annotations

import pytest
from doit.cmdparse import CmdOption

from computefarm.errors import UsageError
from computefarm.majordomo.argv import rewrite

COMMANDS = ("run", "list", "status")
OPTIONS = [
    CmdOption({"name": "dodoFile", "short": "f", "long": "file", "type": str, "default": ""}),
    CmdOption({"name": "num_process", "short": "n", "long": "process", "type": int, "default": 0}),
    CmdOption({"name": "always", "short": "a", "long": "always-execute", "type": bool, "default": False}),
]


def rewritten(line: str) -> str:
    return " ".join(
        rewrite(line.split(), COMMANDS, lambda _: OPTIONS, {"dodo.py", "build.py", "x/y.py"}.__contains__)
    )


@pytest.mark.parametrize(
    ("line", "result"),
    [
        ("", ""),
        ("run", "run"),
        ("run build.py", "run -f build.py"),
        ("build.py", "-f build.py"),
        ("run x/y.py task", "run -f x/y.py task"),
        ("run -n 4 build.py task", "run -n 4 -f build.py task"),
        ("run build.py -n 4 -a task", "run -f build.py -n 4 -a task"),
        ("run --process 4 build.py", "run --process 4 -f build.py"),
        ("run --process=4 build.py", "run --process=4 -f build.py"),
        ("run -n4 build.py", "run -n4 -f build.py"),
        ("run -f dodo.py build.py", "run -f dodo.py build.py"),
        ("run --file=dodo.py build.py", "run --file=dodo.py build.py"),
        ("run absent.py", "run absent.py"),
        ("run task build.py", "run task build.py"),
        ("list build.py", "list -f build.py"),
        ("status build.py", "status build.py"),
        ("run -p opt=-O3 build.py", "run -f build.py opt=-O3"),
        ("run build.py -popt=-O3 task", "run -f build.py opt=-O3 task"),
        ("-f build.py list", "-f build.py list"),
        ("run -- build.py", "run -- build.py"),
    ],
)
def test_a_dodo_file_in_front_is_an_option(line: str, result: str) -> None:
    assert rewritten(line) == result


@pytest.mark.parametrize(
    "line", ["run problem.yaml", "run -a problem.yml task", "run -p opt", "run -p =3", "run build.py -p"]
)
def test_what_cannot_be_understood_is_refused(line: str) -> None:
    with pytest.raises(UsageError):
        rewritten(line)
