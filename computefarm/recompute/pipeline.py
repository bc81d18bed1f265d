"""Many requests, a few at a time, their answers in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future

from .requests import Answer

WINDOW = 512
"""Answers that are kept while the one that is next is computed."""

LOOK_S = 0.05
"""How often to look whether more may be asked at a time than before."""


def in_order(
    submit: Callable[[Mapping[str, object]], Future[Answer]],
    requests: Iterable[Mapping[str, object]],
    limit: Callable[[], int],
) -> Iterator[Answer]:
    """Yield the answers in the order of the requests, of which at most `limit()` are open at a time.

    So the time that a request may take begins when it is its turn, however many there are.
    """
    window = _Window(limit)
    for request in requests:
        window.add(submit(request))
        while window.ready() or window.full():
            if window.ready():
                yield window.futures.popleft().result()
            else:
                window.wait()
    while window.futures:
        yield window.futures.popleft().result()


class _Window:
    """The futures of the requests whose answers were not yielded yet, in order."""

    def __init__(self, limit: Callable[[], int]) -> None:
        self.futures: deque[Future[Answer]] = deque()
        self._limit = limit
        self._ended = threading.Condition()
        self._open = 0

    def add(self, future: Future[Answer]) -> None:
        with self._ended:
            self._open += 1
        self.futures.append(future)
        future.add_done_callback(self._count)

    def _count(self, _: Future[Answer]) -> None:
        with self._ended:
            self._open -= 1
            self._ended.notify()

    def ready(self) -> bool:
        return bool(self.futures) and self.futures[0].done()

    def full(self) -> bool:
        return self._open >= self._limit() or len(self.futures) >= WINDOW

    def wait(self) -> None:
        with self._ended:
            while self.full() and not self.ready():
                self._ended.wait(LOOK_S)
