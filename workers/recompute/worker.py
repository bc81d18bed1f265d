"""The plug-in of the capability `recompute`: warm processes for requests, commands for tasks."""

from __future__ import annotations

import sys

from computefarm.worker_api.contract import Action, TaskContext

SHELL = ("/bin/sh", "-e", "-c")
PROGRAM = "cf-recompute"
BATCH = "computefarm.workers.recompute.batch"
RESIDENT = "computefarm.workers.recompute.resident"


class RecomputeWorker:
    """Answers requests in warm processes, and runs batches of them as tasks."""

    name = "recompute"

    def commands(self, action: Action, context: TaskContext) -> tuple[tuple[str, ...], ...]:
        """Return the commands of a task; a batch runs with this worker's own Python, whatever the PATH."""
        return tuple(
            (*SHELL, command) if isinstance(command, str) else _own(command, context.cache)
            for command in action.commands
        )

    def resident(self, *, device: str, memory: int, cache: str, nice: int) -> tuple[str, ...]:
        """Return the program of a warm process."""
        options = ("--device", device, "--memory", str(memory), "--cache", cache, "--nice", str(nice))
        return (sys.executable, "-m", RESIDENT, *options)


def _own(command: tuple[str, ...], cache: str) -> tuple[str, ...]:
    if command[:2] == (PROGRAM, "batch"):
        # Compiled code is kept beside that of the warm processes: a task's own folders end with it.
        return (sys.executable, "-m", BATCH, "--cache", cache, *command[2:])
    return command
