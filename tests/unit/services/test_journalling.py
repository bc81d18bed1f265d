"""What relies on the journal waits for it, and nothing else does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from computefarm.core.commands import JournalFailed, JournalWorks, Record, Send
from computefarm.core.entries import Forgotten
from computefarm.journal.tasks import TaskJournal
from computefarm.journal.writer import BEHIND_S, Report, Synced
from computefarm.messages import Halt, Heartbeat, Run, Settled
from computefarm.services import journalling
from computefarm.services.journalling import Journalling
from computefarm.services.loop import Loop


class FakeJournal:
    """Syncs when told to."""

    def __init__(self) -> None:
        self.batches: list[tuple[list[Record], bool]] = []
        self.notes: list[str] = []
        self.entries: list[Any] = []
        self.fresh = True
        self.report: Any = None

    def start(self, report: Any) -> None:
        self.report = report

    def append(self, records: list[Record], urgent: bool) -> None:
        self.batches.append((records, urgent))

    def close(self) -> bool:
        for records, _ in self.batches:
            self.report(Synced(records[-1].number))
        return True


class Clock:
    """Stands still unless it is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A `Journalling` with its surroundings."""

    def __init__(self) -> None:
        self.journal = FakeJournal()
        self.said: list[Send] = []
        self.learned: list[Any] = []
        self.clock = Clock()
        self.loop = Loop(self.clock)
        self.it = Journalling(
            cast(TaskJournal, self.journal), say=self.said.append, learn=self.learned.append
        )
        self.it.attach(self.loop)

    def record(self, number: int, urgent: bool = False) -> None:
        self.it.record(Record(number, Forgotten((number,)), urgent))

    def tell(self, report: Report) -> None:
        self.journal.report(report)
        self.loop.turn()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.it.close(made.loop)


RUN = Send("worker-1", Run(1, 1, "t", b""))
HALT = Send("worker-1", Halt(1, 1))
PROMISE = Send("client-1", Heartbeat(), after=2)


def test_what_somebody_waits_for_is_handed_over_at_once_with_all_before_it(bench: Bench) -> None:
    bench.record(1)
    bench.it.flush()
    assert bench.journal.batches == []
    bench.record(2, urgent=True)
    bench.it.flush()
    bench.it.flush()
    assert [([r.number for r in records], urgent) for records, urgent in bench.journal.batches] == [
        ([1, 2], True),
    ]
    assert bench.it.next_deadline() == float("inf")


def test_what_nobody_waits_for_is_handed_over_after_a_moment(bench: Bench) -> None:
    bench.record(1)
    bench.it.flush()
    began = bench.loop.clock()
    assert bench.it.next_deadline() == pytest.approx(began + BEHIND_S, abs=0.02)
    bench.clock.now += BEHIND_S / 2
    bench.record(2)
    bench.it.flush()
    assert bench.journal.batches == []
    bench.clock.now += BEHIND_S / 2
    bench.it.flush()
    assert [r.number for r in bench.journal.batches[0][0]] == [1, 2]


def test_a_promise_waits_for_its_record(bench: Bench) -> None:
    bench.record(1)
    bench.record(2, urgent=True)
    assert bench.it.hold(PROMISE)
    assert not bench.it.hold(Send("client-1", Heartbeat()))
    bench.tell(Synced(1))
    assert bench.said == []
    bench.tell(Synced(2))
    assert bench.said == [PROMISE]
    assert not bench.it.hold(PROMISE)
    assert bench.it.held == 0


def test_an_attempt_is_started_only_when_that_is_written_down(bench: Bench) -> None:
    bench.record(1)
    assert bench.it.hold(RUN)
    bench.it.flush()
    assert bench.journal.batches[-1][1], "somebody waits for it"
    bench.record(2)
    assert bench.it.hold(HALT), "it must not overtake what it halts"
    bench.tell(Synced(2))
    assert bench.said == [RUN, HALT]


def test_a_halt_hurries_what_it_waits_for(bench: Bench) -> None:
    bench.record(1)
    bench.it.flush()
    assert bench.it.hold(HALT)
    bench.it.flush()
    assert bench.journal.batches == [([Record(1, Forgotten((1,)))], True)]
    assert bench.it.hold(RUN), "on its way to the disk is not there"
    bench.it.flush()
    assert len(bench.journal.batches) == 1, "the journal's thread is not woken for nothing"
    bench.tell(Synced(1))
    assert bench.said == [HALT, RUN]


def test_a_disk_that_fails_stops_no_attempt_but_every_promise(bench: Bench) -> None:
    bench.record(1)
    bench.record(2, urgent=True)
    assert bench.it.hold(RUN)
    assert bench.it.hold(PROMISE)
    bench.tell(JournalFailed("full"))
    assert bench.learned == [JournalFailed("full")]
    assert bench.said == [RUN]
    assert not bench.it.hold(RUN)
    bench.tell(Synced(2))
    bench.tell(JournalWorks())
    assert bench.said == [RUN, PROMISE]
    assert bench.learned[-1] == JournalWorks()


def test_what_waits_for_a_peer_that_connects_anew_is_void(bench: Bench) -> None:
    bench.record(1)
    bench.record(2, urgent=True)
    bench.it.hold(RUN)
    bench.it.hold(PROMISE)
    bench.it.forget("worker-1")
    assert bench.it.held == 1
    bench.tell(Synced(2))
    assert bench.said == [PROMISE]


def test_repetitions_do_not_pile_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journalling, "MOST", 10)
    bench.record(1, urgent=True)
    bench.tell(JournalFailed("full"))
    for _ in range(1000):
        assert bench.it.hold(Send("worker-1", Settled(((1, 1),)), after=1))
    assert bench.it.held == 10
    assert bench.it.hold(Send("client-1", Heartbeat(), after=1)), "promises are never left out"
    assert bench.it.held == 11


def test_at_the_end_everything_is_written_and_said() -> None:
    bench = Bench()
    bench.record(1)
    bench.record(2, urgent=True)
    bench.it.hold(PROMISE)
    bench.it.close(bench.loop)
    assert bench.said == [PROMISE]
