"""The manager's bulk connections: blobs for many peers, each of which may be slow, stuck or greedy.

What a peer asks for is read from the disk only when it has taken what it asked for before, so one that does
not read costs a few answers, and one that asks on all the same is dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from computefarm.codec import encode
from computefarm.messages import Absent, Chunk, Digest, Fetch
from computefarm.store.blobs import BlobStore
from computefarm.transport.manager_end import ManagerEnd

from .bulk import Provider, Puller, StoreShelf
from .offload import Offload

AHEAD = 2
"""Requests of one peer that are read at the same time: while one is sent the next is fetched."""

ASKED = 100_000
"""Slices that a peer may have asked for and not been sent; a window of honest ones holds far fewer."""


class _Line:
    """What one peer has asked for."""

    __slots__ = ("asked", "blocked", "busy", "slices")

    def __init__(self) -> None:
        self.asked: deque[Fetch] = deque()
        self.slices = 0
        self.busy = 0
        """Requests that are being read."""
        self.blocked: deque[tuple[bytes, bytes | None]] = deque()
        """Answers that its full connection did not take yet."""


class ManagerBulk:
    """Blobs between the manager's store and its peers. Every method runs on the loop's thread."""

    def __init__(
        self,
        end: ManagerEnd,
        store: BlobStore,
        offload: Offload,
        *,
        route: Callable[[str], bytes | None],
        arrived: Callable[[list[Digest]], None],
        failed: Callable[[str, list[Digest], str], None],
        greedy: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        """`route` names a peer's bulk connection; `greedy` is told who asks for more than it takes."""
        self._end = end
        self._route = route
        self._greedy = greedy
        self._lines: dict[str, _Line] = {}
        self._stuck: set[str] = set()
        self.puller = Puller(
            store,
            offload,
            ask=lambda peer, request: self._send(peer, request, None),
            arrived=arrived,
            failed=failed,
            clock=clock,
        )
        self._provider = Provider(StoreShelf(store), offload, send=self._send)

    def fetch(self, peer: str, request: Fetch) -> None:
        """Send `peer` what it asks for, when it has taken what it asked for before."""
        line = self._lines.setdefault(peer, _Line())
        line.asked.append(request)
        line.slices += len(request.slices)
        if line.slices > ASKED:
            self._greedy(peer)
        else:
            self._serve(peer, line)

    def restart(self, peer: str) -> None:
        """`peer` has a new connection: what was meant for the old one is void."""
        self._lines.pop(peer, None)
        self._stuck.discard(peer)
        self.puller.restart(peer)

    def forget(self, peer: str) -> None:
        """`peer` is gone."""
        self._lines.pop(peer, None)
        self._stuck.discard(peer)
        self.puller.forget(peer)

    @property
    def stuck(self) -> bool:
        """Return whether a full connection is to be tried again soon."""
        return bool(self._stuck)

    def retry(self) -> None:
        """Send what full connections did not take before."""
        for peer in list(self._stuck):
            line = self._lines.get(peer)
            route = self._route(peer)
            if line is None or route is None or self._end.gone(route):
                self._stuck.discard(peer)
                if line is not None:
                    line.blocked.clear()
                continue
            while line.blocked and self._end.send(route, *line.blocked[0]):
                line.blocked.popleft()
            if not line.blocked:
                self._stuck.discard(peer)
                self._serve(peer, line)

    def _serve(self, peer: str, line: _Line) -> None:
        while line.asked and line.busy < AHEAD and not line.blocked:
            request = line.asked.popleft()
            line.slices -= len(request.slices)
            line.busy += 1

            def sent() -> None:
                line.busy -= 1
                if self._lines.get(peer) is line:
                    self._serve(peer, line)

            self._provider.fetch(peer, request, sent)

    def _send(self, peer: str, message: Chunk | Absent | Fetch, data: bytes | None) -> None:
        route = self._route(peer)
        if route is None:
            return
        line = self._lines.setdefault(peer, _Line())
        body = encode([message])
        if line.blocked:
            line.blocked.append((body, data))
        elif not self._end.send(route, body, data) and not self._end.gone(route):
            line.blocked.append((body, data))
            self._stuck.add(peer)
