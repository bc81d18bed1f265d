"""Farms this machine manages or has joined: finding them, opening them, taking them away.

`keys` describes the files.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import msgspec

from computefarm.errors import Refused, SettingsError, Unreachable, UsageError
from computefarm.home import Home, check_secret, private_folder, write_file

from .addresses import parse_address
from .authorized import Authorization, Authorized
from .keys import KeyPair, PublicKey, ensure_keys, load_keys, read_key, spell

ACCESS = "access.json"
OWN_ROLES = ("client", "worker", "monitor")
"""The roles that the manager's own `CF_HOME` gets without asking."""

OWN_NAME = "manager"
"""What these keys are called: no machine's name, so that a machine can be shut out by its name."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
_STAND_INS = {
    "client": ("client", "admin"),
    "worker": ("worker",),
    "monitor": ("monitor", "worker"),
    "viewer": ("viewer", "client", "admin"),
    "admin": ("admin",),
}
"""Whose key a process of a role may use, in order of preference."""


class _AccessFile(msgspec.Struct, forbid_unknown_fields=False, omit_defaults=True):
    """`access.json`, as written."""

    farm: str
    address: str
    server_key: str
    automatic: bool = False
    invitations: tuple[str, ...] = ()
    advertised: str = ""


class Access(msgspec.Struct, frozen=True):
    """How to reach one farm from this machine."""

    farm: str
    address: str
    """`tcp://HOST:PORT`."""
    server_key: PublicKey
    folder: Path
    """Where `access.json` and `keys/` are."""
    automatic: bool = False
    """Written by a TaskManager of this same `CF_HOME`, and removed when it stops."""
    invitations: tuple[PublicKey, ...] = ()
    """Public halves of the invitations this machine joined with."""
    advertised: str = ""
    """Where other machines dial, when it is not `address`; only in the manager's own home."""

    def speaks_as(self) -> str:
        """Return the role of this machine's user: `client`, or `viewer` where there is no key for more."""
        has = {path.stem for path in (self.folder / "keys").glob("*.key")}
        return "viewer" if "viewer" in has and has.isdisjoint(_STAND_INS["client"]) else "client"

    def keys(self, role: str) -> KeyPair:
        """Return this machine's key pair for a process of `role`; refuse when it has none."""
        for name in _STAND_INS[role]:
            path = self.folder / "keys" / f"{name}.key"
            if path.exists():
                return load_keys(path)
        has = sorted(path.stem for path in (self.folder / "keys").glob("*.key"))
        raise Refused(
            f"this machine has no {role} key for the farm {self.farm!r} (it has: {', '.join(has) or 'none'})",
            hint=f"cf-taskmanager invite --role {role}    # where the manager runs; join with what it prints",
        )


def farms_folder(home: Home) -> Path:
    """Return the folder with one folder per farm."""
    return home.config / "farms"


def check_farm_name(name: str) -> str:
    """Return `name` if it can name a farm; raise `SettingsError` otherwise."""
    if _NAME.fullmatch(name) is None or name == "local":
        raise SettingsError(
            f"{name!r} cannot name a farm (letters, digits, `.`, `_` and `-`, 63 at most, and not `local`)"
        )
    return name


# --- the dialling side --------------------------------------------------------------------------------


def find_access(home: Home, farm: str) -> Access | None:
    """Return how to reach `farm`: a name, the path of an access file, or empty for the only one there is.

    None means the embedded farm: `local` was asked for, or no farm is configured.
    """
    if farm == "local":
        return None
    if "/" in farm or farm.endswith(".json"):
        path = Path(farm).expanduser()
        return read_access(path / ACCESS if path.is_dir() else path)
    if farm:
        return _find_named(home, farm)
    found = sorted(farms_folder(home).glob(f"*/{ACCESS}"))
    if len(found) > 1:
        names = [path.parent.name for path in found]
        raise SettingsError(
            f"several farms are configured here: {', '.join(names)}", hint=f"choose one: --farm {names[0]}"
        )
    return read_access(found[0]) if found else None


