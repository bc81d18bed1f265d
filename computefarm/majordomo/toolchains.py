"""One toolchain per capability and run, so that hosts with different compilers never mix silently."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import msgspec

from computefarm.backends.base import Offered
from computefarm.core.versions import satisfies
from computefarm.messages import Need, Offer, Pool

if TYPE_CHECKING:
    from computefarm.needs import Needs


class Toolchain(msgspec.Struct, frozen=True):
    """What a run uses for one capability."""

    capability: str
    version: str
    fingerprint: str
    platform: str
    others: tuple[str, ...] = ()
    """Versions that were offered too, with their workers, for `why`."""
    variant: str = ""
    """Which of the capability's variants it is; empty where there are none."""
    offer: Offer | None = None
    """What a worker with it offers."""


VARIANT = "variant"
"""The tag that says which variant of a capability a worker offers."""

Key = tuple[str, str, tuple[tuple[str, str], ...], str]


class Toolchains:
    """Chooses before the first task of a capability, and keeps to it."""

    def __init__(
        self,
        offers: Callable[[str], Offered],
        saved: Callable[[str], dict[tuple[str, str], int]],
        say: Callable[[str], None],
    ) -> None:
        self._offers = offers
        self._saved = saved
        self._say = say
        self._chosen: dict[Key, Toolchain | None] = {}
        self._pools: tuple[Pool, ...] = ()

    def of(self, asked: Needs) -> Toolchain | None:
        """Return the toolchain for a need; None when nothing offers it now or any will do."""
        if asked.any_toolchain:
            return None
        tags = tuple(sorted(asked.tags.items())) if asked.tags else ()
        key = (asked.capability, asked.version, tags, asked.action.get("label", "") if asked.action else "")
        try:
            return self._chosen[key]
        except KeyError:
            pass
        chosen = self._chosen[key] = self._choose(asked)
        if chosen is None:
            kept = sum(self._saved(asked.capability).values())
            if kept:
                self._say(
                    f"nothing offers {asked.capability}{asked.version} now; "
                    "results that exist count as up to date"
                )
        return chosen

    def _choose(self, asked: Needs) -> Toolchain | None:
        pools = [
            pool for pool in self._offers(asked.capability).pools if fits(pool.offer, asked, pool.platform)
        ]
        if not pools:
            return None
        slots: dict[str, int] = {}
        for pool in pools:
            slots[pool.offer.fingerprint] = slots.get(pool.offer.fingerprint, 0) + pool.slots
        saved: dict[str, int] = {}
        for (fingerprint, _), count in self._saved(asked.capability).items():
            saved[fingerprint] = saved.get(fingerprint, 0) + count
        used = {
            known.fingerprint
            for known in self._chosen.values()
            if known is not None and known.capability == asked.capability
        }
        # In this order: what the run uses already, what results carry, what most slots offer; ties by name.
        best = max(slots, key=lambda f: (f in used, saved.get(f, 0), slots[f], f))
        return _toolchain(pools, best)

    def variant(self, asked: Needs, toolchain: Toolchain | None) -> str:
        """Return which variant of its action a task is to use; empty where there are none.

        Without a toolchain it is the first that is offered now, else the first of all.
        """
        variants: dict[str, object] = asked.action.get("variants", {})
        if not variants or toolchain is not None:
            return toolchain.variant if toolchain is not None else ""
        fitting = [pool.offer for pool in self._pools if fits(pool.offer, asked, pool.platform)]
        offered = {dict(offer.tags).get(VARIANT, "") for offer in fitting}
        return next((name for name in variants if name in offered), next(iter(variants)))

    def offer(self, asked: Needs, toolchain: Toolchain | None) -> Offer | None:
        """Return an offer that a task's defaults come from; None when nothing offers it now."""
        if toolchain is not None:
            return toolchain.offer
        offers = (pool.offer for pool in self._pools if fits(pool.offer, asked, pool.platform))
        return next(offers, None)

    def note(self, pools: Iterable[Pool]) -> None:
        """Remember what is offered now; a need for which nothing was offered before is decided anew."""
        self._pools = tuple(pools)
        offered = {pool.offer.capability for pool in self._pools}
        for key in [key for key, known in self._chosen.items() if known is None and key[0] in offered]:
            del self._chosen[key]

    @property
    def pools(self) -> tuple[Pool, ...]:
        """Return everything that was offered when it was last looked at."""
        return self._pools

    def ran_on(self, asked: Needs, worker: str) -> tuple[str, str]:
        """Return (fingerprint, version) of what a worker offers for a need, empty when unknown."""
        for pool in self._pools:
            if worker in pool.workers and fits(pool.offer, asked, pool.platform):
                return pool.offer.fingerprint, pool.offer.version
        return "", ""


def _toolchain(pools: list[Pool], fingerprint: str) -> Toolchain:
    mine = [pool for pool in pools if pool.offer.fingerprint == fingerprint]
    platforms = {pool.platform for pool in mine}
    others = tuple(
        f"{pool.offer.capability} {pool.offer.version} ({', '.join(pool.workers)})"
        for pool in pools
        if pool.offer.fingerprint != fingerprint
    )
    offer = mine[0].offer
    # The same fingerprint on two platforms (a shell script): either will do, and the result says no platform.
    platform = platforms.pop() if len(platforms) == 1 else ""
    variant = dict(offer.tags).get(VARIANT, "")
    return Toolchain(offer.capability, offer.version, fingerprint, platform, others, variant, offer)


def need_of(asked: Needs, offer: Offer | None, *, fingerprint: str = "", action: str = "") -> Need:
    """Return what a worker must have for a task; what the task does not say, the capability's file does.

    A named action has said all but its memory already.
    """
    told = offer if offer is not None and not asked.action else Offer(asked.capability)
    cpus = told.cpus if asked.cpus is None else asked.cpus
    memory = offer.memory if offer is not None else 0
    return Need(
        capability=asked.capability,
        version=asked.version,
        tags=tuple(sorted(asked.tags.items())),
        cpus=cpus,
        memory=memory if asked.memory is None else asked.memory,
        gpus=told.gpus if asked.gpus is None else asked.gpus,
        exclusive=asked.exclusive,
        load=float(cpus) if asked.load is None else asked.load,
        fingerprint=fingerprint,
        action=action,
        logs=asked.logs or (offer.logs if offer is not None else ""),
        expected=asked.memory is None and memory > 0,
    )


def fits(offer: Offer, asked: Needs, platform: str = "") -> bool:
    """Say whether an offer has the capability, the version and the tags of a need, and does its action.

    The tag `platform` is the worker's own, unless the offer has one of that name.
    """
    if offer.capability != asked.capability or not satisfies(offer.version, asked.version):
        return False
    if offer.actions and asked.action.get("label") not in offer.actions:
        return False
    tags = {"platform": platform, **dict(offer.tags)}
    variants = asked.action.get("variants") if asked.action else None
    if variants and tags.get(VARIANT) not in variants:
        return False
    return all(tags.get(name) == value for name, value in asked.tags.items())
