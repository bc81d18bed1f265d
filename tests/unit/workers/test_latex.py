"""The LaTeX plug-in wraps engines and leaves everything else alone."""

from __future__ import annotations

import sys
from pathlib import Path

from computefarm.worker_api import registry
from computefarm.worker_api.contract import Action, TaskContext


def test_only_engines_are_run_until_nothing_changes() -> None:
    action = Action("latex", (("pdflatex", "-halt-on-error", "a.tex"), ("cp", "a", "b"), "echo done"))
    engine, copy, script = registry.find("latex").commands(action, TaskContext("/nowhere"))
    assert engine[:3] == (sys.executable, "-I", "-S")
    assert Path(engine[3]).name == "passes.py"
    assert Path(engine[3]).is_file()
    assert engine[4:] == action.commands[0]
    assert copy == ("cp", "a", "b")
    assert script == ("/bin/sh", "-e", "-c", "echo done")
