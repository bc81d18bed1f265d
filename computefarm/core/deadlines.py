"""When tasks that have a deadline must have ended."""

from __future__ import annotations

import heapq

from computefarm.messages import TaskKey


class Deadlines:
    """The deadlines of unended tasks; most tasks have none and cost nothing here."""

    def __init__(self) -> None:
        self.at: dict[TaskKey, float] = {}
        """By task; to be changed here only."""
        self._heap: list[tuple[float, TaskKey]] = []
        """With entries that no longer hold."""

    def set(self, key: TaskKey, at: float) -> None:
        """Let the task `key` end by `at`."""
        self.at[key] = at
        heapq.heappush(self._heap, (at, key))

    def get(self, key: TaskKey) -> float | None:
        """Return when a task must have ended, or None."""
        return self.at.get(key)

    def drop(self, key: TaskKey) -> None:
        """A task has ended."""
        if self.at.pop(key, None) is not None and len(self._heap) > 64 + 2 * len(self.at):
            self._heap = [(at, left) for left, at in self.at.items()]
            heapq.heapify(self._heap)

    def swap(self, one: TaskKey, other: TaskKey) -> None:
        """Let two tasks change places."""
        mine, theirs = self.at.pop(one, None), self.at.pop(other, None)
        if theirs is not None:
            self.set(one, theirs)
        if mine is not None:
            self.set(other, mine)

    def due(self, now: float) -> list[TaskKey]:
        """Return the tasks whose time is over, the first one first; each is returned once."""
        over = []
        while self._heap and self._heap[0][0] <= now:
            at, key = heapq.heappop(self._heap)
            if self.at.get(key) == at:
                del self.at[key]
                over.append(key)
        return over

    def next(self) -> float | None:
        """Return when to ask again."""
        while self._heap and self.at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None
