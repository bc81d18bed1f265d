"""The devices of a worker that answers requests: what each has answered, and what it has in hand."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import msgspec

from computefarm.messages import DeviceLoad, DeviceStatus

UNITS = "units"
"""A tag: the GPUs of a worker, as its answers name them, with `; ` between them."""

VRAM = "vram"
"""A tag: how much memory of each of its GPUs requests may use, as in `75000MiB 75000MiB`."""

FIRST = "gpu-first"
"""A tag of workers whose GPUs take what may run anywhere, too."""

MOST = 64
"""Devices of one worker that figures are kept of."""

SAMPLES = 512
"""Latencies that the percentiles are taken from: the last so many."""


class Device(msgspec.Struct, eq=False):
    """The figures of one device."""

    served: int = 0
    failed: int = 0
    latencies: deque[float] = msgspec.field(default_factory=lambda: deque(maxlen=SAMPLES))
    """Milliseconds."""
    running: int = 0
    since: float = 0.0
    """When the oldest request that runs there began to."""


class Devices:
    """The devices of one worker, by name."""

    def __init__(self) -> None:
        self._known: dict[str, Device] = {}

    def answered(self, name: str, good: bool, failed: bool, took_s: float) -> None:
        """Enter one answer of a device."""
        device = self._get(name)
        if device is None:
            return
        device.served += good
        device.failed += failed
        if good:
            device.latencies.append(took_s * 1000.0)

    def heard(self, loads: Iterable[DeviceLoad], now: float) -> None:
        """Take what the worker says it computes; a device that it does not name computes nothing."""
        for device in self._known.values():
            device.running = 0
        for load in loads:
            named = self._get(load.device)
            if named is not None:
                named.running, named.since = load.running, now - load.oldest_s

    def status(self, units: str, busy: bool, now: float) -> tuple[DeviceStatus, ...]:
        """Return the devices' lines in `status`, with those of the tag `units` that have answered nothing."""
        for name in filter(None, units.split("; ")):
            self._get(name)
        return tuple(_line(name, self._known[name], busy, now) for name in sorted(self._known))

    def _get(self, name: str) -> Device | None:
        if name and name not in self._known and len(self._known) < MOST:
            self._known[name] = Device()
        return self._known.get(name)


def _line(name: str, device: Device, busy: bool, now: float) -> DeviceStatus:
    times = sorted(device.latencies)
    running = device.running if busy else 0
    return DeviceStatus(
        name,
        running,
        device.served,
        device.failed,
        percentile(times, 0.50),
        percentile(times, 0.95),
        percentile(times, 0.99),
        max(0.0, now - device.since) if running else 0.0,
    )


def percentile(ordered: list[float], share: float) -> float:
    """Return the value that `share` of the ordered values do not exceed; 0 when there is none."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def budgets(tag: str) -> list[int]:
    """Return the bytes of each GPU, from the tag `vram`."""
    words = [word.removesuffix("MiB") for word in tag.split()]
    return [int(word) << 20 for word in words if word.isascii() and word.isdecimal()]
