"""A run that was killed and is started again goes on with what the killed one had under way."""

from __future__ import annotations

import pytest

from computefarm.core.commands import Gone
from computefarm.messages import Cancel, Done, FileEntry, Halt, Outcome, Run, Submit
from computefarm.testing.farm import SHELL, Farm, failure, spec, success
from computefarm.testing.invariants import check

OUT = bytes([9]) * 32
ONE = spec(1, "one", write_cache=False)


def killed(*, owner: str = "me", lease_s: float = 0.0) -> tuple[Farm, Run]:
    """Return a farm with a running task whose client was killed."""
    farm = Farm(journalled=True).client(owner=owner).worker(slots=2)
    farm.say("c1", Submit("s1", (SHELL,), (ONE,), lease_s))
    run = farm.run()
    return farm.learn(Gone("c1")), run


def again(farm: Farm, owner: str = "me", **fields: object) -> Farm:
    """Let the successor submit the same, under a number of its own."""
    farm.client("c2", owner=owner)
    return farm.submit(spec(7, "one", write_cache=False, **fields), session="s2", client="c2")


def test_what_still_runs_is_not_run_again() -> None:
    farm, run = killed()
    again(farm)
    assert farm.told("w1", Run) == []

    farm.finish(run)

    assert farm.done("c2").result.outcome is Outcome.SUCCEEDED
    check(farm.manager)


def test_what_still_runs_goes_on_when_the_killed_clients_lease_ends() -> None:
    farm, run = killed()
    again(farm)
    for second in range(1, 40):
        farm.at(float(second)).alive("w1", "c2")
    assert farm.told("w1", Halt) == []

    farm.finish(run)

    assert farm.done("c2").result.outcome is Outcome.SUCCEEDED
    check(farm.manager)


def test_what_succeeded_meanwhile_is_not_run_again() -> None:
    farm, run = killed()
    farm.arrive(OUT).finish(run, success(FileEntry("o", OUT, 1)))
    again(farm)

    assert farm.told("w1", Run) == []
    assert farm.done("c2").result.outputs[0].digest == OUT
    check(farm.manager)


def test_what_failed_meanwhile_is_tried_again() -> None:
    farm, run = killed()
    farm.finish(run, failure())

    assert again(farm).run().name == "one"


def test_what_succeeded_but_whose_outputs_are_gone_is_run_again() -> None:
    farm, run = killed()
    farm.arrive(OUT).finish(run, success(FileEntry("o", OUT, 1)))
    farm.blobs.clear()

    assert again(farm).run().name == "one"


@pytest.mark.parametrize("other", [{"owner": "you"}, {"action": spec(1, "two").action}])
def test_what_is_anothers_or_something_else_is_left_alone(other: dict[str, object]) -> None:
    farm, _ = killed()

    assert again(farm, **other).run().name == "one"  # type: ignore[arg-type]


def test_what_a_present_client_runs_is_its_own() -> None:
    farm, _ = killed()
    farm.client("c1", owner="me").submit(ONE)

    assert again(farm).run().name == "one"


def test_what_was_submitted_to_be_left_alone_is_left_alone() -> None:
    farm, _ = killed(lease_s=3600.0)

    assert again(farm).run().name == "one"


def test_what_was_cancelled_is_not_taken_over() -> None:
    farm, _ = killed()
    farm.client("c1", owner="me").say("c1", Cancel("s1")).learn(Gone("c1"))

    assert again(farm).run().name == "one"


def test_the_killed_clients_session_still_ends_in_order() -> None:
    farm, run = killed()
    again(farm).finish(run)
    for second in range(1, 40):
        farm.at(float(second)).alive("w1", "c2")

    assert "s1" not in farm.manager._tables.sessions
    assert len(farm.told("c2", Done)) == 1
    check(farm.manager)
