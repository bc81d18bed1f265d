"""Run each test file as a task of its own, on whichever worker is free."""

from __future__ import annotations

from pathlib import Path

from computefarm import farm


def task_test():
    for tests in sorted(Path("tests").glob("test_*.py")):
        yield {
            "name": tests.stem,
            **farm.action(
                "pytest",
                "test",
                tests=[tests],
                report=f"reports/{tests.stem}.xml",
                inputs=["numerals.py", "conftest.py"],
            ),
        }
