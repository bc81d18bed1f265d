"""Find worker plug-ins by entry point, whoever ships them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from importlib import metadata

from computefarm.errors import FarmError

from .contract import CommandPlugin

GROUP = "computefarm.workers"
"""Entry points of this group name a class that takes no arguments."""


def _installed() -> Iterable[metadata.EntryPoint]:
    return metadata.entry_points(group=GROUP)


def find(name: str, *, installed: Callable[[], Iterable[metadata.EntryPoint]] = _installed) -> CommandPlugin:
    """Return a new plug-in called `name`; raise `FarmError` saying what is there when it cannot be had."""
    points = {point.name: point for point in installed()}
    if name not in points:
        raise FarmError(_absent(name, sorted(points)))
    which = f"worker plug-in {name!r} ({points[name].value})"
    try:
        plugin = points[name].load()()
    except Exception as error:  # a stranger's module may fail in any way; say whose it is
        raise FarmError(f"{which} cannot be loaded: {type(error).__name__}: {error}") from error
    if not isinstance(plugin, CommandPlugin):
        raise FarmError(f"{which} is not one: expected `name` and `commands(action, context)`")
    return plugin


def names() -> tuple[str, ...]:
    """Return the names of all installed plug-ins, sorted."""
    return tuple(sorted({point.name for point in _installed()}))


def _absent(name: str, there: list[str]) -> str:
    if not there:
        return f"no worker plug-in {name!r}: none at all is installed (try: pip install -e .)"
    near = get_close_matches(name, there, n=1)
    guess = f"; did you mean {near[0]!r}?" if near else ""
    return f"no worker plug-in {name!r} is installed; there are: {', '.join(there)}{guess}"
