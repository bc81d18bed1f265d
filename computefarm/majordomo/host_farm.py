"""The farm that is managed on this machine, as far as adding hosts to it needs."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Sequence

import msgspec

from computefarm.errors import FarmError, Refused, UsageError
from computefarm.home import Home
from computefarm.messages import Status
from computefarm.remote.inventory import Hosts
from computefarm.transport.addresses import Address, parse_address
from computefarm.transport.authorized import Authorization, clean_name
from computefarm.transport.farms import Access, Farm, farms_folder, find_access, open_farm, read_access
from computefarm.transport.invitation import invite
from computefarm.transport.keys import read_key, spell

INVITED_S = 600.0
"""An invitation of ours is used within seconds."""


class ManagedFarm(msgspec.Struct, frozen=True):
    """A farm whose manager's key is here."""

    files: Farm
    access: Access
    """How to reach it from this machine."""
    hosts: Hosts
    status: Callable[[], Status]
    """Ask its TaskManager how the farm is."""

    @property
    def name(self) -> str:
        """Return the farm's name."""
        return self.files.name

    @property
    def address(self) -> Address:
        """Return where its manager listens."""
        return parse_address(self.access.address)

    @property
    def server_key(self) -> str:
        """Return the manager's public key, as access files spell it."""
        return spell(self.access.server_key)

    def invite(self, address: Address) -> str:
        """Return a line that lets one worker in, which dials `address`."""
        wall = time.time()
        return invite(
            self.files.table, self.access, role="worker", valid_s=INVITED_S, address=address, wall=wall
        )

    def lets_in(self, key: str) -> bool:
        """Tell whether a worker's key is accepted now."""
        entry = self._find(key)
        return entry is not None and entry.role == "worker" and not entry.expired(time.time())

    def name_key(self, key: str, name: str) -> None:
        """Let a key's line in `authorized` say which host it is."""
        entry = self._find(key)
        if entry is not None and entry.role == "worker":
            self.files.table.add(msgspec.structs.replace(entry, name=clean_name(name)))

    def shut_out(self, key: str) -> bool:
        """Revoke a key; tell whether it was known."""
        return bool(key) and bool(self.files.table.remove(key))

    def _find(self, key: str) -> Authorization | None:
        self.files.table.refresh()
        try:
            return self.files.table.find(read_key(key))
        except ValueError:
            return None


def managed(home: Home, wanted: str) -> str:
    """Return the name of the farm that is managed here and meant; say where to go when there is none."""
    here = sorted(path.parent.parent.name for path in farms_folder(home).glob("*/keys/manager.key"))
    if wanted in here:
        return wanted
    if not wanted and len(here) == 1:
        return here[0]
    if not wanted and here:
        raise UsageError(f"several farms are managed here: {', '.join(here)}", hint=f"--farm {here[0]}")
    joined = sorted(path.parent.name for path in farms_folder(home).glob("*/access.json"))
    if joined and (wanted in joined or not wanted):
        access = read_access(farms_folder(home) / (wanted or joined[0]) / "access.json")
        where = parse_address(access.address).host
        raise Refused(
            f"hosts are added on the manager's machine; that of farm {access.farm!r} is at {access.address}",
            hint=f"ssh {where} majordomo host list    # or log in there",
        )
    name = f" {wanted!r}" if wanted else ""
    start = f" --name {wanted}" if wanted else ""
    raise UsageError(f"no farm{name} is managed here", hint=f"cf-taskmanager start{start} --daemon")


def open_managed(home: Home, wanted: str, status: Callable[[], Status]) -> ManagedFarm:
    """Return the farm that is managed here; its TaskManager need not run."""
    name = managed(home, wanted)
    files = open_farm(home, name)
    try:
        access = find_access(home, name)
    except FarmError:
        access = None
    if access is None:
        access = Access(farm=name, address="", server_key=files.keys.public, folder=files.folder)
    return ManagedFarm(files=files, access=access, hosts=Hosts(files.folder), status=status)


def need_manager(farm: ManagedFarm) -> None:
    """Raise when the TaskManager does not run: nobody could join."""
    if not farm.access.address:
        raise UsageError(
            f"the TaskManager of farm {farm.name!r} is not running, so no host can join",
            hint=f"cf-taskmanager start --name {farm.name} --daemon",
        )
    farm.status()


def candidates(listens: Address, client: str, own: Sequence[str]) -> list[Address]:
    """Return where another machine may find a manager that listens at `listens`.

    `client` is this machine as that one sees it, `own` what this one calls itself. A loopback address means
    the other machine itself there, so it counts only when the two are one.
    """
    if listens.is_loopback:
        here = Address(host=client, port=listens.port).is_loopback if client else False
        return [listens] if here else []
    if not is_any(listens):
        return [listens]
    hosts = dict.fromkeys(host for host in (client, *own) if host)
    return [Address(host=host, port=listens.port) for host in hosts]


def is_any(address: Address) -> bool:
    """Tell whether it means all addresses of a machine."""
    return address.host in ("0.0.0.0", "::")


def own_addresses(towards: str) -> list[str]:
    """Return what this machine may be called on the way to another one; nothing is sent."""
    found = []
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((towards, 9))
            found.append(str(probe.getsockname()[0]))
    except OSError:
        # The name may be known to ssh's configuration only.
        pass
    return [*found, socket.getfqdn()]


_LINE = re.compile(r"(\S+): (?:(?P<no>no)$|(?P<version>\S*) +fingerprint )")


def read_probe(said: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return what `cf-worker --probe` found, with versions, and what it did not, with reasons."""
    offered: dict[str, str] = {}
    missing: dict[str, str] = {}
    lacking = ""
    for line in said.splitlines():
        if line.startswith(" ") and lacking:
            missing[lacking] = "; ".join(filter(None, (missing[lacking], line.strip())))
        elif match := _LINE.match(line):
            lacking = match[1] if match["no"] else ""
            if lacking:
                missing[lacking] = ""
            else:
                offered[match[1]] = match["version"]
    return offered, missing
