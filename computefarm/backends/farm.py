"""A TaskManager over the network: one run's client on a thread of its own, and a viewer for questions."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import zmq

from computefarm.errors import FarmError, Unreachable, UsageError
from computefarm.home import Home, host_id, hostname
from computefarm.messages import Explanation, LogPage, OutputPage, Pool, ReadLog, ReadOutput, SessionStatus
from computefarm.services.client import ClientService
from computefarm.services.dialling import Dialler
from computefarm.services.equip import store_root
from computefarm.services.loop import Loop
from computefarm.settings import Settings
from computefarm.store.blobs import BlobStore
from computefarm.transport.farms import Access
from computefarm.transport.reach import why_unreachable

from .base import Offered, Sink
from .bridge import Bridge, ClientBackend, run_guarded

CONNECT_S = 5.0
"""How long the first answer of a manager may take."""

LOG_S = 10.0
"""How long a page of its log may take, when there is no need to wait for one."""

OUTPUT_S = 30.0
"""How long a page of a task's output may take: several workers may be asked for it, one after the other."""


class FarmBackend(ClientBackend):
    """A configured farm, for the length of one run (or one question)."""

    def __init__(
        self, *, access: Access, home: Home, settings: Settings, session: str, role: str = "client"
    ) -> None:
        """`role` is `client`, or `viewer` for who may only look."""
        self.name = access.farm
        self._role = role
        self.address = access.address
        self._access = access
        self._home = home
        self._settings = settings
        self._session = session

    def start(self, sink: Sink) -> None:
        """Connect; raise `Unreachable` or `Refused` when the farm cannot be used."""
        access, home = self._access, self._home
        self._bridge = Bridge(sink)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        dialler = Dialler(self._context, home, self._settings.farm, access, self._role)
        self._store = BlobStore(store_root(home), limit_bytes=self._settings.cache_limit)
        self._loop = Loop()
        self._client = ClientService(
            session=self._session,
            host=host_id(home),
            hostname=hostname(),
            control=dialler.dial(),
            bulk=dialler.dial(),
            store=self._store,
            observer=self._bridge,
            dialler=dialler,
            role=self._role,
        )
        self._thread = threading.Thread(target=self._run, name="cf-client", daemon=True)
        self._thread.start()
        if not self._bridge.heard.wait(CONNECT_S) or self._bridge.error is not None:
            error = self._bridge.error or self._silence()
            self.close()
            raise error

    def _silence(self) -> FarmError:
        return why_unreachable(self._access.address, self.name)

    def _run(self) -> None:
        def serve() -> None:
            self._loop.add(self._client)
            self._loop.run()

        run_guarded(serve, self._bridge.broken)

    def offers(self, capability: str) -> Offered:
        """Return the pools of workers that offer `capability` now."""
        pools = tuple(pool for pool in self._bridge.pools if pool.offer.capability == capability)
        return Offered(pools, self._bridge.settled, gone=self._bridge.gone)

    def pools(self) -> tuple[Pool, ...]:
        """Return everything the farm offers."""
        return self._bridge.pools

    def explain_name(self, task: str, session: str = "") -> Explanation:
        """Return what the manager knows of a task, by name, in one session or (empty) in whichever it is."""
        explanation = self.question("explain", task, session).explanation
        assert explanation is not None
        return explanation

    def sessions(self) -> tuple[SessionStatus, ...]:
        """Return the runs of this key that the farm knows."""
        return self.question("sessions").sessions or ()

    def read_output(self, wish: ReadOutput) -> OutputPage:
        """Return the next page of all that an attempt printed; one with a fault says why there is none."""
        box: list[OutputPage] = []
        ready = threading.Event()

        def then(page: OutputPage) -> None:
            box.append(page)
            ready.set()

        self._bridge.waiting.add(ready)
        try:
            self._client.read_output(wish, then)
            ready.wait(0.0 if self._bridge.error else OUTPUT_S)
        finally:
            self._bridge.waiting.discard(ready)
        if not box:
            hint = "a TaskManager of an older version passes no output on"
            raise self._bridge.error or Unreachable("the TaskManager does not answer", hint=hint)
        return box[0]

    def read_log(self, wish: ReadLog) -> LogPage:
        """Return the next page of the farm's log; with `wish.wait`, when there is one.

        Raises `FarmError` when the farm goes away, or does not know what is wished for.
        """
        box: list[LogPage] = []
        ready = threading.Event()

        def then(page: LogPage) -> None:
            box.append(page)
            ready.set()

        self._bridge.waiting.add(ready)
        try:
            self._client.read_log(wish, then)
            while not ready.wait(0.0 if self._bridge.error else LOG_S) and wish.wait:
                if self._bridge.error:
                    break
        finally:
            self._bridge.waiting.discard(ready)
        if not box:
            hint = "a TaskManager of an older version keeps no log"
            raise self._bridge.error or Unreachable("the TaskManager does not answer", hint=hint)
        if box[0].fault:
            raise UsageError(box[0].fault, hint="majordomo logs --help")
        return box[0]

    def cancel_run(self, session: str, tasks: Sequence[str], reason: str) -> int:
        """Cancel tasks of a run by name, or all; return how many there were that had not ended."""
        answer = self.answer_to(lambda then: self._client.cancel_run(session, tasks, reason, then))
        return answer.cancelled or 0
