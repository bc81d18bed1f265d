"""`cf-taskmanager invite`, `keys`, `allow`, `revoke`: who may connect."""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import json
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any

from computefarm.errors import FarmError, UsageError
from computefarm.home import Home
from computefarm.quantities import parse_duration
from computefarm.services.connected import Connections, read_connections
from computefarm.settings import Settings
from computefarm.transport.addresses import Address, parse_address
from computefarm.transport.authorized import Authorization, clean_name, format_line, format_time
from computefarm.transport.farms import Access, Farm, check_farm_name, farms_folder, open_farm, read_access
from computefarm.transport.invitation import invite
from computefarm.transport.keys import read_key, spell

PROGRAM = "cf-taskmanager"
ENDING_S = 5.0
"""How long to watch a running manager end the connections of a revoked key."""


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    """Add these commands to the parser of `cf-taskmanager`."""
    invitation = commands.add_parser("invite", help="print a line that lets one more machine join")
    invitation.add_argument("--role", required=True, choices=("worker", "client", "viewer"))
    invitation.add_argument(
        "--for", dest="duration", default="1h", metavar="TIME", help="how long it is good"
    )
    invitation.add_argument(
        "--address", default="", metavar="HOST[:PORT]", help="where the other machine finds this one"
    )
    invitation.add_argument("--name", default="", metavar="FARM")
    invitation.set_defaults(call=_invite)

    keys = commands.add_parser("keys", help="list who may connect")
    keys.add_argument("--json", action="store_true")
    keys.add_argument("--name", default="", metavar="FARM")
    keys.set_defaults(call=_keys)

    allow = commands.add_parser("allow", help="let a key in")
    allow.add_argument("key", help="the public key, as the refused machine prints it")
    allow.add_argument("--role", required=True, choices=("worker", "client", "viewer", "monitor", "admin"))
    allow.add_argument("--as", dest="label", default="", metavar="NAME", help="a name for the key")
    allow.add_argument("--for", dest="duration", default="", metavar="TIME", help="how long it is good")
    allow.add_argument(
        "--from", dest="hosts", default="", metavar="HOST,…", help="the only addresses it may come from"
    )
    allow.add_argument("--name", default="", metavar="FARM")
    allow.set_defaults(call=_allow)

    revoke = commands.add_parser("revoke", help="shut a key out, at once")
    revoke.add_argument("key", help="the key, or the name it has in `keys`")
    revoke.add_argument("--name", default="", metavar="FARM")
    revoke.set_defaults(call=_revoke)


def keys_last(argv: Sequence[str]) -> list[str]:
    """Return `argv` with a key that begins with `-` where the parser does not take it for an option."""
    odd = [word for word in argv if word.startswith("-") and _is_key(word)]
    return [word for word in argv if word not in odd] + (["--", *odd] if odd else [])


def _is_key(word: str) -> bool:
    with contextlib.suppress(ValueError):
        return bool(read_key(word))
    return False


def _own_farm(arguments: argparse.Namespace, home: Home) -> Farm:
    """Return the farm that is managed here and meant."""
    managed = sorted(path.parent.parent.name for path in farms_folder(home).glob("*/keys/manager.key"))
    if arguments.name:
        name = check_farm_name(arguments.name)
        if name not in managed:
            raise UsageError(
                f"no farm {name!r} is managed here (there are: {', '.join(managed) or 'none'})",
                hint=f"{PROGRAM} start --name {name} --daemon",
            )
        return open_farm(home, name)
    if len(managed) == 1:
        return open_farm(home, managed[0])
    if not managed:
        raise UsageError("no farm is managed here", hint=f"{PROGRAM} start --daemon")
    raise UsageError(f"several farms are managed here: {', '.join(managed)}", hint="name one with --name")


