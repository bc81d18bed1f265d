"""The plug-in of docs/how-to/write-a-worker.md, copied from the page as a stranger would, works."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs/how-to/write-a-worker.md"
FILE = re.compile(r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def project(machine: Any, tmp_path: Path) -> Path:
    """The page's files, and its package installed where only this machine looks."""
    folder = tmp_path / "project"
    for name, text in FILE.findall(PAGE.read_text(encoding="utf-8")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    installed = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        [*pip, "--disable-pip-version-check", "--target", installed, folder / "sqlworker"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    machine.environ["PYTHONPATH"] = str(installed)
    return folder


def test_the_plug_in_of_the_page(machine: Any, project: Path) -> None:
    assert len((project / "sqlworker/sqlworker.py").read_text().splitlines()) <= 32
    capabilities = machine.home / "config/capabilities"
    capabilities.mkdir(parents=True, mode=0o700)
    (capabilities / "sql.yaml").write_text((project / "capabilities/sql.yaml").read_text())
    done = machine.call("cf-worker", "--probe", "--capability", "sql", cwd=project)
    assert done.stdout.startswith("sql: 3.")
    assert "actions: build\n" in done.stdout

    assert ".  library:books" in machine.majordomo("run", "problem.yaml", cwd=project)
    with sqlite3.connect(project / "books.db") as connection:
        assert connection.execute("SELECT title FROM books").fetchall() == [("The TeXbook",)]
    connection.close()

    (project / "books.sql").write_text("CREATE TABEL books;\n")
    assert "books.sql: error: near" in machine.majordomo("run", "problem.yaml", cwd=project, code=1)
    # What it cannot do is the task's failure, in the plug-in's words.
    (project / "problem.yaml").write_text("problem: x\ntasks:\n  a: {capability: sql, run: 'echo hello'}\n")
    assert "expected [sql, SCRIPT, DATABASE]" in machine.majordomo("run", "problem.yaml", cwd=project, code=1)


def test_the_test_of_the_page(machine: Any, project: Path) -> None:
    done = machine.call(
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "test_sqlworker.py",
        cwd=project / "sqlworker",
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
