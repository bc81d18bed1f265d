"""How many slots of a worker are taken, and what may be started beside that."""

from __future__ import annotations

from collections.abc import Collection

from computefarm.messages import Run


class Room:
    """The slots of one worker; `ahead` is how many attempts of one slot may be started beyond them."""

    def __init__(self, slots: int, ahead: int) -> None:
        self.slots = slots
        self.ahead = ahead
        self.used = 0
        self._wide = 0
        """Attempts in hand that take more than one slot."""

    def take(self, run: Run) -> None:
        """An attempt is started."""
        self.used += run.cpus
        self._wide += run.cpus > 1

    def give(self, run: Run) -> None:
        """An attempt has ended."""
        self.used -= run.cpus
        self._wide -= run.cpus > 1

    def clear(self) -> None:
        """What was in hand counts as orphans from now on."""
        self.used = self._wide = 0

    def fits(self, run: Run, orphans: Collection[Run]) -> bool:
        """Return whether `run` may start; orphans still have their slots; what is too wide runs alone."""
        taken = [orphan.cpus for orphan in orphans]
        used = self.used + sum(taken)
        # The shell's queue counts tasks, not slots: it is used only while the two are the same.
        narrow = run.cpus == 1 and not self._wide and max(taken, default=1) == 1
        room = self.slots + self.ahead if narrow else self.slots
        return used == 0 or used + run.cpus <= room
