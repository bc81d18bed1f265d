"""Attempts of the past, so many that a late copy of a message does not count as news."""

from __future__ import annotations

from collections import OrderedDict

from computefarm.messages import TaskKey

REMEMBERED = 4096


class Seen:
    """The last attempts that a worker was told of, by key, number and epoch."""

    def __init__(self) -> None:
        self._names: OrderedDict[tuple[TaskKey, int, str], None] = OrderedDict()

    def add(self, key: TaskKey, attempt: int, epoch: str) -> bool:
        """Remember an attempt; return whether it is new."""
        name = (key, attempt, epoch)
        if name in self._names:
            return False
        self._names[name] = None
        if len(self._names) > REMEMBERED:
            self._names.popitem(last=False)
        return True

    def clear(self) -> None:
        """Forget all."""
        self._names.clear()
