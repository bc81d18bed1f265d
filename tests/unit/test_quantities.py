from __future__ import annotations

import pytest

from computefarm.quantities import parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("17", 17),
        ("17B", 17),
        ("512MiB", 512 * 1024**2),
        ("512M", 512 * 1024**2),
        ("512 MB", 512 * 1000**2),
        ("1.5GiB", 3 * 1024**3 // 2),
        ("2tib", 2 * 1024**4),
        ("9007199254740993", 9007199254740993),
        (4096, 4096),
    ],
)
def test_sizes(text: str | int | float, expected: int) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("250ms", 0.25),
        ("90", 90.0),
        ("90s", 90.0),
        ("10m", 600.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        ("2d", 172800.0),
        ("1.5h", 5400.0),
        (3, 3.0),
        (0.5, 0.5),
    ],
)
def test_durations(text: str | int | float, expected: float) -> None:
    assert parse_duration(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text",
    ["", " ", "MiB", "-1", "1 2", "1XiB", "1.2.3MB", "1e9", "ten", "1MiB2", True, -1, "٣"],
)
def test_what_is_not_a_size(text: str | int | float) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(text)


@pytest.mark.parametrize(
    "text", ["", " ", "m", "-1s", "1h30", "1y", "10 minutes", "1:30", True, -0.1, float("nan"), float("inf")]
)
def test_what_is_not_a_duration(text: str | int | float) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)
