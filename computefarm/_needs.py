"""The typed form of a task's needs, for majordomo; `needs.py` is the door to it."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated, Any

import msgspec

from computefarm.errors import UsageError

_Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z][A-Za-z0-9_.+-]*$")]


class Needs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `needs(...)` was given, checked and in base units."""

    capability: _Name
    """The name alone."""
    version: str = ""
    """A constraint such as `>=9,<14`; empty means any."""
    inputs: tuple[str, ...] = ()
    """Paths or glob patterns relative to the project, beside `file_dep`."""
    outputs: tuple[str, ...] = ()
    """Paths, folders or glob patterns relative to the project, beside `targets`."""
    cpus: int = 1
    memory: int | None = None
    """Bytes; None leaves it to the capability."""
    gpus: int = 0
    exclusive: bool = False
    timeout: float | None = None
    """Seconds; None means no limit."""
    priority: float = 0.0
    retries: int = 0
    load: float | None = None
    """In cores; None means as many as `cpus`."""
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    env: dict[str, str] = msgspec.field(default_factory=dict)
    pass_env: tuple[str, ...] = ()
    host_files: tuple[str, ...] = ()
    cache: bool = True
    sandbox: bool = False
    any_toolchain: bool = False


def read(farm: Any) -> Needs:
    """Return the needs that a plain mapping describes; raise `UsageError` when it describes none."""
    try:
        return msgspec.convert(farm, Needs)
    except msgspec.ValidationError as error:
        return _read_by_hand(farm, error)


def _read_by_hand(farm: Any, error: msgspec.ValidationError) -> Needs:
    """Take a mapping that was written without `needs(...)`, with sizes and durations still as text."""
    from .needs import needs

    if not isinstance(farm, dict) or not isinstance(farm.get("capability"), str):
        raise UsageError(f"meta['farm'] is {farm!r}: expected what needs(...) returns") from error
    for key in farm:
        if key not in Needs.__struct_fields__:
            raise UsageError(_unknown(str(key))) from error
    arguments = {key: value for key, value in farm.items() if key != "version"}
    arguments["capability"] = f"{farm['capability']}{farm.get('version', '')}"
    try:
        return msgspec.convert(needs(**arguments)["farm"], Needs)
    except msgspec.ValidationError as again:
        raise UsageError(f"meta['farm']: {again}") from again


def _unknown(key: str) -> str:
    near = get_close_matches(key, Needs.__struct_fields__, n=1)
    guess = f"; did you mean {near[0]!r}?" if near else ""
    return f"meta['farm'] has an unknown key {key!r}: expected {', '.join(Needs.__struct_fields__)}{guess}"
