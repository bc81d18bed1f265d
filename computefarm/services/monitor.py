"""The Monitor's loop: sample the host, report what matters, stay out of the way."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

import msgspec

from computefarm.host.load import LoadSampler, significant
from computefarm.host.policy import Policy
from computefarm.messages import Disconnect, FromManager, Goodbye, Heartbeat, LoadReport, Reported, Welcome
from computefarm.transport.peer_end import LinkEvent, PeerEnd

from .clock import FarmClock
from .dialling import Dialler
from .link import Link
from .loop import Loop
from .own_records import OwnRecords

log = logging.getLogger("computefarm.monitor")

GLANCES = 3
"""Samples per reporting interval: a sudden change is told before the interval is over."""


class MonitorService:
    """Reports this host's load every `interval_s`, and at once when it changed by a tenth."""

    def __init__(
        self,
        *,
        host: str,
        hostname: str,
        control: PeerEnd,
        sampler: LoadSampler,
        interval_s: float = 3.0,
        max_load: float | None = None,
        policy: Callable[[], Policy] = Policy,
        wanted: Callable[[], bool] | None = None,
        done: Callable[[], None] | None = None,
        dialler: Dialler | None = None,
        own: OwnRecords | None = None,
    ) -> None:
        """`own` has this process's records for the farm's log, `policy` what the owner wants now."""
        self._own = own
        self._farm_clock = FarmClock()
        self._host = host
        self._hostname = hostname
        self._sampler = sampler
        self._interval_s = interval_s
        self._max_load = max_load
        self._policy = policy
        self._wanted = wanted
        self._done = done
        self._greeted = False
        self._last: LoadReport | None = None
        self._last_at = float("-inf")
        self._beat_s = float("inf")
        """How often the manager wants to hear something; reports may be rarer."""
        self._said_at = float("-inf")
        self._next = 0.0
        self._complain_at = float("inf")
        self._down_text = ""
        self._link = Link(
            role="monitor",
            host=host,
            hostname=hostname,
            control=control,
            bulk=None,
            up=lambda: None,
            message=self._heard,
            down=self._down,
            dialler=dialler,
            clock=self._farm_clock,
        )

    def attach(self, loop: Loop) -> None:
        """Register the connection."""
        self._clock = loop.clock
        self._next = loop.clock()
        self._link.attach(loop)

    def tick(self, now: float) -> None:
        """Sample; report when it is time or when the change is worth it."""
        self._link.tick(now)
        self._next = now + min(self._interval_s / GLANCES, self._beat_s)
        if self._wanted is not None and not self._wanted() and self._done is not None:
            self._done()
            return
        if now >= self._complain_at:
            log.warning("no TaskManager (%s); trying on", self._down_text)
            self._complain_at = now + 10.0
        report = self._sample(now)
        due = now - self._last_at >= self._interval_s - 0.01
        if self._greeted and (due or self._last is None or significant(self._last, report)):
            self._report(report, now)
        elif self._greeted and now - self._said_at >= self._beat_s - 0.01:
            self._link.say(Heartbeat())
            self._said_at = now

    def next_deadline(self) -> float | None:
        """Return when the next sample is taken."""
        return self._next

    def pace(self) -> float:
        """A monitor turns seldom anyway."""
        return 0.0

    def flush(self) -> None:
        """Send the report, and what this process has logged."""
        if self._own and self._link.welcome:
            records = self._own.take(self._clock(), self._farm_clock)
            if records:
                self._link.say(Reported("monitor", records))
        self._link.flush()

    def close(self) -> None:
        """Say goodbye."""
        if self._greeted:
            self._link.say(Goodbye("the monitor stops"))
        self._link.close()

    def _sample(self, now: float) -> LoadReport:
        facts = self._sampler.sample(now)
        policy = self._policy()
        held = policy.holds(datetime.now(), facts.users, on_battery=facts.on_battery)
        limits = [limit for limit in (self._max_load, policy.max_load) if limit is not None]
        return msgspec.structs.replace(
            facts,
            host=self._host,
            hostname=self._hostname,
            # At a limit of 0 nothing begins, whatever the load.
            max_load=0.0 if held else min(limits, default=None),
            policy=held,
            interval_s=self._interval_s,
            clock_offset_s=self._farm_clock.measured_s(),
        )

    def _report(self, report: LoadReport, now: float) -> None:
        self._link.say(report)
        self._last = report
        self._last_at = self._said_at = now

    def _heard(self, message: FromManager) -> None:
        match message:
            case Welcome():
                log.info("reporting to farm %s", message.farm)
                self._greeted = True
                self._beat_s = message.heartbeat_s
                self._complain_at = float("inf")
                now = self._clock()
                self._next = min(self._next, now + self._beat_s)
                self._report(self._sample(now), now)
            case Disconnect(code=code, text=text):
                self._greeted = False
                log.warning("%s", text)
                if code in ("protocol", "stopping"):
                    self._link.reconnect()
                else:
                    self._link.reconnect_later()

    def _down(self, event: LinkEvent) -> None:
        self._greeted = False
        self._down_text = f"{event.text}; try: {event.hint}" if event.hint else event.text
        self._last = None
        if self._complain_at == float("inf"):
            self._complain_at = self._clock() + 1.0
