"""Put a worker together from what this machine has: offers by probing, plug-ins, facts, registration."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import psutil

from computefarm.capability import Capability, lending
from computefarm.catalogue import VARIANT, Catalogue, Probed, platform_name, probe, probe_all
from computefarm.core.versions import satisfies
from computefarm.errors import UsageError
from computefarm.home import Home, host_id, hostname
from computefarm.host.gpu import count_gpus
from computefarm.messages import Action, Offer, Register
from computefarm.worker_api import registry
from computefarm.worker_api.contract import CommandPlugin

log = logging.getLogger("computefarm.worker")

STORE = "blobs"
"""Folder of the cache shared by all processes of one CF_HOME."""

KERNELS = "kernels"
"""Folder of the cache for what kernels compile, shared as the store is."""

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
        only_actions: bool = False,
    ) -> None:
        """`cache` keeps programs' digests; `constraints` are the versions that the owner wants to offer.

        With `only_actions` nothing is run but the named actions of the catalogue's own files.
        """
        self._catalogue = catalogue
        self._cache = cache
        self._constraints = constraints or {}
        self._only_actions = only_actions
        self._variants: dict[str, str] = {}
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
            chosen = self._variants[offer.capability] = dict(offer.tags).get(VARIANT, "")
            ours = [variant.env for variant in capability.variants if variant.name == chosen]
            env = {name: value for pairs in (capability.env, *ours) for name, value in pairs}
            self._envs[offer.capability] = tuple(env.items())

    def env(self, capability: str) -> tuple[tuple[str, str], ...]:
        """Return the variables that are set for every task of `capability`, which is offered."""
        return self._envs.get(capability, ())

    @property
    def compiled(self) -> str:
        """The folder for what warm processes and tasks of this CF_HOME compile for themselves."""
        return str(self._cache / KERNELS) if self._cache is not None else ""

    def refusal(self, action: Action, cpus: int) -> str:
        """Return why this worker must not do `action`; empty when it may."""
        if not self._only_actions:
            return ""
        variant = self._variants.get(action.capability, "")
        return lending.refusal(self._catalogue.get(action.capability), action, variant, cpus)

    def capability(self, name: str) -> Capability:
        """Return a capability's description."""
        return self._catalogue.get(name)

    def without(self, capability: str, variant: str) -> Offer | None:
        """Return what this machine offers of a capability if it cannot do one of its variants."""
        described = self._catalogue.get(capability)
        others = tuple(each for each in described.variants if each.name != variant)
        if not others:
            return None
        probed = probe(msgspec.structs.replace(described, variants=others), os.environ, cache=self._cache)
        return (restricted(probed, described) if self._only_actions else probed).offer

    def probe(self, capability: str) -> Probed:
        """Find out whether this machine can honour `capability` now; runs programs, which takes time."""
        described = self._catalogue.get(capability)
        probed = probe(described, os.environ, cache=self._cache)
        constraint = self._constraints.get(capability, "")
        if probed.offer is not None and constraint and not satisfies(probed.offer.version, constraint):
            return Probed(capability, None, (f"this is {probed.offer.version}, not {constraint}",))
        return restricted(probed, described) if self._only_actions else probed


def restricted(probed: Probed, capability: Capability) -> Probed:
    """Return an offer that is limited to the named actions that can be lent."""
    labels = lending.lent(capability)
    if probed.offer is None:
        return probed
    if not labels:
        kept = ", ".join(lending.kept(capability))
        why = f"all it can do ({kept}) runs code that the task brings" if kept else "it has no named actions"
        return Probed(probed.capability, None, (f"{why}, so --only-actions leaves nothing of it",))
    return msgspec.structs.replace(probed, offer=msgspec.structs.replace(probed.offer, actions=labels))


def probe_offers(
    catalogue: Catalogue,
    names: Sequence[str],
    home: Home,
    environ: Mapping[str, str],
    *,
    only_actions: bool = False,
) -> tuple[list[Offer], list[Probed]]:
    """Probe the named capabilities; return what can be offered, and what cannot with the reasons."""
    described = [catalogue.get(name) for name in names]
    probed: Sequence[Probed] = probe_all(described, environ, cache=home.cache)
    if only_actions:
        probed = [restricted(one, capability) for one, capability in zip(probed, described, strict=True)]
    for one in probed:
        if one.offer is not None and one.passed_over:
            log.info("offering %s as %s: %s", one.capability, _variant(one.offer), "; ".join(one.passed_over))
    offers = [one.offer for one in probed if one.offer is not None]
    return offers, [one for one in probed if one.offer is None]


def _variant(offer: Offer) -> str:
    return dict(offer.tags).get(VARIANT, "")


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
