"""Addresses as people type them and as ZeroMQ wants them."""

from __future__ import annotations

import ipaddress
import re

import msgspec

from computefarm.errors import UsageError

DEFAULT_PORT = 11989
_ADDRESS = re.compile(r"(?:tcp://)?(?P<host>\[[^\]]+\]|[^:\[\]/]*|\*)(?::(?P<port>\d+|\*))?", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_-]+)*\.?", re.ASCII)


class Address(msgspec.Struct, frozen=True):
    """A host (name, IPv4, or IPv6 without brackets) and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if self.is_ipv6 else self.host
        return f"tcp://{host}:{self.port}"

    @property
    def is_ipv6(self) -> bool:
        """Return whether the host is a literal IPv6 address."""
        return ":" in self.host

    @property
    def is_loopback(self) -> bool:
        """Return whether only processes of this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def is_any(self) -> bool:
        """Return whether it means all addresses of a machine: good to listen at, not to dial."""
        return self.host in ("0.0.0.0", "::")


def parse_address(text: str, *, default_port: int = DEFAULT_PORT) -> Address:
    """Return the address in `tcp://HOST:PORT`, `HOST:PORT`, `HOST` or `[::1]:PORT`.

    Port `*` is 0 (any free one), host `*` is `0.0.0.0`. Raises `UsageError` for anything else.
    """
    match = _ADDRESS.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"not an address: {text!r} (tcp://HOST:PORT was expected)")
    host, port = match["host"].strip("[]"), match["port"]
    number = default_port if port is None else 0 if port == "*" else int(port)
    if number > 65535:
        raise UsageError(f"not an address: {text!r} (a port is at most 65535)")
    if host == "*":
        host = "0.0.0.0"
    try:
        return Address(host=str(ipaddress.ip_address(host)), port=number)
    except ValueError:
        if match["host"].startswith("[") or _NAME.fullmatch(host) is None:
            raise UsageError(f"not an address: {text!r} (tcp://HOST:PORT was expected)") from None
        return Address(host=host, port=number)


def plain_ip(address: str) -> str:
    """Return an IP address as people write it: IPv4 without the IPv6 clothes that a dual port gives it."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str((isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped) or ip)
