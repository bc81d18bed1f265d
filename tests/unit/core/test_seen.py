"""What was seen is not news again, as far back as is remembered."""

from __future__ import annotations

from computefarm.core.seen import REMEMBERED, Seen


def test_an_attempt_is_new_once() -> None:
    seen = Seen()

    assert [seen.add(1, 1, "e"), seen.add(1, 1, "e"), seen.add(1, 2, "e"), seen.add(1, 1, "f")] == [
        True,
        False,
        True,
        True,
    ]


def test_only_the_last_are_remembered() -> None:
    seen = Seen()
    for key in range(REMEMBERED + 1):
        seen.add(key, 1, "e")

    assert not seen.add(REMEMBERED, 1, "e")
    assert seen.add(0, 1, "e")


def test_all_can_be_forgotten() -> None:
    seen = Seen()
    seen.add(1, 1, "e")

    seen.clear()

    assert seen.add(1, 1, "e")
