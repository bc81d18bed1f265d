"""The typed form of a task's needs, for majordomo; `needs.py` is the door to it."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from computefarm.errors import UsageError
from computefarm.spelling import QUOTED, did_you_mean

from .needs import KEY, Checked, needs

_Count = Annotated[int, msgspec.Meta(ge=0)]


class Needs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `needs(...)` was given, checked and in base units."""

    capability: str
    """The name alone."""
    version: str = ""
    """A constraint such as `>=9,<14`; empty means any."""
    inputs: tuple[str, ...] = ()
    """Paths or glob patterns relative to the project, beside `file_dep`."""
    outputs: tuple[str, ...] = ()
    """Paths, folders or glob patterns relative to the project, beside `targets`."""
    cpus: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Slots; None leaves it to the capability."""
    memory: _Count | None = None
    """Bytes; the same."""
    gpus: _Count | None = None
    exclusive: bool = False
    timeout: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """Seconds; None means no limit."""
    priority: float = 0.0
    retries: _Count = 0
    load: Annotated[float, msgspec.Meta(ge=0)] | None = None
    """In cores; None means as many as `cpus`."""
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    env: dict[str, str] = msgspec.field(default_factory=dict)
    pass_env: tuple[str, ...] = ()
    host_files: tuple[str, ...] = ()
    cache: bool = True
    sandbox: bool = False
    any_toolchain: bool = False
    action: dict[str, Any] = msgspec.field(default_factory=dict)
    """`name` and `values` of the capability's action that the commands came from; empty for free commands."""
    depfile: str = ""
    """Where the command writes, as a Makefile rule, which files it has read; one of the outputs."""
    logs: str = ""
    """The line parser of what the action prints; empty means its capability's."""


def read(farm: Any) -> Needs:
    """Return the needs that a mapping describes; raise `UsageError` when it describes none."""
    if type(farm) is not Checked:
        farm = _checked(farm)
    try:
        return msgspec.convert(farm, Needs)
    except msgspec.ValidationError as error:
        raise UsageError(f"meta['farm']: {error}") from error


def _checked(farm: Any) -> dict[str, Any]:
    """Take a mapping that did not come from `needs(...)`: written by hand, or read from a file."""
    if not isinstance(farm, dict) or not isinstance(farm.get("capability"), str):
        raise UsageError(f"meta['farm'] is {farm!r}: expected what needs(...) returns")
    for key in farm:
        if key not in Needs.__struct_fields__:
            raise UsageError(_unknown(str(key)))
    own = {key: farm[key] for key in ("action", "depfile", "logs") if key in farm}
    arguments = {key: value for key, value in farm.items() if key != "version" and key not in own}
    if version := farm.get("version", ""):
        if not isinstance(version, str) or version[0] not in "<>=!":
            raise UsageError(f"meta['farm'] has version {version!r}: expected a comparison such as '>=9'")
        arguments["capability"] += version
    return {**needs(**arguments)[KEY], **own}


def _unknown(key: str) -> str:
    guess = did_you_mean(key, Needs.__struct_fields__, QUOTED)
    return f"meta['farm'] has an unknown key {key!r}: expected {', '.join(Needs.__struct_fields__)}{guess}"
