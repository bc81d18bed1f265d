"""TCP below ZeroMQ: what it has no call for, done on its own descriptors."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import struct
import sys

import zmq

from computefarm.errors import UsageError

from .addresses import Address, plain_ip

_TCP_INFO = getattr(socket, "TCP_INFO", 11)
_RECEIVED_AT = 128
"""Where Linux (4.1 and later) keeps `tcpi_bytes_received` in `struct tcp_info`."""


def shuffle_routes() -> None:
    """Make the routing ids of the next ROUTER unpredictable; to be called before it is created.

    ZeroMQ counts up from the C library's `rand()`, which nobody seeds. A peer that knows the next one can
    choose it for itself, and ZeroMQ then aborts the whole process (an assertion in `add_out_pipe`).
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).srand(ctypes.c_uint(int.from_bytes(os.urandom(4), "big")))


def hang_up(descriptor: int, far: tuple[str, int] | None = None) -> None:
    """End a connection (-1: none), if it still leads to `far`; ZeroMQ's own thread sees it and cleans up."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as link:
        if far is None or _far(link) == far:
            link.shutdown(socket.SHUT_RDWR)


def far_end(descriptor: int) -> tuple[str, int]:
    """Return IP address and port at the other end of a connection; `("", 0)` if it is gone."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as link:
        return _far(link)
    return "", 0


def _far(link: socket.socket) -> tuple[str, int]:
    host, port = link.getpeername()[:2]
    return plain_ip(str(host)), int(port)


def bytes_received(descriptor: int) -> int | None:
    """Return how many bytes have come in on a connection; None where the system does not tell."""
    if sys.platform != "linux" or descriptor < 0:
        return None
    try:
        with socket.socket(fileno=os.dup(descriptor)) as link:
            facts = link.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _RECEIVED_AT + 8)
    except OSError:
        return None
    if len(facts) < _RECEIVED_AT + 8:
        return None
    return int(struct.unpack_from("=Q", facts, _RECEIVED_AT)[0])


def resolved(where: Address) -> str:
    """Return the endpoint to listen at, which ZeroMQ wants as a number (or as an interface's name)."""
    host = where.host
    if not where.is_ipv6:
        with contextlib.suppress(OSError):
            host = str(socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])
    text = str(Address(host, where.port))
    return text if where.port else text[:-1] + "*"


def bind_error(where: Address, error: zmq.ZMQError) -> UsageError:
    """Return why listening at `where` failed, and what to try."""
    if error.errno == zmq.EADDRINUSE:
        return UsageError(
            f"port {where.port} of {where.host} is in use: another TaskManager or program listens there",
            hint="cf-taskmanager status    # or another port: "
            f"--listen {Address(where.host, where.port + 1)}",
        )
    if error.errno == errno.EACCES:
        return UsageError(
            f"this user may not listen on port {where.port}", hint="choose a port from 1024 up with --listen"
        )
    if error.errno in (errno.ENODEV, errno.EADDRNOTAVAIL):
        return UsageError(
            f"cannot listen at {where}: {where.host} is no address of this machine",
            hint=f"cf-taskmanager start --listen tcp://0.0.0.0:{where.port}    # all addresses that it has",
        )
    return UsageError(
        f"cannot listen at {where}: {error.strerror}", hint="choose an address of this machine with --listen"
    )
