"""How often an engine is run, with engines made for the purpose."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PASSES = Path(__file__).parents[2] / "workers/latex/passes.py"


def typeset(folder: Path, engine: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run passes.py with a shell script as the engine; it counts its runs in `runs`."""
    program = folder / "engine"
    program.write_text(f"#!/bin/sh\necho x >> runs\nn=$(wc -l < runs)\necho pass $n\n{engine}\n")
    program.chmod(0o755)
    return subprocess.run(
        [sys.executable, "-I", "-S", PASSES, "./engine", *words, "a.tex"],
        cwd=folder, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("engine", "passes"),
    [
        ("printf '%s\\n' '\\relax ' > a.aux", 1),
        ("printf '%s\\n' '\\@writefile{toc}{x}' > a.aux", 2),
        ("[ $n -gt 3 ] || echo $n >> a.toc; printf '%s\\n' '\\relax' > a.aux", 4),
        ("date > a.log; echo $n > a.pdf; printf '%s\\n' '\\relax' > a.aux; echo t > a.out", 2),
    ],
)
def test_as_often_as_something_changes(engine: str, passes: int, tmp_path: Path) -> None:
    done = typeset(tmp_path, engine)
    assert (done.returncode, done.stderr) == (0, "")
    # Only the last pass is shown: what the earlier ones miss is no news.
    word = "pass" if passes == 1 else "passes"
    assert done.stdout == f"pass {passes}\nstable after {passes} {word}\n"


def test_a_document_that_goes_in_a_circle_is_a_failure(tmp_path: Path) -> None:
    done = typeset(tmp_path, "echo $n > a.toc")
    assert done.returncode == 1
    assert "still changing after 6 passes: a.toc" in done.stderr


def test_an_engine_that_fails_is_run_no_more(tmp_path: Path) -> None:
    done = typeset(tmp_path, "echo bad >&2; exit 3")
    assert (done.returncode, done.stdout) == (3, "pass 1\nbad\n")
    assert (tmp_path / "runs").read_text() == "x\n"


def test_files_are_looked_for_where_the_engine_writes_them(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    done = typeset(
        tmp_path,
        "printf '%s\\n' '\\@x' > out/other.aux; printf '%s\\n' '\\relax' > a.aux",
        "-output-directory=out",
        "-jobname",
        "other",
    )
    assert "stable after 2 passes" in done.stdout


def test_a_helper_that_is_not_installed_is_named(tmp_path: Path) -> None:
    done = typeset(tmp_path, "touch a.bcf; printf '%s\\n' '\\x' > a.aux; PATH=")
    if "biber" not in done.stderr:
        pytest.skip("NOT TESTED: biber is installed")
    assert done.returncode == 127
    assert "biber is needed and is not installed here" in done.stderr
