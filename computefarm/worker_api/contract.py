"""What a worker plug-in promises, and what it is given.

A *command plug-in* turns an action into argument vectors and does nothing else: the worker runs them, in the
task's private directory, with its own limits, log streaming and output checks. That keeps every plug-in pure,
quick to test, and unable to leave processes behind.

Plug-ins that stay resident and answer requests without a process of their own are a second kind:
`computefarm.worker_api.resident`; `name` is common to both.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import msgspec

from computefarm.errors import TaskError
from computefarm.messages import Action

__all__ = ["Action", "CommandPlugin", "TaskContext", "TaskError"]


class TaskContext(msgspec.Struct, frozen=True):
    """What a plug-in may know of the place where an action is about to run."""

    directory: str
    """Absolute path of the private directory; every command starts in it."""
    cpus: int = 1
    """Slots the task holds, for tools that take a number of threads."""
    memory: int = 0
    """Bytes the task asked for; 0 when it did not say."""
    cache: str = ""
    """The worker's folder for what tools compile for themselves, kept between tasks; it may not exist yet."""


@runtime_checkable
class CommandPlugin(Protocol):
    """Turns an action into commands."""

    @property
    def name(self) -> str:
        """The plug-in's name, as capability files write it in `worker:`."""

    def commands(self, action: Action, context: TaskContext) -> tuple[tuple[str, ...], ...]:
        """Return the argument vectors to run, in order; the first that fails ends the task.

        Pure: reads no files, starts nothing. Raises `TaskError` for an action it cannot execute.
        """
