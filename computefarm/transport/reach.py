"""Why a manager cannot be reached, which addresses of this machine others can dial, and what opens a port."""

from __future__ import annotations

import errno
import shutil
import socket

from computefarm.errors import FarmError, Unreachable
from computefarm.home import hostname

from .addresses import Address, parse_address

PROBE_S = 2.0
"""How long a connection may take before something in between is to blame."""

_SILENCED = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT, errno.EACCES, errno.EPERM)
_SOMEWHERE = ("192.0.2.1", "2001:db8::1")
"""Addresses that belong to nobody: asked for the way there, never sent anything."""


def firewall_line(port: int) -> str:
    """Return the command that opens `port` in the firewall of this machine (ufw's where none is found)."""
    if shutil.which("ufw"):
        return f"sudo ufw allow {port}/tcp"
    if shutil.which("firewall-cmd"):
        return f"sudo firewall-cmd --permanent --add-port={port}/tcp && sudo firewall-cmd --reload"
    if shutil.which("nft"):
        return f"sudo nft insert rule inet filter input tcp dport {port} accept"
    return f"sudo ufw allow {port}/tcp"


def outgoing_address(ipv6: bool = False) -> str:
    """Return this machine's address on the interface that leads out, or the empty string where none does."""
    family, somewhere = (socket.AF_INET6, _SOMEWHERE[1]) if ipv6 else (socket.AF_INET, _SOMEWHERE[0])
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as link:
            # UDP: this asks for the route and sends nothing.
            link.connect((somewhere, 9))
            found = str(link.getsockname()[0])
    except OSError:
        return ""
    return "" if Address(found, 0).is_loopback or Address(found, 0).is_any else found


def dialled_as(listening: Address) -> Address:
    """Return the address by which other machines should dial a manager that listens at `listening`.

    Where it listens on every interface this is the outgoing one's, or failing that the machine's name.
    """
    if not listening.is_any:
        return listening
    ipv6 = listening.is_ipv6
    host = outgoing_address() or (outgoing_address(ipv6=True) if ipv6 else "") or hostname()
    return Address(host, listening.port)


def local_form(listening: Address) -> Address:
    """Return the address by which processes of this machine dial a manager that listens at `listening`."""
    if not listening.is_any:
        return listening
    return Address("::1" if listening.is_ipv6 and not _has_ipv4_loopback() else "127.0.0.1", listening.port)


def _has_ipv4_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as link:
            link.bind(("127.0.0.1", 0))
    except OSError:
        return False
    return True


def not_running(address: str, farm: str = "") -> Unreachable:
    """Return the error for a port where nobody listens."""
    where = parse_address(address)
    name = f" --name {farm}" if farm and farm != "default" else ""
    listen = "" if where.is_loopback else f" --listen tcp://0.0.0.0:{where.port}"
    place = "" if where.is_loopback else "    # on the manager's machine"
    return Unreachable(
        f"no TaskManager answers at {where}: nothing listens there",
        hint=f"cf-taskmanager start{name}{listen} --daemon{place or '    # or run here: --farm local'}",
    )


def blocked(address: str) -> Unreachable:
    """Return the error for a port that something in between keeps shut."""
    where = parse_address(address)
    return Unreachable(
        f"{where} does not answer at all: a firewall keeps the port shut, or that machine is off",
        hint=f"sudo ufw allow {where.port}/tcp    # on the manager's machine; it prints the line for its own "
        "firewall when it starts",
    )


def unknown_host(address: str) -> Unreachable:
    """Return the error for a name that leads nowhere."""
    where = parse_address(address)
    return Unreachable(
        f"this machine finds no address for {where.host!r}",
        hint="cf-taskmanager invite --role ROLE --address IP-ADDRESS    # on the manager's machine; "
        "then join again here with the line it prints",
    )


def silent(address: str) -> Unreachable:
    """Return the error for a port where somebody listens who does not speak."""
    return Unreachable(
        f"{address} accepts connections, but no TaskManager answers: it is stopped or overloaded, "
        "or a tunnel has lost its far end",
        hint="cf-taskmanager status    # on the manager's machine; or run here: --farm local",
    )


def why_unreachable(address: str, farm: str = "", timeout_s: float = PROBE_S) -> FarmError:
    """Return why no TaskManager answers at `address`, found out by one plain connection."""
    where = parse_address(address)
    try:
        with socket.create_connection((where.host, where.port), timeout=timeout_s):
            return silent(address)
    except socket.gaierror:
        return unknown_host(address)
    except ConnectionRefusedError:
        return not_running(address, farm)
    except TimeoutError:
        return blocked(address)
    except OSError as error:
        return blocked(address) if error.errno in _SILENCED else not_running(address, farm)
