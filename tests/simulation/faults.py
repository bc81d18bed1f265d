"""What can go wrong in the world, by name, so that each kind can be left out when a failure is made smaller."""

from __future__ import annotations

import random
from collections.abc import Collection

KINDS = {
    "loss": "heartbeats, load reports and notices get lost one by one",
    "copies": "messages arrive a second time, late",
    "stall": "a direction of a line stands still for seconds, then delivers everything",
    "cut": "connections break with what is in flight; the ends learn of it late, or by silence only",
    "one-way": "a direction of a connection swallows everything from now on",
    "crash": "workers are killed and started again",
    "client-crash": "clients are killed; a new one with the same tasks follows",
    "restart": "the manager is killed and started again from what its disk holds",
    "power": "a killed manager also loses blobs and cached results that were never synced",
    "disk-loss": "the manager's journal is gone when it starts again",
    "disk-full": "the journal cannot be written for a while",
    "slow-disk": "a sync takes seconds",
    "freeze": "processes stand still for seconds, then catch up at once",
    "skew": "clocks differ by hours and drift by half a percent",
    "blobs": "blobs vanish from the manager's store",
    "absent": "clients and workers cannot deliver what they said they had",
    "fail": "commands fail now and then",
    "memory": "commands are killed for want of memory on small workers",
    "timeout": "commands run into their time limit",
    "poison": "some commands take their worker down with them",
    "sick": "a worker fails whatever it is given for a while",
    "drain": "workers leave when their work is done, and come back",
    "cancel": "clients cancel tasks, their own and by name those of others",
    "load": "hosts report load and limits",
}
"""Every kind of fault."""

SWARM = 0.75
"""A world has each kind with this probability: fewer kinds at once reach deeper than all of them always."""


class Faults:
    """Which kinds there are in one world, and a stream of random numbers for each.

    A stream of its own means that leaving out one kind changes little about the others.
    """

    def __init__(self, seed: int, without: Collection[str] = ()) -> None:
        unknown = set(without) - set(KINDS)
        if unknown:
            raise ValueError(
                f"no such kind of fault: {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}"
            )
        lots = random.Random(f"{seed}/swarm")
        drawn = [kind for kind in KINDS if lots.random() < SWARM]
        self.kinds = frozenset(drawn) - frozenset(without)
        self.on = True
        self.streams = {kind: random.Random(f"{seed}/{kind}") for kind in drawn}

    def happens(self, kind: str, probability: float) -> bool:
        """Return whether this fault strikes now."""
        return self.on and kind in self.kinds and self.streams[kind].random() < probability
