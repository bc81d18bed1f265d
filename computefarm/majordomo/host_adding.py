"""`majordomo host add`: from a login to a worker that the farm knows, step by step."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from computefarm.errors import FarmError, NothingOffers, Refused, Unreachable, UsageError
from computefarm.home import Home
from computefarm.needs import parse_requirement
from computefarm.remote import units
from computefarm.remote.farside import Facts, FarError, FarSide
from computefarm.remote.inventory import Host
from computefarm.remote.ssh import Connection, Target
from computefarm.remote.wheel import Wheel, build_wheel
from computefarm.transport.addresses import Address, parse_address
from computefarm.transport.reach import firewall_line

from .host_farm import ManagedFarm, candidates, need_manager, own_addresses, read_probe
from .host_install import carried, indented, install
from .host_tunnel import Tunnel
from .summary import plural

REACH_S = 5.0
DRAIN_S = 120.0
"""How long running tasks may take to end when a host is updated; after that they go elsewhere."""

SHOW_UP_S = 30.0
LOOK_S = 1.0
DOWN_LOOKS = 2
"""So many times in a row a worker is seen to have ended before it is given up."""

Json = dict[str, Any]


class Wish(msgspec.Struct, frozen=True):
    """What was asked for."""

    target: Target
    capabilities: tuple[str, ...] = ()
    """As for `cf-worker`; empty: all that the host can."""
    slots: int = 0
    via_ssh: bool = False
    address: str = ""
    """Where the host shall dial, when the user knows better."""
    cf_home: str = ""
    wheels: str = ""
    """A folder with the wheels of the dependencies."""
    how: str = "auto"
    worker_options: tuple[str, ...] = ()


class Adding:
    """One `host add`; what it began is taken back when it fails."""

    def __init__(self, home: Home, farm: ManagedFarm, wish: Wish, say: Callable[[str], None]) -> None:
        self._home = home
        self._farm = farm
        self._wish = wish
        self._say = say
        self._before = farm.hosts.find(wish.target.where)
        self._name = self._before.name if self._before else farm.hosts.name_for(wish.target)

    def run(self) -> Host:
        """Do it; raise `FarmError` with the next command to type when a step fails."""
        need_manager(self._farm)
        wheel = build_wheel()
        wheels = carried(self._wish.wheels)
        with Connection(self._wish.target) as connection, contextlib.ExitStack() as undo:
            far = FarSide(connection)
            facts = far.look(self._wish.cf_home or self._home_before())
            self._say(
                f"logged in to {facts.hostname} in {connection.login_s:.2f} s:"
                f" {facts.system} {facts.processor}, Python {facts.version}"
            )
            self._check_machine(facts)
            host = self._begin(facts, wheel)
            self._check_farm(far, facts, host)
            host = self._find_way(far, facts, host, undo)
            self._say(install(far, facts, host, wheel, wheels, self._again))
            host = self._enrol(far, facts, host, undo)
            host = self._choose(far, host)
            host = self._start(far, facts, host, undo)
            undo.pop_all()
            return host

    # --- before anything changes ----------------------------------------------------------------------

    def _home_before(self) -> str:
        return self._before.environ.get("CF_HOME", "") if self._before else ""

    def _check_machine(self, facts: Facts) -> None:
        """Refuse a home folder that several machines share by network: their keys and locks would clash."""
        for other in self._farm.hosts.all():
            same_files = other.services_folder == f"{facts.state}/hosting" and other.environ == facts.environ
            if other.name == self._name or not same_files or other.machine != facts.machine:
                continue
            raise Refused(
                f"{self._wish.target.where} is the machine that was added as {other.name} already",
                hint=f"majordomo host add {other.target.where}    # to update it",
            )

    def _begin(self, facts: Facts, wheel: Wheel) -> Host:
        return Host(
            name=self._name,
            target=self._wish.target,
            farm_folder="",
            services_folder=f"{facts.state}/hosting",
            venv=f"{facts.data}/venv-{wheel.version}-{wheel.digest[:8]}",
            environ=facts.environ,
            python=facts.python,
            machine=facts.machine,
            version=wheel.version,
            capabilities=self._wish.capabilities,
            slots=self._wish.slots,
            worker_options=self._wish.worker_options,
            via_ssh=self._wish.via_ssh,
            added_at=time.time(),
        )

    def _check_farm(self, far: FarSide, facts: Facts, host: Host) -> None:
        seen = look(far, facts.config, self._farm, host)
        there = seen["farm"]
        if there and there["manager"]:
            raise Refused(
                f"the home folder of {facts.user} on {facts.hostname} is that of this farm's manager",
                hint=f"majordomo host add --home /var/tmp/{facts.user}-computefarm {self._wish.target.where}"
                "\n  # or, if it is this very machine: cf-worker --capability NAME",
            )
        if there is None or self._before is not None:
            return
        # Another machine's worker that was added from here uses the same files by network.
        for other in self._farm.hosts.all():
            if other.key and other.key == there["key"]:
                raise Refused(
                    f"{facts.hostname} and {other.name} share a home folder (by network)",
                    hint=f"majordomo host add --home /var/tmp/{facts.user}-computefarm"
                    f" {self._wish.target.where}    # a folder of its own for this one",
                )

    # --- the way back to the manager ------------------------------------------------------------------

    def _find_way(self, far: FarSide, facts: Facts, host: Host, undo: contextlib.ExitStack) -> Host:
        listens = self._farm.address
        tunnel = Tunnel(self._home, self._farm.name, host.name)
        if self._wish.via_ssh:
            known = self._before.port if self._before else 0
            port = known if known and tunnel.leads(host.target, known, listens) else 0
            if not port:
                tunnel.stop()
                port = int(far.ask("free-port", wanted=known))
                undo.callback(tunnel.stop)
                tunnel.start(host.target, port, listens)
            address = Address(host="127.0.0.1", port=port)
            tunnel.wait(lambda: bool(self._reach(far, [address])[0]["ok"]), host.target)
            self._say(f"tunnel: {address} there leads to {listens} here")
            return msgspec.structs.replace(host, address=str(address), port=port)
        tunnel.stop()
        if self._wish.address:
            tries = [parse_address(self._wish.address, default_port=listens.port)]
        else:
            tries = candidates(listens, facts.client, own_addresses(host.target.host))
        if not tries:
            raise Unreachable(
                f"the manager listens at {listens} only, where {host.name} cannot reach it",
                hint=f"{self._again('--via-ssh')}    # through ssh, or let it listen:\n"
                f"  cf-taskmanager stop && cf-taskmanager start --name {self._farm.name}"
                f" --listen tcp://0.0.0.0:{listens.port} --daemon",
            )
        found = self._reach(far, tries)
        for one in found:
            if one["ok"]:
                self._say(f"it reaches the manager at {one['host']}:{one['port']}, {one['text']}")
                return msgspec.structs.replace(host, address=str(Address(one["host"], one["port"])))
        raise self._blocked(host, found)

    @staticmethod
    def _reach(far: FarSide, tries: list[Address]) -> list[Json]:
        told = [(one.host, one.port) for one in tries]
        return list(far.ask("reach", addresses=told, patience_s=REACH_S))

    def _blocked(self, host: Host, found: list[Json]) -> Unreachable:
        tried = ", ".join(f"{one['host']}:{one['port']} ({one['text']})" for one in found)
        return Unreachable(
            f"{host.name} cannot reach the manager: {tried}; that one port must be open on this machine",
            hint=f"{firewall_line(self._farm.address.port)}\n"
            f"  {self._again('--via-ssh')}    # or by ssh alone",
        )

    def _again(self, *more: str) -> str:
        """Return this command line with other options."""
        target = self._wish.target
        words = ["majordomo", "host", "add", *more]
        words += ["--ssh-config", target.config] if target.config else []
        for option in target.options:
            words += ["-o", option]
        return shlex.join([*words, target.where])

    # --- keys -----------------------------------------------------------------------------------------

    def _enrol(self, far: FarSide, facts: Facts, host: Host, undo: contextlib.ExitStack) -> Host:
        """Let the host make its key, unless it has one that is good."""
        there = look(far, facts.config, self._farm, host)["farm"]
        if there and there["address"] == host.address and self._farm.lets_in(there["key"]):
            return msgspec.structs.replace(host, farm_folder=there["folder"], key=there["key"])
        line = self._farm.invite(parse_address(host.address))
        # By its input: whoever lists the processes there sees no secret.
        done = far.call(f"{host.venv}/bin/majordomo", "join", "-", environ=host.environ, given=f"{line}\n")
        new = look(far, facts.config, self._farm, host)["farm"]
        if done["code"] or new is None:
            said = (done["err"] or done["out"]).strip().removeprefix("majordomo join: ")
            raise FarmError(f"{host.name} could not join the farm: {said}", hint=self._again())
        if there and there["key"] != new["key"]:
            self._farm.shut_out(there["key"])
        if self._before is None:
            undo.callback(self._farm.shut_out, new["key"])
            undo.callback(self._forget, far, new["folder"])
        self._farm.name_key(new["key"], host.name)
        self._say(f"it made a key of its own; {host.name} is a worker of farm {self._farm.name!r} now")
        return msgspec.structs.replace(host, farm_folder=new["folder"], key=new["key"])

    @staticmethod
    def _forget(far: FarSide, folder: str) -> None:
        with contextlib.suppress(FarmError):
            far.ask("clean", remove=[folder], farms=str(Path(folder).parent), programs="", cache="", empty=[])

    # --- what it offers -------------------------------------------------------------------------------

    def _choose(self, far: FarSide, host: Host) -> Host:
        asked = self._wish.capabilities or (self._before.capabilities if self._before else ())
        # With all that it will be started with, so that a wrong word is found before the old one is stopped.
        words = [f"{host.venv}/bin/cf-worker", "--probe", *host.worker_options]
        done = far.call(*words, environ=host.environ, timeout_s=300)
        if done["code"]:
            kind = UsageError if done["code"] == UsageError.exit_code else FarmError
            raise kind(f"cf-worker on {host.name} says: {done['err'].strip()}")
        offered, missing = read_probe(done["out"])
        wanted = [parse_requirement(text)[0] for text in asked] or list(offered)
        lacking = [name for name in wanted if name not in offered]
        for name in lacking:
            self._say(f"not offered: {name}: {missing.get(name, 'there is no such capability')}")
        chosen = [text for text in asked if parse_requirement(text)[0] in offered] or (
            [] if asked else list(offered)
        )
        if not chosen:
            reasons = "; ".join(f"{name}: {missing.get(name, 'no such capability')}" for name in lacking)
            raise NothingOffers(
                f"{host.name} can offer nothing of what was asked for: {reasons}",
                hint=host.target.typed("ssh", f"{host.venv}/bin/cf-worker --probe"),
            )
        found = ", ".join(
            f"{parse_requirement(t)[0]} {offered[parse_requirement(t)[0]]}".strip() for t in chosen
        )
        self._say(f"it offers {found}")
        return msgspec.structs.replace(host, capabilities=tuple(asked), offered=tuple(chosen))

    # --- services -------------------------------------------------------------------------------------

    def _start(self, far: FarSide, facts: Facts, host: Host, undo: contextlib.ExitStack) -> Host:
        told = units.services(
            farm=self._farm.name,
            bin_folder=f"{host.venv}/bin",
            folder=host.farm_folder,
            capabilities=host.offered,
            slots=host.slots,
            worker_options=host.worker_options,
            environ=host.environ,
        )
        host = msgspec.structs.replace(host, host=self._host_id(far, host))
        known = {one.worker for one in self._farm.status().workers}
        now = look(far, facts.config, self._farm, host)["services"]
        same = self._before is not None and self._before.key == host.key and unchanged(now, told, host)
        if same:
            known = set()
        else:
            if self._before is None:
                undo.callback(self._stop, far, host)
            host = self._replace(far, host, told)
        # Entered before the farm has seen it: what runs there must be known here.
        self._farm.hosts.put(msgspec.structs.replace(host, kept_by=host.kept_by or now["how"]))
        if self._before is None:
            undo.callback(self._farm.hosts.drop, host.name)
        else:
            # Wishes that did not work are not to be repeated by the next update.
            again = {one: getattr(self._before, one) for one in ("capabilities", "slots", "worker_options")}
            undo.callback(self._farm.hosts.put, msgspec.structs.replace(host, **again))
        offset, _ = far.clock_offset()
        host = msgspec.structs.replace(host, kept_by=host.kept_by or now["how"], clock_offset_s=offset)
        self._wait(far, facts, host, known)
        self._farm.hosts.put(host)
        return host

    def _replace(self, far: FarSide, host: Host, told: list[Json]) -> Host:
        if self._before is not None:
            self._say(f"waiting for its tasks to end, {DRAIN_S:.0f} s at most, then starting it anew")
        try:
            done = far.ask(
                "start",
                timeout_s=DRAIN_S + 180,
                services_folder=host.services_folder,
                label=units.label(self._farm.name),
                drain_s=DRAIN_S,
                venv=host.venv,
                told={
                    "services": told,
                    "environ": host.environ,
                    "nice": units.NICE,
                    "how": self._wish.how,
                    "python": f"{host.venv}/bin/python",
                },
            )
        except FarError as error:
            raise FarmError(
                f"the services on {host.name} do not start: {error}",
                hint=f"majordomo host doctor {host.name}",
            ) from error
        if not done["drained"]:
            self._say("tasks that still ran were taken back; they go elsewhere")
        kept = {"systemd": "systemd user units", "keeper": "a keeper of its own (no systemd)"}[done["how"]]
        self._say(f"worker and monitor run under {kept}")
        for note in done["notes"]:
            self._say(f"note: {note}")
        if done["how"] == "keeper" and (self._before is None or self._before.kept_by != "keeper"):
            line = units.crontab_line(done["again"])
            self._say(
                f"note: after a reboot they are not started again, unless you type this there:\n  {line}"
            )
        return msgspec.structs.replace(host, kept_by=done["how"])

    @staticmethod
    def _host_id(far: FarSide, host: Host) -> str:
        code = "import os; from computefarm.home import Home, host_id; print(host_id(Home.find(os.environ)))"
        done = far.call(f"{host.venv}/bin/python", "-c", code, environ=host.environ)
        if done["code"]:
            raise FarmError(f"{host.name} does not say which host it is: {done['err'].strip()}")
        return str(done["out"]).strip()

    def _wait(self, far: FarSide, facts: Facts, host: Host, known: set[str]) -> None:
        """Return when the farm sees its worker; otherwise tell what the worker's log says."""
        now = time.monotonic()
        until, look_at, down = now + SHOW_UP_S, now + LOOK_S, 0
        while now < until and down < DOWN_LOOKS:
            for worker in self._farm.status().workers:
                if worker.host == host.host and worker.worker not in known and worker.state != "silent":
                    self._say(
                        f"worker {worker.worker} has {plural(worker.slots, 'slot')} and is {worker.state}"
                    )
                    return
            time.sleep(0.1)
            if (now := time.monotonic()) >= look_at:
                down = down + 1 if falls(look(far, facts.config, self._farm, host)["services"]) else 0
                look_at = time.monotonic() + LOOK_S
        state = look(far, facts.config, self._farm, host)["services"]
        raise Unreachable(
            f"the worker on {host.name} was started, but the farm does not see it."
            f" The end of its log, {state['log']}:\n" + indented("\n".join(state["lines"][-8:])),
            hint=f"majordomo host doctor {host.name}" if self._before else self._again(),
        )

    def _stop(self, far: FarSide, host: Host) -> None:
        with contextlib.suppress(FarmError):
            far.ask("stop", services_folder=host.services_folder, label=units.label(self._farm.name))


def look(far: FarSide, config: str, farm: ManagedFarm, host: Host) -> Json:
    """Return what can be seen of a host's installation from inside."""
    seen: Json = far.ask(
        "look",
        venv=host.venv,
        farms=f"{config}/farms",
        server_key=farm.server_key,
        services_folder=host.services_folder,
        label=units.label(farm.name),
    )
    return seen


def unchanged(now: Json, told: list[Json], host: Host) -> bool:
    """Tell whether exactly these services run already."""
    runs = {one["name"]: one["argv"] for one in now["services"] if one["running"]}
    return runs == {one["name"]: one["argv"] for one in told} and now["environ"] == host.environ


def falls(state: Json) -> bool:
    """Tell whether its worker has ended, or ends again and again."""
    workers = [one for one in state["services"] if one["name"].endswith("-worker")]
    return any(not one["running"] or one["restarts"] > 1 for one in workers)
