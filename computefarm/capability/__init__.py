"""What a kind of worker can do, as capability files say it."""

from __future__ import annotations

from .actions import RESERVED, ActionError, Expanded, NamedAction, Parameter, Spread, When
from .description import FIELDS, Capability, Command, Probe, Resources, Variant, VersionProbe, extended
from .expanding import able, expand, find
from .reading import parse

__all__ = [
    "FIELDS",
    "RESERVED",
    "ActionError",
    "Capability",
    "Command",
    "Expanded",
    "NamedAction",
    "Parameter",
    "Probe",
    "Resources",
    "Spread",
    "Variant",
    "VersionProbe",
    "When",
    "able",
    "expand",
    "extended",
    "find",
    "parse",
]
