"""Whom `cf-recompute` asks: the servers of a list, the configured farm, or this machine alone."""

from __future__ import annotations

import argparse
import os
import sys

from computefarm.errors import FarmError, NothingOffers, UsageError
from computefarm.home import Home
from computefarm.recompute import Client
from computefarm.recompute.local import LocalClient
from computefarm.services.equip import usable_cores
from computefarm.settings import Settings, load_settings
from computefarm.transport.farms import find_access

READY_S = 4.0
"""How long servers may take to say what they offer."""

Asked = Client | LocalClient


def add_options(parser: argparse.ArgumentParser, *, local: bool) -> None:
    """Add the options that say whom to ask, and how."""
    parser.add_argument(
        "--hosts", default="", metavar="LIST", help="HOST[:PORT],… (default: CF_RECOMPUTE_HOST, the farm)"
    )
    if local:
        parser.add_argument("--local", action="store_true", help="compute on this machine, ask no server")
    parser.add_argument(
        "--deadline-ms", type=int, default=None, metavar="MS", help="of requests that name none (5000)"
    )
    parser.add_argument(
        "--max-cores", type=int, default=None, metavar="N", help="in flight (default: what servers grant)"
    )


def settings_of(arguments: argparse.Namespace, home: Home) -> Settings:
    """Return the settings, with what the command line says."""
    for flag, value in (("--deadline-ms", arguments.deadline_ms), ("--max-cores", arguments.max_cores)):
        if value is not None and not 1 <= value <= 86_400_000:
            raise UsageError(f"{flag} {value}: a whole number from 1 on was expected")
    flags = {"recompute_timeout": arguments.deadline_ms, "recompute_max_cores": arguments.max_cores}
    return load_settings(flags, os.environ, home)


def here(arguments: argparse.Namespace, home: Home, settings: Settings) -> bool:
    """Return whether this machine computes: it is told to, or knows of no server."""
    if arguments.local and arguments.hosts:
        raise UsageError("--local asks no server, --hosts names some: only one of them can be meant")
    if arguments.local:
        return True
    if arguments.hosts or settings.recompute_host:
        return False
    return find_access(home, settings.farm) is None


def server_client(arguments: argparse.Namespace) -> Client:
    """Return a client of servers; raises `FarmError` where none is configured."""
    home = Home.find(os.environ)
    return Client(arguments.hosts, home=home, settings=settings_of(arguments, home))


def client(arguments: argparse.Namespace, *, most: int = 0, timeout_ms: int = 0) -> Asked:
    """Return whoever answers, at most `most` requests at a time (0: no limit).

    `timeout_ms` is how long a request may take unless the command line says so.
    """
    home = Home.find(os.environ)
    settings = settings_of(arguments, home)
    if timeout_ms and arguments.deadline_ms is None:
        settings = load_settings(
            {"recompute_timeout": timeout_ms, "recompute_max_cores": arguments.max_cores}, os.environ, home
        )
    if not here(arguments, home, settings):
        return Client(arguments.hosts, home=home, settings=settings)
    cores = min(usable_cores(), most or usable_cores(), settings.recompute_max_cores or usable_cores())
    if not arguments.local:
        what = "one core" if cores == 1 else f"{cores} cores"
        print(f"no recompute server is configured: computing here, on {what}", file=sys.stderr)
    return LocalClient(
        home,
        slots=cores,
        timeout_ms=settings.recompute_timeout,
        say=lambda text: print(text, file=sys.stderr),
    )


def slots_of(asked: Asked) -> int:
    """Return how many requests are computed at once; raises `FarmError` where it is none."""
    slots = asked.slots(READY_S)
    error = asked.unusable()
    if error is not None:
        raise error
    if not slots:
        raise nobody()
    return slots


def nobody() -> FarmError:
    """Return what is to be said when the servers are there and offer nothing."""
    return NothingOffers(
        "no worker of these servers offers recompute now (one that was just started may be warming up)",
        hint="cf-worker --capability recompute    # on any machine of the farm",
    )
