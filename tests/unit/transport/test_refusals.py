from __future__ import annotations

from computefarm.transport.refusals import LIMIT, Refusal, Refusals


def test_equal_refusals_are_counted_together() -> None:
    found = Refusals()
    for _ in range(3):
        found.add("192.0.2.7", "", "", "unknown key")

    assert found.take() == [Refusal("192.0.2.7", "", "", "unknown key", count=3)]
    assert found.take() == []


def test_flood_is_bounded_and_counted() -> None:
    found = Refusals()
    for number in range(LIMIT + 50):
        found.add(f"10.0.0.{number}", "", "", "x")

    taken = found.take()

    assert len(taken) == LIMIT + 1
    assert taken[-1].count == 50


def test_text_names_who_where_and_why() -> None:
    text = str(Refusal("192.0.2.7", "abc", "lab7", "its key was revoked", count=2))

    assert text == "refused lab7 (key abc) at 192.0.2.7: its key was revoked (2 times)"
