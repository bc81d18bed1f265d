"""What a worker offers: probed again when a program is missed, withdrawn, and offered again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from computefarm.catalogue import Probed
from computefarm.errors import FarmError
from computefarm.messages import Offer

from .loop import Loop
from .offload import Offload

log = logging.getLogger("computefarm.worker")

AGAIN_S = 30.0
"""How often what was withdrawn is probed again: a package that is being replaced is back in less."""

Then = Callable[[str], None]
"""Told why the capability is not what it was; the empty string when it is."""


class Offering:
    """The offers of one worker. Every method runs on the loop's thread; programs are run on another."""

    def __init__(self, probe: Callable[[str], Probed], changed: Callable[[tuple[Offer, ...]], None]) -> None:
        self._probe = probe
        self._changed = changed
        self._offers: dict[str, Offer] = {}
        self._withdrawn: set[str] = set()
        self._asking: dict[str, list[Then]] = {}
        """Capabilities that are being probed, with those who want to know."""
        self._again_at: float | None = None
        self._offload: Offload | None = None

    def attach(self, loop: Loop) -> None:
        """Know the loop; the thread is started when there is something to probe."""
        self._loop = loop

    def set(self, offers: Iterable[Offer]) -> None:
        """Offer exactly these."""
        self._offers = {offer.capability: offer for offer in offers}
        self._withdrawn.clear()
        self._again_at = None

    def check(self, capability: str, then: Then) -> None:
        """Probe one capability now; `then` is told how it is."""
        if capability in self._withdrawn:
            then(f"{capability} is not offered here any more")
            return
        self._ask(capability, then)

    def check_all(self) -> None:
        """Probe everything that is offered, and everything that was."""
        for capability in (*self._offers, *self._withdrawn):
            self._ask(capability, lambda reason: None)

    def tick(self, now: float) -> None:
        """Probe what was withdrawn once more, when it is time."""
        if self._again_at is not None and now >= self._again_at:
            self._again_at = now + AGAIN_S
            for capability in self._withdrawn:
                self._ask(capability, lambda reason: None)

    def next_deadline(self) -> float | None:
        """Return when `tick` is wanted."""
        return self._again_at

    def close(self) -> None:
        """End the thread."""
        if self._offload is not None:
            self._offload.close(self._loop)

    def _ask(self, capability: str, then: Then) -> None:
        waiting = self._asking.setdefault(capability, [])
        waiting.append(then)
        if len(waiting) > 1:
            return
        if self._offload is None:
            self._offload = Offload("cf-probe")
            self._offload.attach(self._loop)
        self._offload.submit(
            lambda: self._probe(capability), lambda value, error: self._answered(capability, value, error)
        )

    def _answered(self, capability: str, value: Any, error: BaseException | None) -> None:
        if isinstance(error, FarmError | OSError):
            value = Probed(capability, None, (str(error),))
        elif error is not None:
            raise error
        assert isinstance(value, Probed)
        reason = self._settle(capability, value)
        for then in self._asking.pop(capability):
            then(reason)

    def _settle(self, capability: str, probed: Probed) -> str:
        """Take over what a probe showed; return what is different from before."""
        before, now = self._offers.get(capability), probed.offer
        if now is None:
            reason = f"{capability} is no longer offered: {'; '.join(probed.missing)}"
            self._withdrawn.add(capability)
            if self._again_at is None:
                self._again_at = self._loop.clock() + AGAIN_S
            if before is not None:
                log.error("%s; it is probed again every %.0f s", reason, AGAIN_S)
                del self._offers[capability]
                self._changed(tuple(self._offers.values()))
            return reason
        self._withdrawn.discard(capability)
        if not self._withdrawn:
            self._again_at = None
        if now == before:
            return ""
        self._offers[capability] = now
        self._changed(tuple(self._offers.values()))
        if before is None:
            log.info("offering %s %s again", capability, now.version)
            return ""
        log.warning(
            "%s has changed: %s %s → %s %s",
            capability, before.version, before.fingerprint, now.version, now.fingerprint,
        )  # fmt: skip
        return f"{capability} has changed on this machine: {before.version} → {now.version}"
