"""What a client that vanished has left under way goes to its successor, also where nothing is cached.

A run that was killed and is started again submits the same tasks in a session of its own. Those that may be
cached find each other anyway. The others would run again, beside what the killed run had begun or right after
it; so for them alone the tasks of absent clients are looked through, of the same owner, by name and action.
"""

from __future__ import annotations

from computefarm.messages import Digest, Outcome

from .state import Session, Task, TaskState
from .tables import Tables


class Takeover:
    """Finds what absent clients have left."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def absent(self, heir: Session) -> list[Session]:
        """Return the sessions from which `heir` may take over; not those that are meant to be left alone."""
        return [
            session
            for session in self._tables.sessions.values()
            if not (session.peer or session.closed or session.lease_s)
            and session is not heir
            and session.owner == heir.owner
        ]

    def find(self, absent: list[Session], name: str, digest: Digest) -> Task | None:
        """Return the task that runs, waits or has succeeded for an absent client."""
        for session in absent:
            if session.left is None:
                tasks = (self._tables.tasks[key] for key in session.tasks.values())
                session.left = {(task.name, task.digest): task.key for task in tasks}
            task = self._tables.tasks.get(session.left.get((name, digest), 0))
            if task is None or (task.name, task.digest, task.session) != (name, digest, session):
                continue
            if task.leader:
                task = self._tables.tasks[task.leader]
            if task.state is not TaskState.ENDED:
                if task.cancelled is None:
                    return task
            elif task.done is not None and task.done.result.outcome is Outcome.SUCCEEDED:
                return task
        return None
