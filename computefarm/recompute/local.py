"""`LocalClient`: the same requests answered by this machine alone, in warm processes of this program."""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Self

import msgspec
import psutil

from computefarm.core.volatile_servers import MEMORY_SHARE
from computefarm.errors import FarmError
from computefarm.home import Home, hostname, private_folder
from computefarm.messages import Reply, Request
from computefarm.services.equip import KERNELS, usable_cores
from computefarm.services.loop import Loop
from computefarm.services.residents import Residents
from computefarm.transport.mailbox import Mailbox
from computefarm.worker_api import registry
from computefarm.worker_api.kernel import KernelError
from computefarm.worker_api.resident import ResidentPlugin

from .pipeline import in_order
from .requests import Answer, Kernels, answer_of

PLUGIN = "recompute"
WARM_S = 600.0
"""Compiling for the first time takes half a minute on an idle machine, minutes on a busy one."""

PATIENCE_S = 4.0
LOOK_S = 0.1
FAILURES = 2
"""So many processes that do not become ready are enough to know; they have said why."""

CLOSE_S = 5.0


class _Asked(msgspec.Struct, eq=False):
    request: Request
    then: Callable[[Reply], None]


class _Service:
    """Part of a loop: the processes, and who waits for what they compute."""

    def __init__(self, command: tuple[str, ...], slots: int) -> None:
        self.ready = threading.Event()
        self._mail: Mailbox[_Asked] = Mailbox()
        self._waiting: dict[int, _Asked] = {}
        self._number = 0
        self._residents = Residents(
            command, slots, reply=self._replied, ready=lambda tags: self.ready.set(), alive=lambda: None
        )

    @property
    def failures(self) -> int:
        """How many processes in a row have not become ready."""
        return self._residents.failures

    def ask(self, request: Request, then: Callable[[Reply], None]) -> None:
        """Have this computed; `then` is called on the loop's thread."""
        self._mail.put(_Asked(request, then))

    def attach(self, loop: Loop) -> None:
        """Start to warm up."""
        loop.watch(self._mail.fileno(), self._read)
        self._residents.attach(loop)

    def _read(self) -> None:
        for asked in self._mail.drain():
            self._number += 1
            self._waiting[self._number] = asked
            self._residents.ask(msgspec.structs.replace(asked.request, number=self._number))

    def _replied(self, reply: Reply) -> None:
        asked = self._waiting.pop(reply.number, None)
        if asked is not None:
            asked.then(reply)

    def tick(self, now: float) -> None:
        """Let the processes' time pass."""
        self._residents.tick(now)

    def next_deadline(self) -> float | None:
        """Return when to call `tick`."""
        return self._residents.next_deadline()

    def pace(self) -> float:
        """Everybody waits for every answer."""
        return 0.0

    def flush(self) -> None:
        """Nothing is gathered here."""

    def close(self) -> None:
        """End the processes; whoever still waits is told."""
        self._residents.close()
        for asked in self._waiting.values():
            asked.then(Reply(0, "error", "the client was closed"))
        self._mail.close()


class LocalClient:
    """Answers requests with this machine's cores, as `Client` does with servers."""

    def __init__(
        self,
        home: Home,
        *,
        slots: int = 0,
        device: str = "cpu",
        timeout_ms: int = 5000,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Start `slots` processes (0: one per core) and wait until they are warm.

        `say` is told when that takes long. Raises `FarmError` where the kernels cannot work.
        """
        self._slots = slots or usable_cores()
        self._timeout_ms = timeout_ms
        self._kernels = Kernels()
        self._loop = Loop()
        self._stop = Mailbox[None]()
        self._service = _Service(_command(home, self._slots, device), self._slots)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="cf-recompute", daemon=True)
        self._thread.start()
        self._warm_up(say)

    def _warm_up(self, say: Callable[[str], None]) -> None:
        if self._service.ready.wait(PATIENCE_S):
            return
        say("warming up: kernels are compiled the first time, which takes half a minute or more")
        until = time.monotonic() + WARM_S
        while not self._service.ready.wait(LOOK_S):
            if self._service.failures >= FAILURES or time.monotonic() > until:
                self.close()
                raise FarmError("the recompute kernels do not become ready on this machine")

    def _run(self) -> None:
        self._loop.watch(self._stop.fileno(), self._loop.stop)
        self._loop.add(self._service)
        self._loop.run()
        self._stop.close()

    def submit(self, request: Mapping[str, object]) -> Future[Answer]:
        """Compute a request; the future's result is its answer, whatever its status."""
        future: Future[Answer] = Future()
        try:
            order = self._kernels.order(request, deadline_ms=self._timeout_ms)
        except KernelError as error:
            future.set_result(Answer(id=b"", status=error.status, reason=str(error)))
            return future
        if self._closed:
            raise FarmError("this client is closed")

        def then(reply: Reply) -> None:
            here = msgspec.structs.replace(reply, worker="local", hostname=hostname())
            if future.set_running_or_notify_cancel():
                future.set_result(answer_of(order.id, here))

        self._service.ask(msgspec.structs.replace(order.request, budget_s=order.deadline_s), then)
        return future

    def map(self, requests: Iterable[Mapping[str, object]]) -> Iterator[Answer]:
        """Yield the answers in the order of the requests."""
        return in_order(self.submit, requests, lambda: self._slots)

    def slots(self, patience_s: float = 0.0) -> int:
        """Return how many requests are computed at once."""
        return self._slots

    def unusable(self) -> FarmError | None:
        """Return nothing: this machine is there."""
        return None

    def close(self) -> None:
        """End the processes."""
        if not self._closed:
            self._closed = True
            self._stop.put(None)
            self._thread.join(CLOSE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _command(home: Home, slots: int, device: str) -> tuple[str, ...]:
    for needed in ("numpy", "numba"):
        if importlib.util.find_spec(needed) is None:
            raise FarmError(
                f"recompute on this machine needs {needed}", hint="pip install 'computefarm[recompute]'"
            )
    plugin = registry.find(PLUGIN)
    if not isinstance(plugin, ResidentPlugin):
        raise FarmError(f"the worker plug-in {PLUGIN!r} keeps no warm processes")
    folder = private_folder(home.cache / KERNELS)
    memory = int(psutil.virtual_memory().total * MEMORY_SHARE) // slots
    return plugin.resident(device=device, memory=memory, cache=str(folder), nice=0)
