"""`majordomo host doctor`: what is well with a host, what is not, and what to type then."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import msgspec

from computefarm import __version__
from computefarm.errors import FarmError
from computefarm.home import Home
from computefarm.messages import Status
from computefarm.needs import parse_requirement
from computefarm.remote.farside import Facts, FarSide
from computefarm.remote.inventory import Host
from computefarm.remote.ssh import Connection
from computefarm.transport.addresses import parse_address
from computefarm.transport.reach import firewall_line

from .host_adding import REACH_S, look
from .host_farm import ManagedFarm, candidates, own_addresses, read_probe
from .host_tunnel import Tunnel

CLOCK_S = 5.0
"""A clock that is further off makes logs and build tools go wrong."""

ROOM = 1024**3
"""Bytes that a host should have free."""

Json = dict[str, Any]


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    check: str
    ok: bool
    text: str
    next: str = ""
    """The next command to type, where something is wrong."""


class Doctor:
    """Looks at one host from both sides."""

    def __init__(self, home: Home, farm: ManagedFarm, host: Host) -> None:
        self._home = home
        self._farm = farm
        self._host = host
        self._again = f"majordomo host add {host.target.where}"
        self.clock_offset_s: float | None = None

    def checks(self) -> Iterator[Check]:
        """Look at one thing after the other; what cannot be looked at is not named."""
        status = None
        try:
            status = self._farm.status()
        except FarmError as error:
            yield wrong("manager", error)
        if self._host.via_ssh:
            yield self._tunnel()
        try:
            connection = Connection(self._host.target).open()
        except FarmError as error:
            yield wrong("ssh", error)
            yield from self._seen(status)
            return
        with contextlib.closing(connection):
            yield Check("ssh", True, f"logged in in {connection.login_s:.2f} s")
            yield from self._inside(FarSide(connection), status)

    def _inside(self, far: FarSide, status: Status | None) -> Iterator[Check]:
        try:
            facts = far.look(self._host.environ.get("CF_HOME", ""))
            seen = look(far, facts.config, self._farm, self._host)
            yield from self._program(seen)
            yield self._clock(far)
            yield self._disk(seen)
            if self._farm.access.address:
                yield self._port(far, facts)
            yield self._key(seen)
            yield from self._services(seen["services"])
            yield from self._seen(status)
            if seen["digest"]:
                yield from self._capabilities(far)
        except FarmError as error:
            yield wrong("host", error)

    def _tunnel(self) -> Check:
        tunnel = Tunnel(self._home, self._farm.name, self._host.name)
        text = f"127.0.0.1:{self._host.port} there leads here"
        if tunnel.up:
            return Check("tunnel", True, text)
        said = [line for line in tunnel.state()["lines"] if " KEEPER " not in line][-1:] or [
            "it does not run"
        ]
        return Check("tunnel", False, said[0], self._again)

    def _program(self, seen: Json) -> Iterator[Check]:
        if not seen["digest"]:
            yield Check("program", False, f"{self._host.venv} is missing or incomplete", self._again)
        elif self._host.version != __version__:
            text = f"version {self._host.version} there, {__version__} here"
            yield Check("version", False, text, f"{self._again}    # updates it")
        else:
            yield Check("version", True, f"{self._host.version}, as here")

    def _clock(self, far: FarSide) -> Check:
        offset, doubt = far.clock_offset()
        self.clock_offset_s = offset
        text = f"{offset:+.3f} s against this machine (within {doubt * 1000:.1f} ms)"
        good = abs(offset) - doubt <= CLOCK_S
        return Check("clock", good, text, "" if good else "sudo timedatectl set-ntp true    # there")

    def _disk(self, seen: Json) -> Check:
        text = f"{seen['free'] / 1024**3:.1f} GiB of {seen['total'] / 1024**3:.1f} are free"
        good = seen["free"] >= ROOM
        return Check("disk", good, text, "" if good else self._host.target.typed("ssh", "du -sh ~/.cache"))

    def _port(self, far: FarSide, facts: Facts) -> Check:
        dials = parse_address(self._host.address)
        (found,) = far.ask("reach", addresses=[(dials.host, dials.port)], patience_s=REACH_S)
        if found["ok"]:
            return Check("port", True, f"it reaches {dials} in {found['text']}")
        text = f"it does not reach {dials}: {found['text']}"
        if self._host.via_ssh:
            return Check("port", False, text, f"{self._again} --via-ssh")
        moved = candidates(self._farm.address, facts.client, own_addresses(self._host.target.host))
        if dials not in moved:
            return Check("port", False, f"{text}; the manager is at {self._farm.address} now", self._again)
        line = f"{firewall_line(dials.port)}    # here; or: {self._again} --via-ssh"
        return Check("port", False, text, line)

    def _key(self, seen: Json) -> Check:
        there = seen["farm"]
        if there is None or not there["key"]:
            return Check("key", False, "it has no key of this farm", self._again)
        if not self._farm.lets_in(there["key"]):
            return Check("key", False, "its key is not accepted (it was revoked?)", self._again)
        if there["address"] != self._host.address:
            text = f"it dials {there['address']}, not {self._host.address}"
            return Check("key", False, text, self._again)
        return Check("key", True, "known and accepted")

    def _services(self, state: Json) -> Iterator[Check]:
        if not state["services"]:
            yield Check("services", False, "none is set up", self._again)
            return
        for one in state["services"]:
            kind = one["name"].rpartition("-")[2]
            if one["running"]:
                again = f", started again {one['restarts']} times" if one["restarts"] else ""
                yield Check(kind, True, f"runs under {state['how']}{again}")
                continue
            code = "" if one["exit"] is None else f" (exit {one['exit']})"
            lines = "".join(f"\n{line}" for line in state["lines"][-5:])
            yield Check(kind, False, f"does not run{code}; the end of {state['log']}:{lines}", self._again)

    def _seen(self, status: Status | None) -> Iterator[Check]:
        if status is None:
            return
        mine = [one for one in status.workers if one.host == self._host.host]
        # One that was started again leaves its old self behind for a few seconds.
        workers = [one for one in mine if one.state != "silent"] or mine
        if not workers:
            log = self._host.target.typed("ssh", f"tail {self._host.services_folder}/*.log")
            yield Check("farm", False, "the farm sees no worker of it", log)
        for one in workers:
            good = one.state not in ("silent", "quarantined")
            reason = f": {one.reason}" if one.reason else ""
            yield Check(
                "farm", good, f"worker {one.worker} is {one.state}{reason}", "" if good else self._again
            )

    def _capabilities(self, far: FarSide) -> Iterator[Check]:
        program = f"{self._host.venv}/bin/cf-worker"
        done = far.call(program, "--probe", environ=self._host.environ, timeout_s=300)
        if done["code"]:
            yield Check("capabilities", False, f"cf-worker --probe fails: {done['err'].strip()}", self._again)
            return
        offered, missing = read_probe(done["out"])
        wanted = [parse_requirement(text)[0] for text in self._host.capabilities or self._host.offered]
        for name in wanted:
            if name in offered:
                yield Check(f"can {name}", True, offered[name])
            else:
                reason = missing.get(name, "there is no such capability")
                yield Check(f"can {name}", False, reason, f"{self._again}    # after mending that there")
        others = [f"{name} ({why})" for name, why in missing.items() if name not in wanted]
        if others:
            yield Check("cannot", True, "; ".join(others))


def wrong(check: str, error: FarmError) -> Check:
    """Return an error as a check that failed."""
    return Check(check, False, str(error).partition("\n  ")[0] if error.hint else str(error), error.hint)


def doctor_text(host: Host, checks: list[Check]) -> Iterator[str]:
    """Yield one line per check, and what to type under those that failed."""
    yield f"{host.name} ({host.target.where})"
    width = max(len(one.check) for one in checks)
    for one in checks:
        first, *rest = one.text.splitlines() or [""]
        yield f"  {'ok  ' if one.ok else 'FAIL'}  {one.check.ljust(width)}  {first}"
        yield from (f"        | {line}" for line in rest)
        if one.next:
            yield from (f"        {line.strip()}" for line in one.next.splitlines())


def doctor_json(host: Host, checks: list[Check], now: float) -> Json:
    """Return one host of `host doctor --json`."""
    return {
        "host": host.name,
        "target": host.target.where,
        "ok": all(one.ok for one in checks),
        "checked_at": now,
        "checks": [msgspec.to_builtins(one) for one in checks],
    }
