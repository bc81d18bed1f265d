"""The embedded farm: the real manager, worker and client in one thread of this process, with no port.

The same services as over the network, joined by `inproc://` sockets and one shared store,
so that what works here works on a farm.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import zmq

from computefarm.catalogue import Catalogue, platform_name
from computefarm.errors import FarmError
from computefarm.home import Home, host_id, hostname
from computefarm.messages import Offer, Pool
from computefarm.sandbox.pool import SpawnerPool
from computefarm.services.client import ClientService
from computefarm.services.equip import (
    PRIVATE,
    Toolbox,
    probe_offers,
    registration,
    store_root,
    task_facts,
    usable_cores,
)
from computefarm.services.loop import Loop
from computefarm.services.spill import FOLDER as OUTPUT
from computefarm.services.spill import Spill
from computefarm.services.taskmanager import TaskManagerService
from computefarm.services.worker import WorkerService
from computefarm.settings import Settings
from computefarm.store.blobs import BlobStore
from computefarm.store.layout import PrivateDirs
from computefarm.store.results import ResultCache
from computefarm.transport.manager_end import ManagerEnd
from computefarm.transport.peer_end import PeerEnd

from .base import Offered, Sink
from .bridge import Bridge, ClientBackend, run_guarded

WORKER = "local"


class LocalBackend(ClientBackend):
    """A farm of one machine, living as long as the run."""

    name = "local"
    stop_s = 10.0

    def __init__(
        self, *, home: Home, settings: Settings, session: str, project: Path, slots: int | None = None
    ) -> None:
        self._home = home
        self._settings = settings
        self._session = session
        self._project = project
        self._slots = slots or usable_cores()
        self._offers: dict[str, Offer] = {}
        self._missing: dict[str, tuple[str, ...]] = {}

    def start(self, sink: Sink) -> None:
        """Start the farm's thread."""
        home = self._home
        self._catalogue = Catalogue.load(home, self._project)
        self._bridge = Bridge(sink)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._store = BlobStore(store_root(home), limit_bytes=self._settings.store_limit)
        self._loop = Loop()
        end = ManagerEnd(self._context)
        address = end.bind("inproc://farm")
        self._manager = TaskManagerService(
            farm="local",
            end=end,
            store=self._store,
            results=ResultCache(home.cache / "results.db"),
            heartbeat_s=self._settings.heartbeat_s,
            settle_s=0.0,
        )
        register = registration(home=home, worker=WORKER, slots=self._slots, offers=())
        self._worker = WorkerService(
            register=register,
            control=PeerEnd(self._context, address),
            bulk=PeerEnd(self._context, address),
            store=self._store,
            directories=PrivateDirs(home.cache / PRIVATE),
            spawners=SpawnerPool(slots=self._slots),
            toolbox=Toolbox(self._catalogue, cache=home.cache),
            facts=task_facts(register),
            spill=Spill(
                home.state / OUTPUT,
                limit=self._settings.log_limit,
                hold_s=self._settings.log_hold_s,
                hostname=hostname(),
            ),
            quit=lambda reason, _code: self._bridge.broken(
                FarmError(f"the embedded worker stopped: {reason}")
            ),
        )
        self._client = ClientService(
            session=self._session,
            host=host_id(home),
            hostname=hostname(),
            control=PeerEnd(self._context, address),
            bulk=PeerEnd(self._context, address),
            store=self._store,
            observer=self._bridge,
            shared=True,
        )
        self._thread = threading.Thread(target=self._run, name="cf-farm", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        def serve() -> None:
            for service in (self._manager, self._worker, self._client):
                self._loop.add(service)
            self._loop.run()

        run_guarded(serve, self._bridge.broken)

    def offers(self, capability: str) -> Offered:
        """Probe this machine for `capability`, once, and return the pool it makes."""
        if capability not in self._offers and capability not in self._missing:
            self._probe(capability)
        offer = self._offers.get(capability)
        if offer is None:
            return Offered((), True, self._missing[capability])
        return Offered((Pool(offer, platform_name(), self._slots, (WORKER,)),), True)

    def _probe(self, capability: str) -> None:
        if capability not in self._catalogue.names():
            known = ", ".join(self._catalogue.names())
            self._missing[capability] = (f"no capability file describes {capability!r} (there are: {known})",)
            return
        offers, lacking = probe_offers(self._catalogue, [capability], self._home, os.environ)
        if lacking:
            self._missing[capability] = lacking[0].missing
            return
        self._offers[capability] = offers[0]
        everything = tuple(self._offers.values())
        self._client.call(lambda: self._worker.offer(everything))
