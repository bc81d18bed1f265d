"""The smallest example, as its text promises."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

EXAMPLE = Path(__file__).parents[2] / "examples" / "hello"


def test_hello(machine: Any, tmp_path: Path) -> None:
    folder = tmp_path / "hello"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("shout.txt", ".*db*"))

    assert "HELLO FROM A FARM OF ONE" in machine.majordomo("run", cwd=folder)
    second = machine.majordomo("run", cwd=folder)
    assert "-- shout\n-- show\n" in second
    assert "2 tasks: 0 run, 0 from cache, 2 up to date, 0 failed" in second
    assert machine.majordomo("why", "shout", cwd=folder).startswith("shout: up-to-date\n")

    done = machine.call("doit", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
