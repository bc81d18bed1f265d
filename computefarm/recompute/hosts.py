"""Which servers to ask: a list of `HOST[:PORT]`, each with a weight and a tier, and the farms behind them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from computefarm.errors import FarmError, Refused, SettingsError, UsageError
from computefarm.home import Home
from computefarm.transport.addresses import Address, parse_address
from computefarm.transport.farms import ACCESS, Access, farms_folder, find_access, read_access

EXAMPLE = "gpu-box,desktop:11989/tier=1,10.0.0.7/weight=3"
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


class HostEntry(msgspec.Struct, frozen=True):
    """One server of a list."""

    address: Address
    weight: float = 1.0
    """More requests at a time than others; a host named twice counts twice."""
    tier: int = 0
    """Higher tiers are asked only when all lower ones are full or gone."""

    def __str__(self) -> str:
        return str(self.address).removeprefix("tcp://")


def parse_hosts(text: str, *, port: int, origin: str) -> tuple[HostEntry, ...]:
    """Return the servers in a comma list; raise `SettingsError` naming the word that is wrong."""
    entries: dict[Address, HostEntry] = {}
    for token in text.split(","):
        entry = _parse(token, port, origin)
        known = entries.get(entry.address)
        if known is not None:
            entry = msgspec.structs.replace(known, weight=known.weight + entry.weight)
        entries[entry.address] = entry
    return tuple(entries.values())


def _parse(token: str, port: int, origin: str) -> HostEntry:
    where, *options = token.split("/")
    if "=" in where:
        raise _wrong(token, origin, "only the value belongs here, without the variable's name")
    if token != token.strip() or any(letter.isspace() for letter in token):
        raise _wrong(token, origin, "no spaces are allowed")
    if not where:
        raise _wrong(token, origin, "a host was expected")
    try:
        address = parse_address(where, default_port=port)
    except UsageError as error:
        raise _wrong(token, origin, "HOST or HOST:PORT was expected") from error
    if address.is_any or not address.port:
        raise _wrong(token, origin, "nobody can dial that")
    weight, tier = 1.0, 0
    for option in options:
        name, _, value = option.partition("=")
        if name == "weight" and value.replace(".", "", 1).isdecimal() and float(value) > 0:
            weight = float(value)
        elif name == "tier" and value.isdecimal():
            tier = int(value)
        else:
            raise _wrong(token, origin, "options are /weight=NUMBER and /tier=NUMBER")
    return HostEntry(address, weight, tier)


def _wrong(token: str, origin: str, text: str) -> SettingsError:
    return SettingsError(f"{origin}: {token!r} is no server: {text}", hint=f"for example: {EXAMPLE}")


def access_of(home: Home, entry: HostEntry) -> Access:
    """Return how this machine reaches a server; raise `Refused` with the line that joins it."""
    for path in sorted(farms_folder(home).glob(f"*/{ACCESS}")):
        try:
            access = read_access(path)
        except FarmError:
            continue  # said by whoever asks for that farm
        for known in (access.address, access.advertised):
            if known and _same(parse_address(known), entry.address):
                return msgspec.structs.replace(access, address=str(entry.address))
    raise Refused(
        f"this machine has not joined the farm at {entry}",
        hint="majordomo join LINE    # LINE: `cf-taskmanager invite --role client` on that machine",
    )


def _same(one: Address, other: Address) -> bool:
    hosts = {one.host.lower(), other.host.lower()}
    return one.port == other.port and (len(hosts) == 1 or hosts <= _LOCAL)


def servers(home: Home, farm: str, listed: tuple[HostEntry, ...]) -> list[tuple[HostEntry, Access]]:
    """Return every server with how it is reached: those listed, else the configured farm."""
    if listed:
        return [(entry, access_of(home, entry)) for entry in listed]
    access = find_access(home, farm)
    if access is None:
        raise UsageError(
            "no recompute server is configured",
            hint="cf-worker --capability recompute --serve    # or name others: CF_RECOMPUTE_HOST=HOST",
        )
    return [(HostEntry(parse_address(access.address)), access)]


def origin_of(environ: Mapping[str, str], flag: str) -> str:
    """Return where the list came from, for messages."""
    if flag:
        return "--hosts"
    for name in ("CF_RECOMPUTE_HOST", "CHIAPOS_RECOMPUTE_HOST"):
        if environ.get(name):
            return name
    return "recompute-host"
