"""A worker's disk: noticed when it is full, and when there is room again."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from computefarm.quantities import format_size

log = logging.getLogger("computefarm.worker")

RESERVE = 4 * 1024 * 1024
"""Bytes; with less left than this, what fails is taken to have failed for it."""

RESERVE_SHARE = 0.05
"""…or this part of a disk so small that the reserve would be most of it."""

NEAR = 1024**3
"""Bytes; with less left than this, a command that complains of a full disk is believed to mean ours."""

LOOK_S = 3.0
"""How often a full disk is looked at again, and how long nothing is taken at least."""


class Disk:
    """The file systems that hold a worker's blobs and its tasks' folders."""

    def __init__(
        self,
        hostname: str,
        folders: tuple[Path, ...],
        hold: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        """`hold` is told why nothing more should be taken, and the empty string once there is room again."""
        self._hostname = hostname
        self._folders = folders
        self._hold = hold
        self._clock = clock
        self._look_at: float | None = None
        """Set while full."""

    def guilty(self, complained: bool) -> bool:
        """Tell whether a failure just now is the disk's fault; `complained` says that a command said so."""
        return any(free < (NEAR if complained else least) for _, free, least in self._state())

    def full(self) -> str:
        """Take nothing more until there is room; return what to say of it."""
        text = self._text()
        if self._look_at is None:
            log.error("%s; taking no tasks until there is room", text)
            self._hold(text)
        self._look_at = self._clock() + LOOK_S
        return text

    def tick(self, now: float) -> None:
        """Look whether there is room again."""
        if self._look_at is None or now < self._look_at:
            return
        if any(free < 2 * least for _, free, least in self._state()):
            self._look_at = now + LOOK_S
            return
        self._look_at = None
        log.info("there is room on the disk again; taking tasks")
        self._hold("")

    def next_deadline(self) -> float | None:
        """Return when `tick` is wanted."""
        return self._look_at

    def _text(self) -> str:
        state = self._state()
        if not state:
            return f"disk full on {self._hostname}: {self._folders[0]} cannot be looked at"
        path, free, _ = min(state, key=lambda one: one[1])
        return f"disk full on {self._hostname}: {format_size(free)} free in {path}"

    def _state(self) -> list[tuple[Path, int, float]]:
        """Return folder, bytes free and reserve of each file system that answers."""
        found = []
        for folder in self._folders:
            try:
                usage = shutil.disk_usage(folder)
            except OSError:
                continue  # deleted by somebody, or a network mount that is gone: others report that
            found.append((folder, usage.free, min(RESERVE, usage.total * RESERVE_SHARE)))
        return found
