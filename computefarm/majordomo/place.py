"""Where a run's farm tasks go: a backend that is chosen early and started when it is first needed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from computefarm.backends.base import Backend, Offered, Sink
from computefarm.errors import Unreachable
from computefarm.host.pids import OwnProcesses

from .options import RunOptions
from .patience import GRACE, Patience
from .toolchains import Toolchain, Toolchains

if TYPE_CHECKING:
    from computefarm.needs import Needs


class Place:
    """The backend of one run, what it offers, and how long to wait for what it does not."""

    def __init__(
        self,
        open_backend: Callable[[], Backend],
        sink: Sink,
        saved: Callable[[str], dict[tuple[str, str], int]],
        say: Callable[[str], None],
        options: RunOptions,
    ) -> None:
        """`saved` counts the results there are by capability's toolchain; `say` tells the user something."""
        self._open_backend = open_backend
        self._sink = sink
        self._say = say
        self._options = options
        self._own = OwnProcesses()
        self._backend: Backend | None = None
        self._lost: Unreachable | None = None
        """Why the farm cannot be used; raised when the first task is to be sent."""
        self.running: Backend | None = None
        self.toolchains = Toolchains(self._offers, saved, say)
        self.patience = Patience(options.wait_workers, vanished_s=options.vanished_s, grace=GRACE)

    def open(self) -> str:
        """Choose the backend without starting it; return its name."""
        if self._backend is None:
            self._backend = self._open_backend()
        return self._backend.name

    def check(self) -> None:
        """Raise what was found out about a farm that cannot be reached."""
        if self._lost is not None:
            raise self._lost

    def started(self) -> Backend:
        """Return the backend, started."""
        self.check()
        if self.running is None:
            self.open()
            assert self._backend is not None
            # What this process does is the farm's own load, not its host's.
            self._own.register()
            self._backend.start(self._sink)
            self.running = self._backend
            if self._backend.name == "local":
                # Nobody else can join an embedded farm: there is nothing to wait for.
                options = self._options
                self.patience = Patience(options.wait_workers, vanished_s=options.vanished_s, grace=0.0)
        return self.running

    def _offers(self, capability: str) -> Offered:
        offered = self.started().offers(capability)
        self.patience.settled(offered.settled, time.monotonic())
        self.toolchains.note(offered.pools)
        return offered

    def toolchain_of(self, asked: Needs) -> Toolchain | None:
        """Return this run's toolchain for a need; None when nothing offers it now."""
        if self._lost is None:
            try:
                return self.toolchains.of(asked)
            except Unreachable as error:
                # Nothing offers anything now: what is up to date stays so. The first task to be sent is the
                # first to need the farm, and fails with this error.
                self._lost = error
                self._say(f"farm {self.open()} cannot be reached; results that exist count as up to date")
        return None

    def abandon(self) -> None:
        """Have everything cancelled, in a hurry."""
        if self.running is not None:
            self.running.abandon()

    def close(self) -> None:
        """Stop the backend; unfinished tasks are cancelled there."""
        running, self.running, self._backend = self.running, None, None
        if running is not None:
            running.close()
            self._own.forget()
