from __future__ import annotations

from computefarm.core.ledger import Ledger


def test_what_was_sent_after_the_report_is_added_to_it() -> None:
    ledger = Ledger()
    ledger.report(foreign=0.25, ours=0.0)
    ledger.charge(1.0, 0)

    assert ledger.projected(4) == 0.5


def test_what_the_report_has_seen_is_not_counted_twice() -> None:
    ledger = Ledger()
    ledger.charge(1.0, 0)
    ledger.report(foreign=0.25, ours=0.2)

    assert ledger.projected(4) == 0.45


def test_our_share_shrinks_as_the_attempts_in_it_end() -> None:
    ledger = Ledger()
    first, second = ledger.charge(1.0, 0), ledger.charge(1.0, 0)
    ledger.report(foreign=0.25, ours=0.5)

    ledger.release(first)
    assert ledger.projected(4) == 0.5
    ledger.release(second)
    assert ledger.projected(4) == 0.25


def test_nothing_stays_reserved_for_nobody() -> None:
    ledger = Ledger()
    charges = [ledger.charge(0.1, 100) for _ in range(10)]
    ledger.report(0.0, 0.3)
    charges += [ledger.charge(0.7, 100) for _ in range(10)]

    for charge in charges:
        ledger.release(charge)

    assert ledger.projected(1) == 0.0
    assert (ledger.memory, ledger.memory_since) == (0, 0)


def test_memory_counts_against_the_last_report_only_when_sent_after_it() -> None:
    ledger = Ledger()
    early = ledger.charge(1.0, 100)
    ledger.report(0.0, 0.0)
    ledger.charge(1.0, 30)
    ledger.release(early)

    assert (ledger.memory, ledger.memory_since) == (30, 30)
