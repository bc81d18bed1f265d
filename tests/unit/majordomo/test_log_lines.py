"""Lines are taken as long as somebody wants them, whether any come or not."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from computefarm.errors import Unreachable
from computefarm.logs.records import Record
from computefarm.majordomo.log_lines import while_wanted


def lines(count: int) -> Iterator[Record]:
    for number in range(count):
        yield {"seq": number}


def test_all_of_them_in_order() -> None:
    assert [record["seq"] for record in while_wanted(lines(3000), lambda: True)] == list(range(3000))


def test_it_ends_when_nobody_wants_more_although_nothing_comes() -> None:
    never = threading.Event()

    def silent() -> Iterator[Record]:
        yield {"seq": 0}
        never.wait()

    answers = iter([True, True, False])
    assert list(while_wanted(silent(), lambda: next(answers))) == [{"seq": 0}]
    never.set()


def test_what_goes_wrong_with_the_source_is_raised_here() -> None:
    def broken() -> Iterator[Record]:
        yield {"seq": 0}
        raise Unreachable("it is gone")

    with pytest.raises(Unreachable, match="it is gone"):
        list(while_wanted(broken(), lambda: True))
