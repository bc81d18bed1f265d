"""`cf-recompute devices`: the GPUs that warm processes would use, or why there is none."""

from __future__ import annotations

import argparse
import os
from typing import Any

from computefarm.errors import NothingOffers
from computefarm.quantities import format_size
from computefarm.worker_api import registry
from computefarm.worker_api.resident import PlacingPlugin

WORKER = "recompute"


def add(commands: Any) -> None:
    """Add the command."""
    devices = commands.add_parser("devices", help="list this machine's GPUs, or say why none can be used")
    devices.add_argument("--brief", action="store_true", help="on one line, without what changes")
    devices.set_defaults(call=_devices)


def _devices(arguments: argparse.Namespace) -> int:
    plugin = registry.find(WORKER)
    assert isinstance(plugin, PlacingPlugin)
    units, reason = plugin.units(os.environ)
    if not units:
        raise NothingOffers(f"no GPU: {reason}")
    if arguments.brief:
        print("; ".join(f"{unit.name} {format_size(unit.total)}" for unit in units))
        return 0
    for unit in units:
        print(f"{unit.name}  {format_size(unit.total)}, {format_size(unit.free)} free")
    if reason:
        print(reason)
    return 0
