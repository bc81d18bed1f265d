from __future__ import annotations

from computefarm.core.commands import Gone
from computefarm.messages import Cancel, FileEntry, Want
from computefarm.testing.farm import Farm, action, spec

A = b"a" * 32


def needing(number: int) -> object:
    return spec(number, action=action(str(number), inputs=(FileEntry("a", A, 1),)))


def test_another_client_is_asked_when_the_first_has_gone() -> None:
    farm = Farm().client("c1").client("c2").submit(needing(1)).submit(needing(2), session="s2", client="c2")
    assert farm.told("c2", Want) == []

    farm.learn(Gone("c1"))

    assert farm.told("c2", Want) == [Want((A,))]


def test_another_client_is_asked_when_the_first_no_longer_needs_it() -> None:
    farm = Farm().client("c1").client("c2").submit(needing(1)).submit(needing(2), session="s2", client="c2")

    farm.say("c1", Cancel("s1"))

    assert farm.told("c2", Want) == [Want((A,))]


def test_nothing_is_wanted_for_nobody() -> None:
    farm = Farm().client().submit(needing(1)).say("c1", Cancel("s1"))

    assert farm.manager._wants._wanted == {}


def test_the_same_content_under_two_names_is_one_blob() -> None:
    files = (FileEntry("a", A, 1), FileEntry("b", A, 1))
    farm = Farm().client().worker().submit(spec(1, action=action(inputs=files)))
    assert farm.told("c1", Want) == [Want((A,))]

    farm.arrive(A)
    assert farm.run().name == "t1"
