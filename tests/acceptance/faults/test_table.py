"""The table of faults is complete: 25 rows, each with tests that exist, and no test of a fault is missing in it."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[2] / "docs/explanation/faults.md"
ROW = re.compile(r"^\| (\d+) \|(.*)\|$", re.MULTILINE)
TEST = re.compile(r"`(\S+\.py)::(\w+)`")


def test_every_row_has_tests_and_every_test_a_row() -> None:
    rows = {int(number): TEST.findall(text) for number, text in ROW.findall(PAGE.read_text())}
    assert sorted(rows) == list(range(1, 26))
    for number, tests in rows.items():
        assert any(name.startswith(f"test_{number:02}_") for _, name in tests), number
        for file, name in tests:
            assert f"\ndef {name}(" in (HERE / file).read_text(), f"row {number}: {file}::{name}"
    listed = {name for tests in rows.values() for _, name in tests}
    there = {
        name
        for path in HERE.glob("test_*.py")
        for name in re.findall(r"^def (test_\d\w+)\(", path.read_text(), re.MULTILINE)
    }
    assert there - listed == set()
