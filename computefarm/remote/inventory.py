"""Which machines were added to a farm by ssh, and how: `hosts.json` in the farm's folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Callable
from pathlib import Path

import msgspec

from computefarm.errors import FarmError, UsageError
from computefarm.home import private_folder, write_secret

from .ssh import Target

FILE = "hosts.json"


class Host(msgspec.Struct, frozen=True, omit_defaults=True):
    """One machine."""

    name: str
    """What `host list` calls it."""
    target: Target
    farm_folder: str
    """There: the farm's folder, with the machine's key."""
    services_folder: str
    venv: str
    environ: dict[str, str] = {}
    """There: what all commands are run with (`CF_HOME`, and XDG folders where set)."""
    python: str = ""
    address: str = ""
    """Where its processes dial: `tcp://HOST:PORT`."""
    via_ssh: bool = False
    port: int = 0
    """Of the tunnel, there."""
    key: str = ""
    """Its public key, as in `authorized`."""
    host: str = ""
    """Its id in the farm's status."""
    machine: str = ""
    """Tells it from other machines with the same home folder."""
    version: str = ""
    capabilities: tuple[str, ...] = ()
    """What was asked for; empty: all that a probe finds."""
    offered: tuple[str, ...] = ()
    """What its worker was started with."""
    slots: int = 0
    """Of its worker; 0: one per core."""
    worker_options: tuple[str, ...] = ()
    """Further words for its cf-worker."""
    kept_by: str = ""
    """`systemd` or `keeper`."""
    added_at: float = 0.0
    """Wall-clock seconds."""
    clock_offset_s: float | None = None
    """How far its clock was ahead of ours when last measured."""


class Hosts:
    """The file."""

    def __init__(self, farm_folder: Path) -> None:
        self.path = farm_folder / FILE

    def all(self) -> list[Host]:
        """Return every host, by name."""
        try:
            return sorted(msgspec.json.decode(self.path.read_bytes(), type=list[Host]), key=lambda h: h.name)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise FarmError(f"cannot read {self.path}: {error.strerror}") from error
        except msgspec.MsgspecError as error:
            raise FarmError(
                f"{self.path} is damaged: {error}", hint=f"mv {self.path} {self.path}.bad"
            ) from error

    def find(self, wanted: str) -> Host | None:
        """Return the host of this name or login."""
        found = [host for host in self.all() if wanted in (host.name, host.target.where)]
        return found[0] if found else None

    def get(self, wanted: str) -> Host:
        """Return the host of this name or login; raise `UsageError` when there is none."""
        host = self.find(wanted)
        if host is None:
            names = ", ".join(one.name for one in self.all()) or "none"
            raise UsageError(
                f"no host {wanted!r} was added to this farm (there are: {names})",
                hint=f"majordomo host add {wanted}",
            )
        return host

    def put(self, host: Host) -> None:
        """Enter a host, in place of what was there under its name."""
        self._edit(lambda hosts: [*(one for one in hosts if one.name != host.name), host])

    def drop(self, name: str) -> None:
        """Forget a host."""
        self._edit(lambda hosts: [one for one in hosts if one.name != name])

    def name_for(self, target: Target) -> str:
        """Return the name of a login: the host alone, or all of it where another user there has that name."""
        for host in self.all():
            if host.target.where == target.where:
                return host.name
        if any(host.name == target.host for host in self.all()):
            return re.sub(r"[^A-Za-z0-9._@-]+", "-", target.where.removeprefix("ssh://"))
        return target.host

    def _edit(self, change: Callable[[list[Host]], list[Host]]) -> None:
        private_folder(self.path.parent)
        lock = os.open(self.path.with_name(f".{FILE}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with contextlib.closing(os.fdopen(lock, "rb")):
            fcntl.flock(lock, fcntl.LOCK_EX)
            hosts = sorted(change(self.all()), key=lambda host: host.name)
            write_secret(self.path, msgspec.json.format(msgspec.json.encode(hosts), indent=1) + b"\n")
