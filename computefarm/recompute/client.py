"""`Client`: recompute requests from Python, blocking, as futures, or awaited.

from computefarm.recompute import Client

with Client("gpu-box,desktop/tier=1") as client:
    answer = client.compute({"kernel": "hash.search", …})
    answers = client.map(requests)              # in order, as many in flight as the servers grant
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Self

import zmq

from computefarm.errors import FarmError
from computefarm.home import Home, host_id, hostname
from computefarm.messages import Reply
from computefarm.services.loop import Loop
from computefarm.settings import Settings, load_settings
from computefarm.transport.peer_end import PeerEnd
from computefarm.worker_api.kernel import KernelError

from .balance import Balance, Standing
from .calls import Call
from .hosts import origin_of, parse_hosts, servers
from .pipeline import in_order
from .requests import Answer, Kernels, answer_of
from .service import RecomputeService

CLOSE_S = 5.0


class Client:
    """Asks recompute servers; to be used from any number of threads."""

    def __init__(
        self,
        hosts: str = "",
        *,
        home: Home | None = None,
        settings: Settings | None = None,
        max_in_flight: int | None = None,
    ) -> None:
        """Dial `hosts`, a list as in `CF_RECOMPUTE_HOST`; that variable, or the configured farm, when empty.

        Raises `FarmError` for a malformed list or a server that this machine has not joined.
        """
        home = home or Home.find(os.environ)
        settings = settings or load_settings({}, os.environ, home)
        text = hosts or settings.recompute_host
        listed = parse_hosts(text, port=settings.port, origin=origin_of(os.environ, hosts)) if text else ()
        found = servers(home, settings.farm, listed)
        self._timeout_ms = settings.recompute_timeout
        self._kernels = Kernels()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        standings = [Standing(str(entry), entry.weight, entry.tier) for entry, _ in found]
        limit = settings.recompute_max_cores if max_in_flight is None else max_in_flight
        self._balance = Balance(standings, retry_s=settings.recompute_retry_interval_s, max_in_flight=limit)
        connections = [
            PeerEnd(
                self._context,
                access.address,
                server_key=access.server_key,
                keys=access.keys("client"),
                role="client",
                farm=access.farm,
            )
            for _, access in found
        ]
        self._service = RecomputeService(
            self._balance,
            connections,
            host=host_id(home),
            hostname=hostname(),
            connect_s=settings.recompute_connect_timeout / 1000.0,
        )
        self._loop = Loop()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="cf-recompute", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._loop.add(self._service)
        self._loop.run()
        self._context.destroy(linger=100)

    def submit(self, request: Mapping[str, object]) -> Future[Answer]:
        """Send a request; the future's result is its answer, whatever its status.

        It can be cancelled: then nobody computes it any more.
        """
        future: Future[Answer] = Future()
        try:
            order = self._kernels.order(request, deadline_ms=self._timeout_ms)
        except KernelError as error:
            future.set_result(Answer(id=_id_of(request), status=error.status, reason=str(error)))
            return future
        if self._closed:
            raise FarmError("this client is closed")

        def then(reply: Reply) -> None:
            if future.set_running_or_notify_cancel():
                future.set_result(answer_of(order.id, reply))

        call = self._service.ask(order.request, order.deadline_s, then)
        future.add_done_callback(lambda done: self._drop(call) if done.cancelled() else None)
        return future

    def _drop(self, call: Call) -> None:
        """Tell the server that nobody waits any more."""
        if not self._closed:
            self._service.call(lambda: self._service.withdraw(call))

    def compute(self, request: Mapping[str, object]) -> Answer:
        """Return the answer to one request; it comes within its deadline and half a second."""
        return self.submit(request).result()

    def map(self, requests: Iterable[Mapping[str, object]]) -> Iterator[Answer]:
        """Yield the answers in the order of the requests, as many in flight as the servers grant."""
        return in_order(self.submit, requests, self.granted)

    def granted(self) -> int:
        """Return how many requests may be in flight now."""
        return self._balance.limit(time.monotonic())

    def unusable(self) -> FarmError | None:
        """Return why none of the servers can be used, when that is so."""
        return self._service.error()

    def slots(self, patience_s: float) -> int:
        """Return how many requests the servers compute at once, as soon as all have told or failed."""
        ready = threading.Event()
        found: list[int] = []

        def told(slots: int) -> None:
            found.append(slots)
            ready.set()

        self._service.call(lambda: self._service.when_ready(told, patience_s))
        ready.wait(patience_s + CLOSE_S)
        return found[0] if found else 0

    def close(self) -> None:
        """Let go of the servers; what is still asked is answered with an error."""
        if self._closed:
            return
        self._closed = True
        self._service.call(self._loop.stop)
        self._thread.join(CLOSE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient:
    """The same for programs that run in an event loop."""

    def __init__(
        self,
        hosts: str = "",
        *,
        home: Home | None = None,
        settings: Settings | None = None,
        max_in_flight: int | None = None,
    ) -> None:
        """As `Client`."""
        self._client = Client(hosts, home=home, settings=settings, max_in_flight=max_in_flight)

    async def compute(self, request: Mapping[str, object]) -> Answer:
        """Return the answer to one request."""
        return await asyncio.wrap_future(self._client.submit(request))

    async def close(self) -> None:
        """Let go of the servers."""
        await asyncio.to_thread(self._client.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _id_of(request: Mapping[str, object]) -> bytes:
    given = request.get("id", b"")
    if isinstance(given, bytes):
        return given
    with contextlib.suppress(ValueError):
        return bytes.fromhex(str(given))
    return b""
