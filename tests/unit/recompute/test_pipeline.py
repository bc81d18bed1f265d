"""Many requests, a few open at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future

import pytest

from computefarm.recompute import pipeline
from computefarm.recompute.pipeline import in_order
from computefarm.recompute.requests import Answer


class Server:
    """Answers what is open, the newest first, from another thread."""

    def __init__(self, hold: int) -> None:
        self.open: list[tuple[int, Future[Answer]]] = []
        self.most = 0
        self._hold = hold
        self._lock = threading.Lock()

    def submit(self, request: Mapping[str, object]) -> Future[Answer]:
        future: Future[Answer] = Future()
        with self._lock:
            self.open.append((int(str(request["n"])), future))
            self.most = max(self.most, len(self.open))
            full = len(self.open) >= self._hold
        if full:
            threading.Thread(target=self.answer).start()
        return future

    def answer(self) -> None:
        with self._lock:
            taken, self.open = self.open, []
        for number, future in reversed(taken):
            future.set_result(Answer(id=bytes([number]), status="ok"))


def test_answers_come_in_the_order_of_the_requests_however_they_are_given() -> None:
    server = Server(hold=4)

    found = [answer.id[0] for answer in in_order(server.submit, ({"n": n} for n in range(40)), lambda: 4)]

    assert found == list(range(40))
    assert server.most == 4


def test_more_are_asked_as_soon_as_more_is_granted() -> None:
    server, limit = Server(hold=3), 1

    def granted() -> int:
        return limit

    threading.Timer(0.02, lambda: grow()).start()

    def grow() -> None:
        nonlocal limit
        limit = 3

    assert [answer.id[0] for answer in in_order(server.submit, ({"n": n} for n in range(6)), granted)] == [
        *range(6)
    ]
    assert server.most == 3


def test_an_answer_does_not_wait_for_the_request_after_it() -> None:
    server, more = Server(hold=1), threading.Event()

    def requests() -> Iterator[Mapping[str, object]]:
        yield {"n": 0}
        assert more.wait(10)
        yield {"n": 1}

    answers = in_order(server.submit, requests(), lambda: 4)

    assert next(answers).id == b"\0"
    more.set()
    assert [answer.id for answer in answers] == [b"\1"]


def test_requests_are_read_only_so_far_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "WINDOW", 4)
    server, read = Server(hold=1), []

    def requests() -> Iterator[Mapping[str, object]]:
        for n in range(100):
            read.append(n)
            yield {"n": n}

    for number, answer in enumerate(in_order(server.submit, requests(), lambda: 2)):
        assert answer.id[0] == number
        assert len(read) <= number + 1 + 4 + 1


def test_what_goes_wrong_in_reading_is_raised_after_the_answers_before_it() -> None:
    server = Server(hold=1)

    def requests() -> Iterator[Mapping[str, object]]:
        yield {"n": 5}
        raise OSError("the disk is gone")

    answers = in_order(server.submit, requests(), lambda: 2)

    assert next(answers).id == b"\5"
    with pytest.raises(OSError, match="disk is gone"):
        next(answers)
