"""What a daemon logs, on its way to the farm's log."""

from __future__ import annotations

import logging

from computefarm.messages import LogRecord
from computefarm.services.clock import FarmClock
from computefarm.services.own_records import KEPT, RATE, OwnRecords, record_of


def logger_with(handler: logging.Handler) -> logging.Logger:
    logger = logging.Logger("test")
    logger.addHandler(handler)
    return logger


def test_records_are_taken_once_with_their_level_and_text() -> None:
    own = OwnRecords()
    logger = logger_with(own)
    assert not own
    logger.warning("disk %s is %d %% full", "/", 99)
    logger.debug("not this")
    assert own
    (taken,) = own.take(0.0, FarmClock())
    assert (taken.level, taken.text) == ("warning", "disk / is 99 % full")
    assert own.take(0.0, FarmClock()) == ()


def test_the_time_is_the_farms() -> None:
    clock = FarmClock(lambda: 50.0, lambda: 1000.0)
    clock.answered(50.0, 4600.0)
    own = OwnRecords()
    record = logging.LogRecord("x", logging.INFO, "", 0, "text", (), None)
    record.created = 1000.0
    own.emit(record)
    assert own.take(0.0, clock)[0].created_at == 4600.0


def test_too_many_are_left_out_and_counted_and_the_rest_is_slowed() -> None:
    own = OwnRecords()
    logger = logger_with(own)
    for n in range(3 * KEPT):
        logger.info("line %d", n)
    taken: list[LogRecord] = []
    now = 0.0
    while own and now < 100:
        taken += own.take(now, FarmClock())
    assert taken[-1].text == "line 999" or "2000 records are missing" in " ".join(r.text for r in taken)
    assert len(taken) <= KEPT + 1
    for n in range(KEPT):
        logger.info("more %d", n)
    assert len(own.take(1.0, FarmClock())) <= RATE + 1


def test_a_wrong_format_and_an_exception_end_nothing() -> None:
    wrong = logging.LogRecord("x", logging.ERROR, "", 0, "%d", ("a",), None)
    assert record_of(wrong, 0.0).text == "%d"
    error = ValueError("bad")
    raised = logging.LogRecord("x", logging.ERROR, "", 0, "oh", (), (ValueError, error, None))
    assert record_of(raised, 0.0).text == "oh: ValueError: bad"