def _find_named(home: Home, farm: str) -> Access:
    folder = farms_folder(home) / check_farm_name(farm)
    if (folder / ACCESS).exists():
        return read_access(folder / ACCESS)
    if (folder / "keys" / "manager.key").exists():
        raise Unreachable(
            f"the TaskManager of the farm {farm!r} is not running",
            hint=f"cf-taskmanager start --name {farm} --daemon    # or run without it: --farm local",
        )
    known = ", ".join(sorted(path.parent.name for path in farms_folder(home).glob(f"*/{ACCESS}")))
    raise Refused(
        f"this machine knows no farm {farm!r} (it knows: {known or 'none'})",
        hint="majordomo join LINE    # LINE is what `cf-taskmanager invite` prints on the manager's machine",
    )


def read_access(path: Path) -> Access:
    """Return what an access file says."""
    try:
        if path.stat().st_mode & 0o022:
            raise Refused(
                f"{path} can be written by others, who could lead this machine to another manager",
                hint=f"chmod 600 {path}",
            )
        said = msgspec.json.decode(path.read_bytes(), type=_AccessFile)
        return Access(
            farm=said.farm,
            address=str(parse_address(said.address)),
            server_key=read_key(said.server_key),
            folder=path.parent,
            automatic=said.automatic,
            invitations=tuple(read_key(key) for key in said.invitations),
            advertised=str(parse_address(said.advertised)) if said.advertised else "",
        )
    except FileNotFoundError as error:
        hint = "majordomo join LINE    # LINE is what `cf-taskmanager invite` prints on the manager's machine"
        raise SettingsError(f"there is no access file {path}", hint=hint) from error
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.MsgspecError, ValueError, UsageError) as error:
        raise SettingsError(f"{path} is not an access file: {error}") from error


def write_access(access: Access) -> None:
    """Write `access.json` in the farm's folder."""
    private_folder(access.folder)
    file = _AccessFile(
        farm=access.farm,
        address=access.address,
        server_key=spell(access.server_key),
        automatic=access.automatic,
        invitations=tuple(spell(key) for key in access.invitations),
        advertised=access.advertised,
    )
    data = msgspec.json.format(msgspec.json.encode(file), indent=2)
    write_file(access.folder / ACCESS, data + b"\n", mode=0o600)


# --- the manager's side -------------------------------------------------------------------------------


class Farm(msgspec.Struct, frozen=True):
    """What a TaskManager needs of the files of its farm."""

    name: str
    folder: Path
    keys: KeyPair
    """The manager's own."""
    table: Authorized


def open_farm(home: Home, name: str) -> Farm:
    """Return the farm `name` of this home, made on first use, with this home's own keys authorised."""
    folder = farms_folder(home) / check_farm_name(name)
    manager_key = folder / "keys" / "manager.key"
    if (folder / ACCESS).exists() and not manager_key.exists():
        raise Refused(
            f"this machine has joined a farm {name!r} at {read_access(folder / ACCESS).address}",
            hint="cf-taskmanager start --name ANOTHER-NAME",
        )
    private_folder(farms_folder(home))
    private_folder(folder)
    keys = ensure_keys(manager_key)
    table = Authorized(folder / "authorized")
    if table.path.exists():
        check_secret(table.path)
    own = {role: ensure_keys(folder / "keys" / f"{role}.key").public for role in OWN_ROLES}
    wanted = {key: Authorization(role=role, name=OWN_NAME, key=key) for role, key in own.items()}
    # What its user has written about a key (other hosts, an end, revoked) stays.
    table.edit(lambda entries: {**entries, **{key: one for key, one in wanted.items() if key not in entries}})
    return Farm(name=name, folder=folder, keys=keys, table=table)


def publish(farm: Farm, address: str, advertised: str = "") -> Access:
    """Write the access file, so that processes of this home find the manager at `address`.

    `advertised` is the address that invitations carry, when it is another one.
    """
    access = Access(
        farm=farm.name,
        address=address,
        server_key=farm.keys.public,
        folder=farm.folder,
        automatic=True,
        advertised=advertised,
    )
    write_access(access)
    return access


def withdraw(home: Home, name: str) -> None:
    """Take away what `publish` wrote: the manager has stopped."""
    path = farms_folder(home) / name / ACCESS
    with contextlib.suppress(SettingsError, FileNotFoundError):
        if read_access(path).automatic:
            path.unlink()
