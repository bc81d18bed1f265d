"""Put a worker together from what this machine has: offers by probing, plug-ins, facts, registration."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from computefarm.capability import Capability
from computefarm.catalogue import VARIANT, Catalogue, Probed, platform_name, probe, probe_all
from computefarm.core.versions import satisfies
from computefarm.errors import UsageError
from computefarm.home import Home, host_id, hostname
from computefarm.host.gpu import count_gpus
from computefarm.messages import Offer, Register
from computefarm.worker_api import registry
from computefarm.worker_api.contract import CommandPlugin

STORE = "blobs"
"""Folder of the cache shared by all processes of one CF_HOME."""

PRIVATE = "private"
"""Folder of the cache that holds the private directories of attempts."""


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


class Toolbox:
    """What this machine's capability files say, and which plug-ins execute them; each found once."""

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        cache: Path | None = None,
        constraints: Mapping[str, str] | None = None,
    ) -> None:
        """`cache` keeps programs' digests; `constraints` are the versions that the owner wants to offer."""
        self._catalogue = catalogue
        self._cache = cache
        self._constraints = constraints or {}
        self._plugins: dict[str, CommandPlugin] = {}
        self._envs: dict[str, tuple[tuple[str, str], ...]] = {}

    def plugin(self, capability: str) -> CommandPlugin:
        """Return the plug-in that executes `capability`."""
        plugin = self._plugins.get(capability)
        if plugin is None:
            plugin = registry.find(self._catalogue.get(capability).worker)
            self._plugins[capability] = plugin
        return plugin

    def note(self, offers: Iterable[Offer]) -> None:
        """Know what is offered: the variant decides about the variables too."""
        for offer in offers:
            capability = self._catalogue.get(offer.capability)
            chosen = dict(offer.tags).get(VARIANT, "")
            ours = [variant.env for variant in capability.variants if variant.name == chosen]
            env = {name: value for pairs in (capability.env, *ours) for name, value in pairs}
            self._envs[offer.capability] = tuple(env.items())

    def env(self, capability: str) -> tuple[tuple[str, str], ...]:
        """Return the variables that are set for every task of `capability`, which is offered."""
        return self._envs.get(capability, ())

    def capability(self, name: str) -> Capability:
        """Return a capability's description."""
        return self._catalogue.get(name)

    def probe(self, capability: str) -> Probed:
        """Find out whether this machine can honour `capability` now; runs programs, which takes time."""
        probed = probe(self._catalogue.get(capability), os.environ, cache=self._cache)
        constraint = self._constraints.get(capability, "")
        if probed.offer is None or not constraint or satisfies(probed.offer.version, constraint):
            return probed
        return Probed(capability, None, (f"this is {probed.offer.version}, not {constraint}",))


def probe_offers(
    catalogue: Catalogue, names: Sequence[str], home: Home, environ: Mapping[str, str]
) -> tuple[list[Offer], list[Probed]]:
    """Probe the named capabilities; return what can be offered, and what cannot with the reasons."""
    probed = probe_all([catalogue.get(name) for name in names], environ, cache=home.cache)
    offers = [one.offer for one in probed if one.offer is not None]
    return offers, [one for one in probed if one.offer is None]


def registration(
    *,
    home: Home,
    worker: str,
    slots: int,
    offers: Sequence[Offer],
    tier: int = 0,
    weight: float = 1.0,
    max_load: float | None = None,
) -> Register:
    """Return what a worker of this machine says of itself."""
    if slots < 1:
        raise UsageError(f"a worker needs at least one slot, not {slots}")
    return Register(
        worker=worker,
        host=host_id(home),
        hostname=hostname(),
        platform=platform_name(),
        slots=slots,
        offers=tuple(offers),
        cpus=usable_cores(),
        memory=psutil.virtual_memory().total,
        gpus=count_gpus(),
        tier=tier,
        weight=weight,
        max_load=max_load,
    )


def task_facts(register: Register) -> dict[str, str]:
    """Return the `CF_*` facts that every task of this worker is told."""
    return {"CF_HOST": register.hostname, "CF_WORKER": register.worker}


def store_root(home: Home) -> Path:
    """Return where the blobs of this CF_HOME are."""
    return home.cache / STORE