def _duration(text: str, example: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--for {text}: {error}", hint=f"{PROGRAM} {example}") from error


# --- invite -------------------------------------------------------------------------------------------


def _invite(arguments: argparse.Namespace, home: Home, settings: Settings) -> int:
    farm = _own_farm(arguments, home)
    try:
        access = read_access(farm.folder / "access.json")
    except FarmError as error:
        raise UsageError(
            f"the TaskManager of farm {farm.name!r} is not running, so nobody could join",
            hint=f"{PROGRAM} start --name {farm.name} --daemon",
        ) from error
    valid_s = _duration(arguments.duration, f"invite --role {arguments.role} --for 1h")
    address = _dialled(arguments.address, access)
    line = invite(farm.table, access, role=arguments.role, valid_s=valid_s, address=address, wall=time.time())
    if address.is_loopback and not arguments.address:
        # To stderr: what stands on stdout is the line alone, for scripts.
        print(
            f"{PROGRAM}: this farm listens on {address} only: the line is good on this machine, or behind a "
            "tunnel. For other machines:\n"
            f"  {PROGRAM} stop && "
            f"{PROGRAM} start --name {farm.name} --listen tcp://0.0.0.0:{address.port} --daemon",
            file=sys.stderr,
        )
    if sys.stdout.isatty():
        verb = "cf-worker --capability NAME --join" if arguments.role == "worker" else "majordomo join"
        print(f"on the other machine, within {arguments.duration}:\n  {verb} {line}")
    else:
        print(line)
    return 0


def _dialled(wanted: str, access: Access) -> Address:
    listening = parse_address(access.advertised or access.address)
    if not wanted:
        return listening
    address = parse_address(wanted, default_port=listening.port)
    if address.is_any or not address.port:
        raise UsageError(
            f"--address {wanted}: nobody can dial that",
            hint=f"{PROGRAM} invite … --address the-name-of-this-machine[:PORT]",
        )
    return address


# --- keys ---------------------------------------------------------------------------------------------


def _keys(arguments: argparse.Namespace, home: Home, settings: Settings) -> int:
    farm = _own_farm(arguments, home)
    farm.table.refresh()
    connections = read_connections(farm.folder).keys
    rows = [_row(entry, connections.get(entry.key, 0)) for entry in farm.table.entries.values()]
    for complaint in farm.table.complaints():
        print(f"{PROGRAM}: {complaint}", file=sys.stderr)
    if arguments.json:
        print(json.dumps({"farm": farm.name, "keys": rows}))
        return 0
    # The words of the file, so that a line can be put back there.
    print("# role name public-key [expires=TIME] [hosts=ADDRESS,…] [connections=N]")
    for entry in farm.table.entries.values():
        live = connections.get(entry.key, 0)
        print(format_line(entry) + (f" connections={live}" if live else ""))
    return 0


def _row(entry: Authorization, connections: int) -> dict[str, Any]:
    state = "good"
    if entry.revoked:
        state = "revoked"
    elif entry.used:
        state = "used"
    elif entry.expired(time.time()):
        state = "expired"
    return {
        "role": entry.role if entry.invited else entry.role.rpartition(":")[2],
        "name": entry.name,
        "key": spell(entry.key),
        "state": state,
        "expires": format_time(entry.expires_at) if entry.expires_at is not None else None,
        "hosts": list(entry.hosts),
        "connections": connections,
    }


# --- allow and revoke ---------------------------------------------------------------------------------


def _allow(arguments: argparse.Namespace, home: Home, settings: Settings) -> int:
    farm = _own_farm(arguments, home)
    try:
        key = read_key(arguments.key)
    except ValueError as error:
        raise UsageError(
            str(error), hint="copy it from what the refused machine printed: cf-taskmanager allow KEY …"
        ) from error
    if key == farm.keys.public:
        raise UsageError("this is the manager's own key")
    expires_at = None
    if arguments.duration:
        expires_at = time.time() + _duration(arguments.duration, "allow KEY --role ROLE --for 30d")
    name = clean_name(arguments.label or "allowed")
    entry = Authorization(arguments.role, name, key, expires_at, _hosts(arguments.hosts))
    farm.table.add(entry)
    until = f" until {format_time(expires_at)}" if expires_at is not None else ""
    where = f" from {', '.join(entry.hosts)}" if entry.hosts else ""
    print(f"{arguments.role} key of {name} let in{until}{where}")
    return 0


def _hosts(text: str) -> tuple[str, ...]:
    """Return the addresses and networks in a comma list; names are looked up now."""
    found: list[str] = []
    for word in filter(None, (word.strip() for word in text.split(","))):
        try:
            network = ipaddress.ip_network(word, strict=False)
            found.append(str(network.network_address if network.num_addresses == 1 else network))
            continue
        except ValueError:
            pass
        try:
            found.extend(sorted({str(one[4][0]) for one in socket.getaddrinfo(word, None)}))
        except OSError as error:
            raise UsageError(
                f"--from {word}: neither an address nor a network nor a name that can be looked up",
                hint=f"{PROGRAM} allow KEY --role ROLE --from 192.0.2.7,2001:db8::/32",
            ) from error
    return tuple(dict.fromkeys(found))


def _revoke(arguments: argparse.Namespace, home: Home, settings: Settings) -> int:
    farm = _own_farm(arguments, home)
    before = read_connections(farm.folder)
    removed = farm.table.remove(arguments.key, wall=time.time())
    if not removed:
        raise UsageError(f"no key {arguments.key!r} here", hint=f"{PROGRAM} keys")
    after = _reread(farm, before)
    for entry in removed:
        ended = after.ended.get(entry.key, 0) - before.ended.get(entry.key, 0)
        verb = "withdrew" if entry.invited else "revoked"
        print(f"{verb} {entry.role} {entry.name}: {ended} live connection{'s' * (ended != 1)} ended")
    if before.reading is not None and after.reading == before.reading:
        raise FarmError(
            f"the TaskManager has not taken note of it within {ENDING_S:.0f} s",
            hint=f"{PROGRAM} stop    # ends every connection",
        )
    return 0


def _reread(farm: Farm, before: Connections) -> Connections:
    """Return who is connected once a running manager has read the changed file."""
    deadline = time.monotonic() + ENDING_S
    while True:
        now = read_connections(farm.folder)
        if now.reading is None or now.reading != before.reading or time.monotonic() >= deadline:
            return now
        time.sleep(0.02)
