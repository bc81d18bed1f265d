"""What is kept for a client that does not take its results is bounded."""

from __future__ import annotations

from computefarm.core.state import Session
from computefarm.core.untaken import ALL_LOGS, SESSION_LOGS, Untaken
from computefarm.messages import Done, Outcome, Piece, Result, Run
from computefarm.testing.farm import Farm
from computefarm.testing.invariants import check

LOUD = 1 << 16


def loud(task: int = 1) -> Done:
    log = (Piece(1, 5.0, "x" * (LOUD // 2)), Piece(2, 6.0, "y" * (LOUD // 2)))
    return Done("s1", task, Result(Outcome.SUCCEEDED, exit_code=0, log=log))


def test_a_result_is_kept_as_it_is_while_there_is_room() -> None:
    untaken, session = Untaken(), Session("s1", "", "")

    assert untaken.keep(session, loud()) == loud()
    assert session.logs == untaken.logs == LOUD


def test_a_session_keeps_so_much_and_no_more() -> None:
    untaken, session = Untaken(), Session("s1", "", "")
    kept = [untaken.keep(session, loud(n)) for n in range(1000)]

    assert session.logs <= SESSION_LOGS + 1000 * 200
    assert kept[0] == loud(0)
    assert [piece.text for piece in kept[-1].result.log] == [
        "[65,536 characters of output were not kept: too many results waited for their client]\n"
    ]
    for done in kept:
        untaken.forget(session, done)
    assert session.logs == untaken.logs == 0


def test_many_sessions_together_keep_so_much_and_no_more() -> None:
    untaken = Untaken()
    for n in range(100):
        session = Session(f"s{n}", "", "")
        for _ in range(20):
            untaken.keep(session, loud())

    assert untaken.logs <= ALL_LOGS + 2000 * 200


def test_who_is_there_hears_the_log_and_who_comes_late_that_it_was_cut() -> None:
    farm = Farm(journalled=True).client().worker(slots=2).submit(*range(1, 301))
    told = []
    for number in range(1, 301):
        for run in farm.told("w1", Run):
            farm.finish(run, loud(number).result)
        told += farm.told("c1", Done)
    assert len(told) == 300
    assert all(len(done.result.log) == 2 for done in told)

    farm.restart().client().submit(*range(1, 301))
    later = farm.told("c1", Done)

    assert len(later) == 300
    assert 0 < sum(len(done.result.log) == 2 for done in later) <= SESSION_LOGS // LOUD
    check(farm.manager)
