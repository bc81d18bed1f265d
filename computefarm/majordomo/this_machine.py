"""What the embedded farm would have: this machine and what it offers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from computefarm import __version__
from computefarm.catalogue import PACKAGED, Catalogue, platform_name, probe_all
from computefarm.home import Home, host_id, hostname
from computefarm.host.load import LoadSampler
from computefarm.messages import HostStatus, Pool, Status

from .presentation import Described, Offering

SAMPLE_S = 0.2
"""How long the load is watched: the kernel counts in hundredths of a second."""


def status_here(home: Home) -> Status:
    """Return a status with this machine as its only host and no workers."""
    sampler = LoadSampler(cache=home.cache)
    sampler.sample(time.monotonic())
    time.sleep(SAMPLE_S)
    report = sampler.sample(time.monotonic())
    host = HostStatus(
        host=host_id(home),
        hostname=hostname(),
        online=True,
        load=report.load,
        cpus=report.cpus,
        memory_total=report.memory_total,
        memory_available=report.memory_available,
        gpus=report.gpus,
        last_report_s=0.0,
        policy=report.policy,
    )
    return Status("local", __version__, 0.0, (host,), (), 0, 0)


def offering_here(home: Home, project: Path, environ: Mapping[str, str]) -> Offering:
    """Probe this machine for every capability that has a file."""
    catalogue = Catalogue.load(home, project)
    files = [catalogue.get(name) for name in catalogue.names()]
    probed = probe_all(files, environ, cache=home.cache)
    slots = os.cpu_count() or 1
    pools = tuple(Pool(one.offer, platform_name(), slots, ()) for one in probed if one.offer is not None)
    missing = {one.capability: one.missing for one in probed if one.offer is None}
    return Offering("local", pools, missing, described(catalogue))


def offering_of(farm: str, pools: Iterable[Pool], home: Home, project: Path) -> Offering:
    """Compare what a farm's workers offer with the capability files there are."""
    pools = tuple(sorted(pools, key=lambda pool: (pool.offer.capability, pool.offer.version)))
    offered = {pool.offer.capability for pool in pools}
    catalogue = Catalogue.load(home, project)
    missing = {name: ("no worker offers it",) for name in catalogue.names() if name not in offered}
    return Offering(farm, pools, missing, described(catalogue))


def described(catalogue: Catalogue) -> dict[str, Described]:
    """Return what the capability files say, and which of them won."""
    found = {}
    for name in catalogue.names():
        one = catalogue.get(name)
        found[name] = Described(
            summary=one.summary,
            source=one.source,
            actions=tuple(one.actions),
            variants=tuple(variant.name for variant in one.variants),
            # The source of an extended description names both files.
            own=not one.source.startswith(PACKAGED) or " and " in one.source,
        )
    return found
