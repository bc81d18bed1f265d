"""Many requests, a few at a time, their answers in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future

from .requests import Answer

WINDOW = 512
"""Requests that are read ahead of the answer that is next."""

LOOK_S = 0.05
"""How often to look whether more may be asked at a time than before."""

Submit = Callable[[Mapping[str, object]], Future[Answer]]


def in_order(
    submit: Submit, requests: Iterable[Mapping[str, object]], limit: Callable[[], int]
) -> Iterator[Answer]:
    """Yield the answers in the order of the requests, of which at most `limit()` are open at a time.

    So the time that a request may take begins when it is its turn, however many there are. Requests are read
    by a thread: an answer is yielded as soon as it is there, also when nobody knows the next request yet.
    """
    window = _Window(submit, limit)
    threading.Thread(target=window.feed, args=(requests,), name="cf-requests", daemon=True).start()
    try:
        while (future := window.next()) is not None:
            yield future.result()
    finally:
        window.close()
    if window.error is not None:
        raise window.error


class _Window:
    """The futures of the requests whose answers were not yielded yet, in order."""

    def __init__(self, submit: Submit, limit: Callable[[], int]) -> None:
        self._submit = submit
        self._limit = limit
        self._futures: deque[Future[Answer]] = deque()
        self._changed = threading.Condition()
        self._open = 0
        self._read_all = False
        self._closed = False
        self.error: BaseException | None = None
        """What reading the requests, or submitting one, has raised."""

    def feed(self, requests: Iterable[Mapping[str, object]]) -> None:
        """Read and submit, as far as there is room."""
        try:
            for request in requests:
                future = self._submit(request)
                with self._changed:
                    self._open += 1
                    self._futures.append(future)
                future.add_done_callback(self._ended)
                if not self._room():
                    break
        except BaseException as error:  # whoever takes the answers is told, after the last of them
            self.error = error
        with self._changed:
            self._read_all = True
            self._changed.notify_all()

    def _ended(self, _: Future[Answer]) -> None:
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def _room(self) -> bool:
        """Wait until there is room for one more; False: nobody wants its answer."""
        with self._changed:
            while not self._closed and (self._open >= self._limit() or len(self._futures) >= WINDOW):
                self._changed.wait(LOOK_S)
            return not self._closed

    def next(self) -> Future[Answer] | None:
        """Return the next future, which is done; None when that was the last one."""
        with self._changed:
            while True:
                if self._futures and self._futures[0].done():
                    self._changed.notify_all()
                    return self._futures.popleft()
                if self._read_all and not self._futures:
                    return None
                self._changed.wait()

    def close(self) -> None:
        """Read no more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
