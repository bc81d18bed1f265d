"""Questions to the command line itself, and mistyped ones: an answer, an exit code, never a traceback."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .front_end import MAJORDOMO, run

DODO = '''
def task_good():
    """Make a file."""
    return {"actions": ["touch good.txt"], "targets": ["good.txt"]}
'''

ASKED = {
    "--help": (0, "majordomo why"),
    "-h": (0, "majordomo why"),
    "--version": (0, "majordomo 0."),
    "help": (0, "majordomo why"),
    "help run": (0, "--wait-workers"),
    "run --help": (0, "--wait-workers"),
    "why --help": (0, "--json"),
    "help task": (0, "file_dep"),
    "help good": (0, "Make a file."),
    "help nosuch": (3, "no command and no task 'nosuch'"),
    "tabcompletion": (0, "complete"),
    "tabcompletion --hardcode-tasks": (0, "good"),
    "run --nosuch": (3, "option --nosuch not recognized\n  majordomo help run"),
    "why --nosuch": (3, "option --nosuch not recognized\n  majordomo help why"),
    "run -n x": (3, "'x' is no int\n  majordomo help run"),
    "nosuch": (3, "nosuch"),
    "info nosuch": (3, "there is no task 'nosuch'\n  majordomo list --all"),
    "strace": (3, "strace needs one task"),
    "dumpdb": (3, "there is no .majordomo.db here"),
}


@pytest.mark.parametrize("line", ASKED)
def test_a_question_is_answered(line: str, tmp_path: Path) -> None:
    (tmp_path / "dodo.py").write_text(DODO)

    done = run(MAJORDOMO, *line.split(), folder=tmp_path)

    code, said = ASKED[line]
    assert done.code == code, done
    assert said in (done.err if code else done.out), done
    assert "Traceback" not in done.err + done.out
    assert "CmdOption" not in done.err


@pytest.mark.parametrize("command", ["run", "list", "why x", "help x", "forget"])
@pytest.mark.parametrize(
    ("dodo", "said"),
    [("def task_x(:\n", "SyntaxError"), ("import nosuchmodule\n", "No module named 'nosuchmodule'")],
    ids=["syntax", "import"],
)
def test_a_broken_dodo_file_is_shown_where_it_breaks(
    command: str, dodo: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "dodo.py").write_text(dodo)

    done = run(MAJORDOMO, *command.split(), folder=tmp_path)

    assert done.code == 3, done
    assert said in done.err
    assert f'{tmp_path}/dodo.py", line 1' in done.err
    assert "importlib" not in done.err


@pytest.mark.skipif(shutil.which("strace") is None, reason="there is no strace on this machine")
def test_strace_says_what_a_task_writes(tmp_path: Path) -> None:
    (tmp_path / "dodo.py").write_text(DODO)

    done = run(MAJORDOMO, "strace", "good", folder=tmp_path)

    assert done.code == 0, done
    assert f"W {tmp_path}/good.txt" in done.out
