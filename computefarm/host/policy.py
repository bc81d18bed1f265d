"""An owner's policy: when a machine takes tasks, in a small TOML file that is read again when it changes.

    max-load = 0.5                           # of other work, per core: at that load nothing new begins
    hours = ["19:00-07:00", "sat", "sun"]    # only then, by this machine's clock
    users = false                            # not while somebody is logged in
    battery = false                          # not on battery
"""

from __future__ import annotations

import logging
import math
import re
import tomllib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from computefarm.errors import UsageError
from computefarm.spelling import did_you_mean

FILE = "policy.toml"
"""In the home: what the monitor obeys unless `--policy` names another file."""

KEYS = ("max-load", "hours", "users", "battery")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SPAN = re.compile(r"(?:(?P<day>[a-z]{3})\s*)?(?:(\d{1,2}):(\d\d)\s*-\s*(\d{1,2}):(\d\d))?", re.ASCII)
_DAY_MIN = 24 * 60

log = logging.getLogger("computefarm.monitor")


class Hours(msgspec.Struct, frozen=True):
    """A span of a day or of every day, in minutes; one that ends before it begins goes over midnight."""

    day: int | None
    begin: int
    end: int

    def covers(self, when: datetime) -> bool:
        """Tell whether a moment lies in it; a span over midnight belongs to the day on which it begins."""
        minute = when.hour * 60 + when.minute
        if self.begin < self.end:
            return self.day in (None, when.weekday()) and self.begin <= minute < self.end
        if minute >= self.begin:
            return self.day in (None, when.weekday())
        return minute < self.end and self.day in (None, (when.weekday() - 1) % 7)


class Policy(msgspec.Struct, frozen=True):
    """What an owner wants; the default forbids nothing."""

    max_load: float | None = None
    hours: tuple[Hours, ...] = ()
    hours_text: str = ""
    users: bool = True
    battery: bool = True

    def holds(self, when: datetime, users: int, *, on_battery: bool) -> str:
        """Say, for people, why nothing may begin at this moment; empty when it may."""
        if self.hours and not any(span.covers(when) for span in self.hours):
            return f"its owner lends it only {self.hours_text}"
        if users and not self.users:
            return "its owner is using it"
        if on_battery and not self.battery:
            return "it runs on battery"
        return ""


def parse(text: str, source: str) -> Policy:
    """Return the policy that a text describes; raises `UsageError` naming file, key and what was expected."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{source}: {error}") from error
    for key in raw:
        if key not in KEYS:
            raise UsageError(
                f"{source}: unknown key {key!r}, expected one of {', '.join(KEYS)}{did_you_mean(key, KEYS)}"
            )
    hours = raw.get("hours", [])
    if not isinstance(hours, list) or not all(isinstance(one, str) for one in hours):
        expected = 'a list such as ["19:00-07:00", "sat"] was expected'
        raise UsageError(f"{source}: hours: {expected}, got {hours!r}")
    return Policy(
        max_load=_max_load(raw, source),
        hours=tuple(_hours(one, source) for one in hours),
        hours_text=", ".join(hours),
        users=_flag(raw, "users", source),
        battery=_flag(raw, "battery", source),
    )


def _max_load(raw: Mapping[str, Any], source: str) -> float | None:
    value = raw.get("max-load")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise UsageError(f"{source}: max-load: a load per core above 0 was expected, as 0.8, got {value!r}")
    return float(value)


def _flag(raw: Mapping[str, Any], key: str, source: str) -> bool:
    value = raw.get(key, True)
    if not isinstance(value, bool):
        raise UsageError(f"{source}: {key}: true or false was expected, got {value!r}")
    return value


def _hours(text: str, source: str) -> Hours:
    expected = f'{source}: hours: {text!r} is no span; expected "19:00-07:00", "sat" or "sat 08:00-20:00"'
    match = _SPAN.fullmatch(text.strip().lower())
    if match is None or not text.strip() or (match["day"] and match["day"] not in DAYS):
        raise UsageError(expected)
    day = DAYS.index(match["day"]) if match["day"] else None
    if match[2] is None:
        return Hours(day, 0, _DAY_MIN)
    begin, end = int(match[2]) * 60 + int(match[3]), int(match[4]) * 60 + int(match[5])
    if int(match[3]) > 59 or int(match[5]) > 59 or begin >= _DAY_MIN or end > _DAY_MIN or begin == end:
        raise UsageError(expected)
    return Hours(day, begin, end)


class PolicyFile:
    """A policy that follows its file; a file that becomes wrong leaves the last good policy in force."""

    def __init__(self, path: Path, *, required: bool) -> None:
        """Read it; raises `UsageError` for a wrong file, or none where it is `required`."""
        self.path = path
        self._required = required
        self._stamp = self._look()
        if self._stamp is None and required:
            raise UsageError(f"--policy {path}: there is no such file", hint=f"write it, such as: {EXAMPLE}")
        self.policy = parse(self._text(), str(path)) if self._stamp is not None else Policy()

    def current(self) -> Policy:
        """Return the policy, read again when the file has changed."""
        stamp = self._look()
        if stamp == self._stamp:
            return self.policy
        self._stamp = stamp
        if stamp is None and self._required:
            log.warning("%s is gone; what it said still holds", self.path)
            return self.policy
        try:
            self.policy = parse(self._text(), str(self.path)) if stamp is not None else Policy()
            log.info("%s: read again", self.path)
        except UsageError as error:
            log.warning("%s; what it said before still holds", error)
        return self.policy

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _text(self) -> str:
        try:
            return self.path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{self.path} cannot be read: {error}") from error


EXAMPLE = """hours = ["19:00-07:00", "sat", "sun"]"""
