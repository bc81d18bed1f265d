from __future__ import annotations

import pytest

from computefarm.core.versions import parse_constraint, satisfies


@pytest.mark.parametrize(
    ("version", "constraint", "answer"),
    [
        ("12.2.0", "", True),
        ("12.2.0", ">=9", True),
        ("8.5", ">=9", False),
        ("9", ">=9.0", True),
        ("10.1", ">9", True),
        ("9.0", ">9", False),
        ("12.2.0", "==12", True),
        ("12.2.0", "==12.2.0", True),
        ("12.20", "==12.2", False),
        ("12.2", "==12.2.0", True),
        ("12.2.0", "!=12", False),
        ("13.1", "!=12", True),
        ("12.2.0", ">=9,<13", True),
        ("13.0", ">=9, <13", False),
        ("9.0rc1", ">=9", False),
        ("9.0rc1", "<9.0", True),
        ("3.11.7", "3.11", True),
        ("", ">=9", False),
        ("unknown", "", True),
        ("10.2.1-6", "<=10.2.1", False),
    ],
)
def test_satisfies(version: str, constraint: str, answer: bool) -> None:
    assert satisfies(version, constraint) is answer


@pytest.mark.parametrize("text", [">=", "abc", ">=9,", "~9", ">=9 <13", ","])
def test_a_bad_constraint_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not a version constraint"):
        parse_constraint(text)
