"""Before the first task runs: is everything offered that the run is certain to need?

A task that has never succeeded, or that is to run whatever its state, will run; what it needs is compared
with what the farm offers now. Tasks that may turn out to be up to date are left to their turn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
from doit.task import Task

from computefarm.backends.base import Offered
from computefarm.core.placement import mismatch
from computefarm.messages import Need, Obstacle, Outcome, Pool
from computefarm.needs import Needs

from .farm_tasks import FarmTasks
from .patience import nothing_offers
from .toolchains import VARIANT, fits
from .watching import Watching

SHOWN = 3
"""Tasks that a message names."""


PATH = re.compile(r" \(/.*\)$")
"""What `cf-worker --probe` says of where it has looked."""


class Want(msgspec.Struct):
    """Something that the run is certain to need, and the tasks that need it."""

    asked: Needs
    tasks: list[Task]

    @property
    def need(self) -> Need:
        """Return it as a worker's offer is compared with it."""
        tags = tuple(sorted(self.asked.tags.items()))
        label = self.asked.action.get("label", "") if self.asked.action else ""
        return Need(self.asked.capability, self.asked.version, tags, action=label)

    @property
    def names(self) -> str:
        """Return who needs it, for people."""
        names = ", ".join(task.name for task in self.tasks[:SHOWN])
        more = len(self.tasks) - SHOWN
        return f"{names} and {more} more" if more > 0 else names


class Unmet(msgspec.Struct, frozen=True):
    """A want that nothing on the farm meets."""

    want: Want
    obstacles: tuple[Obstacle, ...]
    vanished: bool
    """It was offered earlier, so it may come back."""

    @property
    def text(self) -> str:
        """Say what is missing and where it nearly fits."""
        return nothing_offers(self.want.need, self.obstacles)


def certain(
    names: Iterable[str], tasks: Mapping[str, Task], farm: FarmTasks, will_run: Callable[[str], bool]
) -> list[Want]:
    """Return what the farm tasks among `names` need that will run, each different need once."""
    found: dict[object, Want] = {}
    for name in names:
        asked = farm.needs(tasks[name])
        if asked is None or not will_run(name):
            continue
        action = asked.action.get("label", "") if asked.action else ""
        key = (asked.capability, asked.version, tuple(sorted(asked.tags.items())), action)
        want = found.get(key)
        if want is None:
            want = found[key] = Want(asked, [])
        want.tasks.append(tasks[name])
    return list(found.values())


def unmet(
    wants: Sequence[Want], offered: Callable[[str], Offered], everything: Sequence[Pool]
) -> list[Unmet]:
    """Return the wants that nothing meets now; `everything` is all that the farm offers."""
    found = []
    for want in wants:
        now = offered(want.asked.capability)
        if any(fits(pool.offer, want.asked, pool.platform) for pool in now.pools):
            continue
        if now.missing:
            obstacles = tuple(Obstacle("worker", "", PATH.sub("", text)) for text in now.missing)
        else:
            obstacles = _obstacles(want, everything)
        vanished = any(fits(pool.offer, want.asked, pool.platform) for pool in now.gone)
        found.append(Unmet(want, obstacles, vanished))
    return found


def nothing_started(capabilities: Mapping[str, str], lacking: str, watching: Watching) -> None:
    """Record the other tasks of a run that ended before it began; `capabilities` by name of the task."""
    for name, capability in capabilities.items():
        if name not in watching.recorded:
            why = f"nothing was started: no worker for {lacking}"
            watching.not_run(name, Outcome.CANCELLED, why, capability)


def _obstacles(want: Want, everything: Sequence[Pool]) -> tuple[Obstacle, ...]:
    """Say of each worker why it does not do; those that nearly do come first."""
    need, near, far = want.need, dict[str, str](), dict[str, str]()
    for pool in everything:
        for worker in pool.workers:
            if pool.offer.capability != need.capability:
                far[worker] = f"does not offer {need.capability}"
                continue
            said = mismatch(need, pool.offer, pool.platform)
            variant = dict(pool.offer.tags).get(VARIANT, "")
            near[worker] = said.reason if said else f"has the variant {variant}, which cannot do it"
    if not everything:
        return (Obstacle("worker", "", "no worker is connected"),)
    both = {**near, **{worker: reason for worker, reason in far.items() if worker not in near}}
    return tuple(Obstacle("worker", worker, reason) for worker, reason in both.items())
