"""`majordomo host`: other machines, added to a farm and looked after by ssh."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from computefarm.errors import FarmError, Refused, UsageError
from computefarm.messages import Status
from computefarm.remote import units
from computefarm.remote.farside import FarSide
from computefarm.remote.inventory import Host
from computefarm.remote.ssh import Connection, Target, check_target

from .host_farm import ManagedFarm, managed, open_managed
from .look import JSON, Look, Viewer, option, put, put_json
from .presentation import table
from .summary import plural

Json = dict[str, Any]

VERBS = {
    "add": (
        "capability",
        "slots",
        "via-ssh",
        "address",
        "ssh-config",
        "ssh-option",
        "home",
        "wheels",
        "no-systemd",
    ),
    "list": ("json",),
    "remove": ("keep-files", "force"),
    "doctor": ("json",),
}
"""What each takes, besides --farm."""


class HostCommand(Look):
    """`majordomo host`."""

    name = "host"
    doc_purpose = "add other machines to the farm by ssh, list, check and remove them"
    doc_usage = "add USER@HOST | list | doctor [HOST ...] | remove HOST"
    doc_description = (
        "`add` installs this version on the other machine (Python 3.11 is needed there, root is not), lets "
        "it make its own key, and starts a worker and a monitor that stay; again: updates it. Words after "
        "`--` go to its cf-worker. To be run where the farm's manager is."
    )
    cmd_options = (
        JSON,
        option("farm", "", "which of the farms that are managed here"),
        option("capability", "", "add: what it shall offer; repeatable [default: all it can]", list, []),
        option("slots", "", "add: tasks at once [default: its cores]", int, 0),
        option("via-ssh", "", "add: reach the manager through this ssh connection, not a port", bool, False),
        option("address", "", "add: where it shall dial, HOST[:PORT] [default: what works]"),
        option("ssh-config", "", "add: a file in place of ~/.ssh/config"),
        option("ssh-option", "o", "add: an option for ssh, as Port=2222; repeatable", list, []),
        option("home", "", "add: its CF_HOME there, where the home folder is shared or full"),
        option("wheels", "", "add: a folder of wheels to carry along, for a host without a package index"),
        option("no-systemd", "", "add: keep the services running without systemd", bool, False),
        option("keep-files", "", "remove: leave program and cache there", bool, False),
        option("force", "", "remove: forget it even when it cannot be reached", bool, False),
    )

    def look(self, options: dict[str, Any], names: list[str]) -> int:
        """Do what the first word says."""
        verb, *rest = names or [""]
        if verb not in VERBS:
            text = f"unknown: host {verb}" if verb else "say what to do"
            raise UsageError(
                text, hint="majordomo host add|list|doctor|remove    # more: majordomo help host"
            )
        for one in self.cmd_options:
            name = str(one["name"])
            if name not in ("farm", *VERBS[verb]) and options[name] != one["default"]:
                takes = " ".join(f"--{known}" for known in ("farm", *VERBS[verb]))
                raise UsageError(f"host {verb} takes no --{name} (it takes: {takes})")
        call: Callable[[dict[str, Any], list[str]], int] = getattr(self, f"_{verb}")
        return call(options, rest)

    @contextlib.contextmanager
    def _managed(self, options: Mapping[str, Any]) -> Iterator[ManagedFarm]:
        """Open the farm; its TaskManager is called when somebody asks for the status."""
        settings = self.settings(options)
        name = managed(self.home, str(options["farm"] or ("" if settings.farm == "local" else settings.farm)))
        viewer: list[Viewer] = []

        def status() -> Status:
            if not viewer:
                found = type(self).connect(self.home, msgspec.structs.replace(settings, farm=name))
                if found is None:
                    raise Refused(f"the farm {name!r} cannot be asked")
                viewer.append(found)
            return viewer[0].status()

        try:
            yield open_managed(self.home, name, status)
        finally:
            for one in viewer:
                one.close()

    # --- add ------------------------------------------------------------------------------------------

    def _add(self, options: dict[str, Any], names: list[str]) -> int:
        from .host_adding import Adding, Wish

        if not names:
            raise UsageError("name the machine", hint="majordomo host add user@host")
        if len(names) > 1 and not names[1].startswith("-"):
            raise UsageError(
                f"one machine at a time: {' '.join(names)}",
                hint=f"for h in {shlex.join(names)}; do majordomo host add $h; done",
            )
        if options["slots"] < 0:
            raise UsageError(f"--slots {options['slots']}: a worker needs at least one slot")
        with self._managed(options) as farm:
            known = farm.hosts.find(names[0])
            where = known.target.where if known else names[0]
            target = Target(where, str(options["ssh-config"]), tuple(options["ssh-option"]))
            if known is not None and not (target.config or target.options):
                # As it was added: the name alone is enough for an update.
                target = known.target
            wish = Wish(
                target=check_target(target),
                capabilities=tuple(options["capability"]),
                slots=options["slots"] or (known.slots if known else 0),
                via_ssh=options["via-ssh"] or bool(known and known.via_ssh and not options["address"]),
                address=str(options["address"]),
                cf_home=str(options["home"]),
                wheels=str(options["wheels"]),
                how="keeper" if options["no-systemd"] else "auto",
                worker_options=tuple(names[1:]) or (known.worker_options if known else ()),
            )
            host = Adding(self.home, farm, wish, lambda text: print(f"  {text}", flush=True)).run()
        print(f"{host.name} {'was updated' if known else 'is ready'}; all of them: majordomo host list")
        return 0

    # --- list -----------------------------------------------------------------------------------------

    def _list(self, options: dict[str, Any], names: list[str]) -> int:
        if names:
            raise UsageError(f"unexpected: {' '.join(names)}", hint="majordomo host list")
        with self._managed(options) as farm:
            hosts = farm.hosts.all()
            status: Status | None = None
            try:
                status = farm.status()
            except FarmError as error:
                print(f"majordomo host: nobody can be asked: {error}", file=sys.stderr)
            rows = [self._row(farm.name, host, status) for host in hosts]
            rows += others(status, {host.host for host in hosts})
            if options["json"]:
                put_json({"farm": farm.name, "hosts": rows})
            elif rows:
                put(list_text(rows))
            else:
                put([f"farm {farm.name} has no other hosts; add one:  majordomo host add user@host"])
        return 0

    def _row(self, farm: str, host: Host, status: Status | None) -> Json:
        from .host_tunnel import Tunnel

        up = Tunnel(self.home, farm, host.name).up if host.via_ssh else None
        return {
            "host": host.name,
            "target": host.target.where,
            **live(host.host, status),
            "id": host.host,
            "version": host.version,
            "clock_offset_s": host.clock_offset_s,
            "via": "ssh" if host.via_ssh else "port",
            "tunnel": up,
            "address": host.address,
            "kept_by": host.kept_by,
            "offers": list(host.offered),
            "added": host.added_at,
        }

    # --- doctor ---------------------------------------------------------------------------------------

    def _doctor(self, options: dict[str, Any], names: list[str]) -> int:
        from .host_doctor import Doctor, doctor_json, doctor_text

        told, well = [], True
        with self._managed(options) as farm:
            hosts = [farm.hosts.get(name) for name in names] if names else farm.hosts.all()
            if not hosts:
                raise UsageError(
                    f"no host was added to farm {farm.name!r}", hint="majordomo host add user@host"
                )
            for host in hosts:
                doctor = Doctor(self.home, farm, host)
                checks = list(doctor.checks())
                if doctor.clock_offset_s is not None:
                    farm.hosts.put(msgspec.structs.replace(host, clock_offset_s=doctor.clock_offset_s))
                well = well and all(one.ok for one in checks)
                told.append(doctor_json(host, checks, time.time()))
                if not options["json"]:
                    put(doctor_text(host, checks))
        if options["json"]:
            put_json({"farm": farm.name, "ok": well, "hosts": told})
        return 0 if well else 1

    # --- remove ---------------------------------------------------------------------------------------

    def _remove(self, options: dict[str, Any], names: list[str]) -> int:
        from .host_tunnel import Tunnel

        if len(names) != 1:
            raise UsageError("name one host", hint="majordomo host list")
        with self._managed(options) as farm:
            host = farm.hosts.get(names[0])
            # First what counts: from now on it cannot connect, whatever happens to the rest.
            if farm.shut_out(host.key):
                print(f"  its key is revoked: {host.name} is shut out")
            try:
                self._clean(farm, host, keep=options["keep-files"])
            except FarmError as error:
                if not options["force"]:
                    message = f"its key is revoked, but it could not be cleaned: {str(error).splitlines()[0]}"
                    again = f"majordomo host remove {host.name}"
                    raise type(error)(
                        f"{host.name}: {message}",
                        hint=f"{error.hint}\n  then: {again}    # or leave it as it is: {again} --force",
                    ) from error
                print(f"  left as it is there ({str(error).splitlines()[0]}):")
                print(f"    {host.venv}, {host.farm_folder}, {host.services_folder}, and what runs of it")
            if host.via_ssh and Tunnel(self.home, farm.name, host.name).stop():
                print("  the tunnel has ended")
            farm.hosts.drop(host.name)
        print(f"{host.name} was removed")
        return 0

    def _clean(self, farm: ManagedFarm, host: Host, *, keep: bool) -> None:
        """End what runs there and take away what `add` put there."""
        with Connection(host.target) as connection:
            far = FarSide(connection)
            facts = far.look(host.environ.get("CF_HOME", ""))
            label = units.label(farm.name)
            far.ask("stop", services_folder=host.services_folder, label=label)
            print("  worker and monitor have ended")
            remove = [host.farm_folder, f"{host.services_folder}/{label}.*"]
            done = far.ask(
                "clean",
                remove=[path for path in remove if path],
                farms=f"{facts.config}/farms",
                programs="" if keep else facts.data,
                services_folder=host.services_folder,
                cache="" if keep else facts.cache,
                empty=[host.services_folder, f"{facts.config}/farms", facts.config, facts.data],
            )
            print(f"  {plural(len(done['gone']), 'file')} and folders removed there")


def live(host: str, status: Status | None) -> Json:
    """Return what the farm knows of a host now."""
    told: Json = {
        "state": "unknown",
        "load": None,
        "cpus": None,
        "slots": None,
        "running": None,
        "workers": None,
    }
    if status is None:
        return told
    workers = [one for one in status.workers if one.host == host and one.state != "silent"]
    told |= {
        "workers": len(workers),
        "slots": sum(one.slots for one in workers),
        "running": sum(one.running for one in workers),
    }
    seen = next((one for one in status.hosts if one.host == host), None)
    if seen is not None:
        told |= {"load": seen.load, "cpus": seen.cpus}
    online = seen is not None and seen.online
    told["state"] = "online" if workers else "no worker" if online else "offline"
    return told


def others(status: Status | None, known: set[str]) -> list[Json]:
    """Return the hosts of the farm that joined in another way."""
    if status is None:
        return []
    # A manager remembers for a while who has left; those are nobody's hosts any more.
    names = {
        one.host: one.hostname for one in status.workers if one.state != "silent" and one.host not in known
    }
    nothing = dict.fromkeys(("version", "clock_offset_s", "tunnel", "address", "kept_by", "added"))
    return [
        {
            "host": names[host] or host,
            "target": None,
            **live(host, status),
            "id": host,
            **nothing,
            "via": None,
            "offers": sorted({o.capability for w in status.workers if w.host == host for o in w.offers}),
        }
        for host in names
    ]


def list_text(rows: list[Json]) -> list[str]:
    """Return the hosts as a table."""
    lines = [["HOST", "LOGIN", "STATE", "LOAD", "SLOTS", "WORKERS", "VERSION", "CLOCK", "VIA"]]
    for row in rows:
        via = row["via"] or ""
        if row["tunnel"] is False:
            via = "ssh (tunnel down)"
        slots = "" if row["slots"] is None else f"{row['running']}/{row['slots']}"
        offset = row["clock_offset_s"]
        lines.append(
            [
                row["host"],
                row["target"] or "(joined by itself)",
                row["state"],
                "" if row["load"] is None else f"{row['load']:.2f}",
                slots,
                "" if row["workers"] is None else str(row["workers"]),
                row["version"] or "",
                "" if offset is None else f"{offset:+.3f} s",
                via,
            ]
        )
    return table(lines)
