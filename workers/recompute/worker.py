"""The plug-in of the capability `recompute`: warm processes for requests, commands for tasks."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from computefarm.worker_api.contract import Action, TaskContext
from computefarm.worker_api.resident import Place, Unit

from .devices import CHOICE, find, plan
from .devices import Place as Planned

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

    def units(self, environ: Mapping[str, str]) -> tuple[tuple[Unit, ...], str]:
        """Return the GPUs that kernels can run on, and in a line why there are none or not all."""
        found = find(environ)
        return tuple(Unit(one.label, one.total, one.free) for one in found.devices), found.reason

    def places(self, *, slots: int, environ: Mapping[str, str]) -> tuple[tuple[Place, ...], str]:
        """Return which GPU each slot's process sees; slots beyond what GPUs have a use for get the CPU."""
        found = find(environ)
        return tuple(_place(place) for place in plan(found.devices, slots)), found.reason


def _place(planned: Planned) -> Place:
    env = tuple(planned.env.items())
    if planned.device is None:
        return Place("cpu", env=env)
    return Place("gpu", planned.device.label, planned.budget, env, reserved=planned.device.simulated)


def _own(command: tuple[str, ...], cache: str) -> tuple[str, ...]:
    if command[:2] == (PROGRAM, "batch"):
        # Compiled code is kept beside that of the warm processes: a task's own folders end with it.
        # A task is told nothing else of the worker's environment.
        owners = [f"--with={name}={os.environ[name]}" for name in CHOICE if name in os.environ]
        return (sys.executable, "-m", BATCH, "--cache", cache, *owners, *command[2:])
    return command
