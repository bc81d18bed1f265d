"""The part of a worker that answers requests: warm processes, and the offer they make when they are ready."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import psutil

from computefarm.catalogue import VARIANT, Probed
from computefarm.core.volatile_devices import FIRST, UNITS, VRAM
from computefarm.core.volatile_servers import DEVICES
from computefarm.core.volatile_servers import MEMORY_SHARE as MEMORY_SHARE
from computefarm.home import private_folder
from computefarm.messages import FromManager, Heartbeat, Offer, Request, ToManager, Withdraw
from computefarm.worker_api.resident import PlacingPlugin, ResidentPlugin, warmed

from .equip import KERNELS, Toolbox
from .loop import Loop
from .resident_process import Post
from .residents import Residents, Tags

GPU = "gpu"
"""The variant whose processes are placed on GPUs."""

log = logging.getLogger("computefarm.worker")


class WarmCapability:
    """One capability whose requests are answered by processes that stay."""

    def __init__(
        self,
        offer: Offer,
        command: Sequence[str],
        slots: int,
        others: Sequence[Offer],
        posts: Sequence[Post] = (),
        spare: Offer | None = None,
        *,
        together: bool = False,
    ) -> None:
        """`offer` is announced, with what the processes say of themselves, when they are warm.

        `others` is what the worker offers from the start; `posts` what to start for slots that do not all
        compute on the CPU, and `spare` is announced instead of `offer` when all of them do.
        `together`: nothing is left to compile, so all processes may start at once.
        """
        self._offer = offer
        self._spare = spare or offer
        self._command = command
        self._slots = slots
        self._together = together
        self._posts = tuple(posts)
        self._others = tuple(others)
        self._tags: Tags | None = None

    def attach(
        self, loop: Loop, *, say: Callable[[ToManager], None], offer: Callable[[tuple[Offer, ...]], None]
    ) -> None:
        """Begin to warm up; `offer` is called with everything that the worker offers then."""
        self._announce = offer
        self._residents = Residents(
            self._command,
            self._slots,
            reply=say,
            ready=self._warm,
            alive=lambda: say(Heartbeat(self._residents.devices())),
            posts=self._posts,
            together=self._together,
        )
        self._residents.attach(loop)
        log.info("%s is warming up, and offered when that is done", self._offer.capability)

    def tick(self, now: float) -> None:
        """Let the processes' time pass."""
        self._residents.tick(now)

    def next_deadline(self) -> float | None:
        """Return when to call `tick`."""
        return self._residents.next_deadline()

    def close(self) -> None:
        """End the processes."""
        self._residents.close()

    def heard(self, message: FromManager) -> None:
        """Take what concerns requests; everything else is somebody else's."""
        match message:
            case Request():
                self._residents.ask(message)
            case Withdraw(numbers=numbers):
                self._residents.withdraw(numbers)

    def disconnected(self) -> None:
        """The manager gives to others what we have in hand."""
        self._residents.withdraw_all()

    def probing(self, probe: Callable[[str], Probed]) -> Callable[[str], Probed]:
        """Return a probe that keeps what the processes have said."""

        def probed(capability: str) -> Probed:
            found = probe(capability)
            if capability != self._offer.capability or found.offer is None or self._tags is None:
                return found
            lost = self._spare is not self._offer and not _on_gpu(self._tags)
            return msgspec.structs.replace(
                found, offer=_with(self._spare if lost else found.offer, self._tags)
            )

        return probed

    def _warm(self, tags: Tags) -> None:
        self._tags = self._with_units(tags)
        told = " ".join(f"{name}={value}" for name, value in self._tags)
        log.info("offering %s: %s", self._offer.capability, told)
        offer = self._offer if _on_gpu(tags) else self._spare
        self._announce((*self._others, _with(offer, self._tags)))

    def _with_units(self, tags: Tags) -> Tags:
        """Add which GPUs there are, and how much of their memory requests may use, while they are used."""
        units = {post.place.unit: post.place.vram for post in self._posts if post.place.unit}
        if not units or not _on_gpu(tags):
            return tags
        if not all(post.place.reserved for post in self._posts if post.place.unit):
            tags = (*tags, (FIRST, "yes"))
        more = {UNITS: "; ".join(units), VRAM: " ".join(f"{size >> 20}MiB" for size in units.values())}
        return tuple(sorted({**dict(tags), **more}.items()))


def _on_gpu(tags: Tags) -> bool:
    return "cuda" in dict(tags).get(DEVICES, "").split()


def _with(offer: Offer, tags: Tags) -> Offer:
    return msgspec.structs.replace(offer, tags=tuple(sorted({**dict(offer.tags), **dict(tags)}.items())))


def warm_capability(
    toolbox: Toolbox, offers: Sequence[Offer], *, slots: int, cache: Path, nice: int
) -> tuple[WarmCapability | None, list[Offer]]:
    """Return what must warm up before it is offered, and what can be offered at once."""
    at_once: list[Offer] = []
    found: tuple[Offer, ResidentPlugin] | None = None
    for offer in offers:
        plugin = toolbox.plugin(offer.capability)
        if isinstance(plugin, ResidentPlugin) and found is None:
            found = offer, plugin
        else:
            at_once.append(offer)
    if found is None:
        return None, at_once
    offer, resident = found
    variant = dict(offer.tags).get(VARIANT, "")
    folder = private_folder(cache / KERNELS)
    # The manager sees to it that those that run together fit.
    memory = int(psutil.virtual_memory().total * MEMORY_SHARE)

    def command(device: str) -> tuple[str, ...]:
        return resident.resident(device=device, memory=memory, cache=str(folder), nice=nice)

    posts: list[Post] = []
    if variant == GPU and isinstance(resident, PlacingPlugin):
        places, reason = resident.places(slots=slots, environ=os.environ)
        posts = [Post(command(place.device), place) for place in places]
        if reason:
            log.warning("%s: %s", offer.capability, reason)
        for number, place in enumerate(places, 1):
            log.info("slot %d computes on %s", number, place.unit or "the CPU")
    spare = toolbox.without(offer.capability, GPU) if posts else None
    together = warmed(str(folder)).exists()
    return WarmCapability(offer, command("cpu"), slots, at_once, posts, spare, together=together), at_once
