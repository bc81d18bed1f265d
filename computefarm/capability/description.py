"""What a capability is: the structs behind a capability file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from .actions import NamedAction

Command = tuple[str, ...]
"""An argument vector; never a shell string."""

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.+-]*", re.ASCII)


class VersionProbe(msgspec.Struct, frozen=True):
    """A program to run, and where in its output to look."""

    run: Command
    match: str = ""
    """Regular expression; its first group, else the whole match, is the value. Empty: the whole output."""


class Probe(msgspec.Struct, frozen=True):
    """What must hold before a worker offers the capability."""

    version: VersionProbe | None = None
    tags: tuple[tuple[str, VersionProbe | str], ...] = ()
    """Each a program's answer, or text given in the file."""


class Resources(msgspec.Struct, frozen=True):
    """What a task takes unless it says otherwise."""

    cpus: int = 1
    memory: int = 0
    """Bytes."""
    gpus: int = 0


class Variant(msgspec.Struct, frozen=True):
    """One of several ways to do everything that the capability can do."""

    name: str
    requires: tuple[str, ...] = ()
    """Programs without which this machine cannot."""
    probe: Probe = Probe()
    """Must hold as well; a version here replaces the capability's."""
    fingerprint: tuple[str | VersionProbe, ...] = ()
    """Added to the capability's."""
    resources: Resources | None = None
    """Instead of the capability's."""
    env: tuple[tuple[str, str], ...] = ()
    logs: str = ""
    """Instead of the capability's."""


class Capability(msgspec.Struct, frozen=True):
    """One capability file, checked."""

    capability: str
    """The name."""
    summary: str
    worker: str
    """The plug-in that executes it."""
    source: str
    """The file, for messages."""
    probe: Probe = Probe()
    fingerprint: tuple[str | VersionProbe, ...] = ()
    """Programs whose content enters the fingerprint: a name, or a command that prints a path or a name.
    Empty means that the version alone tells two toolchains apart."""
    resources: Resources = Resources()
    env: tuple[tuple[str, str], ...] = ()
    """Sorted; set for every task of this capability."""
    logs: str = ""
    """The parser that finds level, file and line in the tasks' output."""
    sandbox: bool = False
    actions: Mapping[str, NamedAction] = {}
    requires: tuple[str, ...] = ()
    """Programs that must be there although nothing is asked of them."""
    variants: tuple[Variant, ...] = ()
    """In order of preference: a worker offers the first that its machine has, as the tag `variant`."""
    extend: bool = False
    """Adds to the description of the same name that was read before, instead of replacing it."""


FIELDS = (
    "capability",
    "summary",
    "worker",
    "probe",
    "fingerprint",
    "resources",
    "env",
    "logs",
    "sandbox",
    "actions",
    "requires",
    "variants",
    "extend",
)


EMPTY = Capability("", "", "", "")
"""What a description says that says nothing."""


def extended(base: Capability, addition: Capability) -> Capability:
    """Return `base` with what `addition` says: its actions and variables added, its other fields instead."""
    changed: dict[str, Any] = {
        name: getattr(addition, name)
        for name in FIELDS
        if name not in ("capability", "extend") and getattr(addition, name) != getattr(EMPTY, name)
    }
    changed["actions"] = {**base.actions, **addition.actions}
    changed["env"] = tuple(sorted({**dict(base.env), **dict(addition.env)}.items()))
    changed["requires"] = (*base.requires, *addition.requires)
    return msgspec.structs.replace(base, source=f"{base.source} and {addition.source}", **changed)


def variants_of(variants: tuple[Variant, ...]) -> tuple[str, ...]:
    """Return the variants' names, in order of preference."""
    return tuple(each.name for each in variants)
