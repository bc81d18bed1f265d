"""Looks after tasks that said how much memory they need, so that none takes its owner's machine down.

Nobody else is looked at, and nothing is done while no such task runs.
"""

from __future__ import annotations

from collections.abc import Callable

from computefarm.host.footprint import proportional, resident, tree
from computefarm.host.processes import children
from computefarm.quantities import format_size
from computefarm.sandbox.pool import SpawnerPool

from .attempts import Execution

FACTOR = 1.5
"""A task that takes more than this many times what it declared is ended."""

SLACK = 64 * 1024 * 1024
"""Bytes on top of that: a shell and an interpreter are nobody's fault."""

LOOK_S = 1.0
"""Between two looks."""


class MemoryWatch:
    """Adds up what the processes of each watched attempt have in memory, once a second."""

    def __init__(
        self, spawner: SpawnerPool, exceeded: Callable[[Execution], None], clock: Callable[[], float]
    ) -> None:
        self._spawner = spawner
        self._exceeded = exceeded
        self._clock = clock
        self._watched: dict[int, Execution] = {}
        self._look_at = 0.0

    def watch(self, execution: Execution) -> None:
        """Look after an attempt that declared its memory."""
        if not self._watched:
            self._look_at = self._clock() + LOOK_S
        self._watched[execution.ticket] = execution

    def forget(self, execution: Execution) -> None:
        """The attempt has ended."""
        self._watched.pop(execution.ticket, None)

    def tick(self, now: float) -> None:
        """Look, when it is time."""
        if not self._watched or now < self._look_at:
            return
        for execution in list(self._watched.values()):
            self._look(execution)
        self._look_at = self._clock() + LOOK_S

    def next_deadline(self) -> float | None:
        """Return when `tick` is wanted."""
        return self._look_at if self._watched else None

    def _look(self, execution: Execution) -> None:
        limit = FACTOR * execution.run.memory + SLACK
        pids = self._processes(execution.ticket)
        used = resident(pids)
        if used > limit:
            # Processes that share much, as forks do, look larger than they are.
            used = proportional(pids)
        execution.peak = max(execution.peak, used)
        if used > limit:
            execution.over = (
                f"peak {format_size(used)} (declared {format_size(execution.run.memory)}, "
                f"ended beyond {format_size(int(limit))})"
            )
            self.forget(execution)
            self._exceeded(execution)

    def _processes(self, ticket: int) -> set[int]:
        main = self._spawner.pid_of(ticket)
        if not main:
            return set()
        found = tree(main)
        # Those that have lost their parent belong to the spawner.
        for pid in children(self._spawner.spawner_of(ticket)):
            if pid not in found and self._spawner.ticket_of(pid) == ticket:
                found |= tree(pid)
        return found
