from __future__ import annotations

import itertools

import pytest

from computefarm.core.state import LEGAL, Host, Kind, Queue, Session, Task, TaskState
from computefarm.messages import LoadReport, Need


def task() -> Task:
    return Task(
        1, 1, "t", Session("s", "", "c"), Queue(1, Need("shell")), Kind(""), b"", b"", 0.0, 0, True, True, True, 0.0
    )


def test_only_legal_moves_are_made() -> None:
    for before, after in itertools.product(TaskState, TaskState):
        entry = task()
        entry.state = before
        if (before, after) in LEGAL:
            entry.move(after)
            assert entry.state is after
        else:
            with pytest.raises(AssertionError):
                entry.move(after)


def test_nothing_comes_back_from_the_end() -> None:
    assert not [move for move in LEGAL if move[0] is TaskState.ENDED]


def test_a_host_is_stale_after_three_intervals_of_silence() -> None:
    host = Host("h", "h")
    assert not host.stale(1000.0)

    host.report = LoadReport("h", "h", 0.1, 4, 0, 0, interval_s=2.0)
    host.reported_at = 10.0

    assert not host.stale(16.0)
    assert host.stale(16.1)
