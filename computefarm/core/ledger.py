"""What a host carries: load as reported, plus what was sent there since that report.

A report tells the host's foreign load and our own share of it at one moment.
What was sent later is in neither, so it is reserved here until the next report has seen it or it has ended.
"""

from __future__ import annotations

import msgspec


class Charge(msgspec.Struct, frozen=True, gc=False):
    """What one attempt was charged; handed back to `release` when it ends."""

    load: float
    """In cores."""
    memory: int
    """Bytes."""
    report: int
    """The number of reports seen when it was charged."""


class Ledger(msgspec.Struct, gc=False):
    """The books of one host."""

    foreign: float = 0.0
    """Load per core that is not ours, as last reported."""
    ours: float = 0.0
    """Load per core that was ours in the same sample."""
    reports: int = 0
    live: int = 0
    """Attempts charged and not released."""
    since: float = 0.0
    """Cores expected by attempts sent since the last report."""
    sampled: float = 0.0
    """Cores expected by live attempts that the last report saw."""
    sampled_then: float = 0.0
    """`sampled` at the moment of that report."""
    memory: int = 0
    """Bytes expected by live attempts."""
    memory_since: int = 0
    """The part of `memory` that the last report has not seen."""

    def charge(self, load: float, memory: int) -> Charge:
        """Reserve for an attempt that is sent now."""
        self.live += 1
        self.since += load
        self.memory += memory
        self.memory_since += memory
        return Charge(load, memory, self.reports)

    def release(self, charge: Charge) -> None:
        """Take back what an attempt was charged."""
        self.live -= 1
        self.memory -= charge.memory
        if charge.report == self.reports:
            self.since -= charge.load
            self.memory_since -= charge.memory
        else:
            self.sampled -= charge.load
        if self.live == 0:  # sums of floats drift; nothing may stay reserved for nobody
            self.since = self.sampled = 0.0

    def report(self, foreign: float, ours: float) -> None:
        """Enter a new sample: what was sent before it is part of it from now on."""
        self.foreign, self.ours = foreign, ours
        self.reports += 1
        self.sampled += self.since
        self.sampled_then = self.sampled
        self.since = 0.0
        self.memory_since = 0

    def projected(self, cpus: int) -> float:
        """Return the load per core expected now on a host with `cpus` cores."""
        still = self.sampled / self.sampled_then if self.sampled_then > 0 else 0.0
        return self.foreign + self.ours * min(1.0, still) + self.since / max(1, cpus)
