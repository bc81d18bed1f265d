"""An owner's policy: what it says when, and what is wrong with a file."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import pytest

from computefarm.errors import UsageError
from computefarm.host.policy import EXAMPLE, Policy, PolicyFile, parse

FRIDAY = datetime(2026, 11, 20)


def at(text: str, day: int = 20) -> datetime:
    hour, minute = text.split(":")
    return FRIDAY.replace(day=day, hour=int(hour), minute=int(minute))


@pytest.mark.parametrize(
    ("hours", "free", "held"),
    [
        ('["19:00-07:00"]', [at("19:00"), at("23:59"), at("00:00"), at("06:59")], [at("07:00"), at("18:59")]),
        ('["sat"]', [at("00:00", 21), at("23:59", 21)], [at("23:59"), at("00:00", 22)]),
        ('["Fri 22:00-02:00"]', [at("22:00"), at("01:59", 21)], [at("01:00"), at("02:00", 21), at("22:00", 21)]),
        ('["9:00 - 12:00", "sun"]', [at("9:00"), at("17:00", 22)], [at("12:00"), at("8:59")]),
        ('["18:00-24:00"]', [at("23:59")], [at("00:00")]),
        ("[]", [at("12:00")], []),
    ],
)
def test_hours(hours: str, free: list[datetime], held: list[datetime]) -> None:
    policy = parse(f"hours = {hours}", "p.toml")
    assert [policy.holds(when, 0, on_battery=False) for when in free] == [""] * len(free)
    for when in held:
        assert policy.holds(when, 0, on_battery=False).startswith("its owner lends it only ")


def test_users_and_battery() -> None:
    assert Policy().holds(FRIDAY, 3, on_battery=True) == ""
    policy = parse("users = false\nbattery = false\nmax-load = 0.5", "p.toml")
    assert policy.max_load == 0.5
    assert policy.holds(FRIDAY, 1, on_battery=False) == "its owner is using it"
    assert policy.holds(FRIDAY, 0, on_battery=True) == "it runs on battery"
    assert policy.holds(FRIDAY, 0, on_battery=False) == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hours = [", "p.toml: "),
        ("hour = []", "unknown key 'hour', expected one of max-load, hours, users, battery; did you mean `hours`?"),
        ('hours = "sat"', "hours: a list"),
        ('hours = ["25:00-26:00"]', "'25:00-26:00' is no span"),
        ('hours = ["08:00-08:00"]', "is no span"),
        ('hours = ["08:60-09:00"]', "is no span"),
        ('hours = ["sam"]', "'sam' is no span"),
        ('hours = [""]', "is no span"),
        ("max-load = 0", "a load per core above 0"),
        ("max-load = nan", "a load per core above 0"),
        ("max-load = true", "a load per core above 0"),
        ('users = "no"', "users: true or false was expected, got 'no'"),
    ],
)
def test_what_is_wrong(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text, "p.toml")
    assert words in str(caught.value)


def test_a_file_is_read_again_and_a_wrong_one_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "policy.toml"
    with pytest.raises(UsageError, match="no such file"):
        PolicyFile(path, required=True)
    followed = PolicyFile(path, required=False)
    assert followed.current() == Policy()
    path.write_text(EXAMPLE)
    assert len(followed.current().hours) == 3
    path.write_text("hours = 1")
    assert len(followed.current().hours) == 3
    assert "what it said before still holds" in caplog.text
    caplog.clear()
    assert len(followed.current().hours) == 3
    assert caplog.text == "", "said once"
    os.unlink(path)
    assert followed.current() == Policy()
