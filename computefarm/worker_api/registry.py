"""Find worker plug-ins by entry point, whoever ships them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import metadata

from computefarm.errors import FarmError
from computefarm.spelling import QUOTED, did_you_mean

from . import plugins
from .contract import CommandPlugin
from .plugins import make

GROUP = "computefarm.workers"
"""Entry points of this group name a class that takes no arguments."""


def _installed() -> Iterable[metadata.EntryPoint]:
    return metadata.entry_points(group=GROUP)


def find(name: str, *, installed: Callable[[], Iterable[metadata.EntryPoint]] = _installed) -> CommandPlugin:
    """Return a new plug-in called `name`; raise `FarmError` saying what is there when it cannot be had."""
    points = {point.name: point for point in installed()}
    if name not in points:
        raise FarmError(_absent(name, sorted(points)))
    return make(points[name], "worker plug-in", CommandPlugin, "`name` and `commands(action, context)`")  # type: ignore[type-abstract]


def names() -> tuple[str, ...]:
    """Return the names of all installed plug-ins, sorted."""
    return plugins.names(GROUP)


def _absent(name: str, there: list[str]) -> str:
    if not there:
        return f"no worker plug-in {name!r}: none at all is installed (try: pip install -e .)"
    guess = did_you_mean(name, there, QUOTED)
    return f"no worker plug-in {name!r} is installed; there are: {', '.join(there)}{guess}"
