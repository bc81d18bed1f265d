"""`cf-worker --probe`: what this machine could offer, and why not the rest."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from computefarm.capability import Capability, lending
from computefarm.catalogue import PACKAGED, Catalogue, Probed, probe_all
from computefarm.core.versions import satisfies
from computefarm.home import Home
from computefarm.messages import Offer
from computefarm.services.equip import restricted


def probe(home: Home, asked: Mapping[str, str], *, only_actions: bool) -> int:
    """Print for each capability what would be offered, or everything that is missing; return the exit code.

    `asked` are constraints on versions by name of the capability; empty means all there are.
    """
    catalogue = Catalogue.load(home)
    chosen = [catalogue.get(name) for name in (asked or catalogue.names())]
    for capability, probed in zip(chosen, probe_all(chosen, os.environ, cache=home.cache), strict=True):
        constraint = asked.get(capability.capability, "")
        if probed.offer is not None and constraint and not satisfies(probed.offer.version, constraint):
            probed = Probed(
                probed.capability,
                None,
                (f"this is {probed.offer.version}, not {constraint}",),
                probed.passed_over,
            )
        for line in _probed(capability, restricted(probed, capability) if only_actions else probed):
            print(line)
    return 0


def _probed(capability: Capability, probed: Probed) -> Iterator[str]:
    offer = probed.offer
    if offer is None:
        yield f"{probed.capability}: no"
        yield from (f"    {text}" for text in probed.missing)
    else:
        tags = " ".join(f"{key}={value}" for key, value in offer.tags)
        yield f"{probed.capability}: {offer.version}  fingerprint {offer.fingerprint}  {tags}".rstrip()
        yield from (f"    passed over: {text}" for text in probed.passed_over)
        if capability.actions:
            does = [label.partition(":")[0] for label in offer.actions] or list(capability.actions)
            yield f"    {'only' if offer.actions else 'actions'}: {', '.join(does)}"
    if not capability.source.startswith(PACKAGED) or " and " in capability.source:
        yield f"    described by {capability.source}"


def what_is_lent(capability: Capability, offer: Offer) -> str:
    """Tell the owner what others may have done here, and what not."""
    lent = ", ".join(label.partition(":")[0] for label in offer.actions)
    kept = ", ".join(lending.kept(capability))
    rest = f"; not {kept}, which would run code of the task's own" if kept else ""
    return f"of {offer.capability} only: {lent}{rest}"
