"""Many requests, a few open at a time."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Future

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


def test_requests_are_read_only_as_far_as_they_are_asked() -> None:
    server, read = Server(hold=2), []

    def requests() -> object:
        for n in range(100):
            read.append(n)
            yield {"n": n}

    answers = in_order(server.submit, requests(), lambda: 2)  # type: ignore[arg-type]
    next(answers)

    assert len(read) <= 3
