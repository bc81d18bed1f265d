"""Where a run's farm tasks go: a backend that is chosen early and started when it is first needed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from computefarm.backends.base import Backend, Offered, Sink
from computefarm.errors import Unreachable
from computefarm.host.pids import OwnProcesses
from computefarm.messages import Need, Obstacle, Pool

from .failures import FarmFailed
from .options import RunOptions
from .patience import GRACE, Patience, next_step
from .plan_check import Unmet, Want, unmet
from .toolchains import Toolchain, Toolchains

if TYPE_CHECKING:
    from computefarm.needs import Needs


LOOK_S = 0.05
"""How often the farm is looked at while something is missing."""


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

    def unmet(self, wants: Sequence[Want], halted: Callable[[], bool], *, going_on: bool) -> list[Unmet]:
        """Return the wants that nobody will meet; what is missing is said, and given a moment to come.

        What was there and vanished, and what the user wants to wait for, is left to the tasks' own turn;
        so is everything in a run that goes on after failures.
        """
        try:
            backend = self.started()
        except Unreachable:
            return []  # said when the first task is sent
        began = time.monotonic()
        lacking = self._lacking(wants)
        if backend.name != "local" or going_on:
            for each in lacking:
                self._say(f"{each.text}; needed by {each.want.names}")
        if going_on or self.patience.told:
            return []
        while any(not each.vanished for each in lacking) and not halted():
            until = self.patience.until(began)
            if until is not None and time.monotonic() >= until:
                return [each for each in lacking if not each.vanished]
            time.sleep(LOOK_S)
            lacking = self._lacking(wants)
        return []

    def failure(self, lacking: Unmet) -> FarmFailed:
        """Return what the first task fails with that needs what nobody offers."""
        others = f"; needed by {lacking.want.names}" if len(lacking.want.tasks) > 1 else ""
        return self.nobody(lacking.text + others, lacking.want.need, lacking.obstacles)

    def nobody(self, text: str, need: Need, obstacles: Sequence[Obstacle]) -> FarmFailed:
        """Return the failure of a task that no worker can run, with the next step."""
        local = self.running is not None and self.running.name == "local"
        return FarmFailed(f"{text}\n  {next_step(need, obstacles, local=local)}", 5)

    def _lacking(self, wants: Sequence[Want]) -> list[Unmet]:
        lacking = unmet(wants, self._offers, ())
        # The backend's pools are one capability's; for what is missing all are looked at.
        return unmet([each.want for each in lacking], self._offers, self._everything()) if lacking else []

    def _everything(self) -> tuple[Pool, ...]:
        look = getattr(self.running, "pools", None)
        return tuple(look()) if callable(look) else self.toolchains.pools

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
