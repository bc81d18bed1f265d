from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from computefarm.quantities import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512MiB", 512 << 20), ("20GiB", 20 << 30), ("20 GB", 20 * 10**9), ("1.5g", 3 << 29), ("1K", 1024),
        ("0", 0), ("123", 123), (123, 123), (" 2tib ", 2 << 40), ("7b", 7),
    ],
)  # fmt: skip
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "12 apples", "-1", -1, "1e9", "1,5G", "١٢", True, "0x10", "1 2"])
def test_not_a_size(text: str | int) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90), ("10m", 600), ("1h30m", 5400), ("1h 30m", 5400), ("500ms", 0.5), ("2d", 172800), ("1.5s", 1.5),
        ("1m500ms", 60.5), (60, 60), (0.25, 0.25), ("0", 0),
    ],
)  # fmt: skip
def test_durations(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", "m", "10 minutes", "-5", "1h30", "30m1h", "5m5m", "nan", "inf", float("inf"), -1.0, True, "1h30m!"],
)
def test_not_a_duration(text: str | float) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@given(st.text())
def test_any_text_is_read_or_refused_with_value_error(text: str) -> None:
    for parse in (parse_size, parse_duration):
        try:
            value = parse(text)
        except ValueError:
            continue
        assert value >= 0


def test_for_people() -> None:
    assert [format_size(n) for n in (0, 1023, 1024, 1536, 20 << 30)] == [
        "0 B",
        "1023 B",
        "1 KiB",
        "1.5 KiB",
        "20 GiB",
    ]
    assert [format_duration(s) for s in (0.44, 12, 200, 7500, 273600)] == [
        "0.4s",
        "12s",
        "3m20s",
        "2h05m",
        "3d04h",
    ]
