"""TCP below ZeroMQ: what it has no call for, done on its own descriptors."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket

import zmq

from computefarm.errors import UsageError

from .addresses import Address


def shuffle_routes() -> None:
    """Make the routing ids of the next ROUTER unpredictable; to be called before it is created.

    ZeroMQ counts up from the C library's `rand()`, which nobody seeds. A peer that knows the next one can
    choose it for itself, and ZeroMQ then aborts the whole process (an assertion in `add_out_pipe`).
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).srand(ctypes.c_uint(int.from_bytes(os.urandom(4), "big")))


def hang_up(descriptor: int) -> None:
    """End a connection (-1: none); ZeroMQ's own thread sees the end and cleans up."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as link:
        link.shutdown(socket.SHUT_RDWR)


def far_end(descriptor: int) -> str:
    """Return the IP address at the other end of a connection, or the empty string if it is gone."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as link:
        return str(link.getpeername()[0])
    return ""


def bind_error(where: Address, error: zmq.ZMQError) -> UsageError:
    """Return why listening at `where` failed, and what to try."""
    if error.errno == zmq.EADDRINUSE:
        return UsageError(
            f"port {where.port} of {where.host} is in use: another TaskManager or program listens there",
            hint=f"cf-taskmanager status    # or another port: --listen tcp://{where.host}:{where.port + 1}",
        )
    if error.errno == errno.EACCES:
        return UsageError(
            f"this user may not listen on port {where.port}", hint="choose a port from 1024 up with --listen"
        )
    return UsageError(
        f"cannot listen at {where}: {error.strerror}", hint="choose an address of this machine with --listen"
    )
