"""Named actions in a dodo file: `from computefarm import farm`.

    def task_compile():
        for source in sorted(Path("src").glob("*.c")):
            yield {
                "name": source.stem,
                **farm.action("gcc>=9", "compile", source=source, object=f"build/{source.stem}.o",
                              inputs=["include/**/*.h"]),
            }

Works under plain `doit` as well: the commands are ordinary argument vectors, run locally there.
"""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from computefarm.capability import Capability, Expanded, expand, lending
from computefarm.catalogue import Catalogue
from computefarm.home import Home
from computefarm.needs import KEY, needs, parse_requirement

__all__ = ["action"]


@functools.cache
def _catalogue(home: str, project: str) -> Catalogue:
    """Return what applies in a folder, read once per process and folder."""
    return Catalogue.load(Home.find(os.environ), Path(project))


def action(capability: str, name: str, **values: Any) -> dict[str, Any]:
    """Return `actions`, `file_dep`, `targets` and `meta` of a task that does one of a capability's actions.

    `capability` is a requirement as `needs` takes it, `name` one of its actions.
    `values` are the action's own parameters, and besides them every argument of `needs`:
    `inputs`, `cpus`, `memory`, `timeout`, `retries`, `tags`, `env`, ….
    Raises `UsageError` naming the parameter and what was expected.
    """
    plain, _ = parse_requirement(capability)
    catalogue = _catalogue(os.environ.get("CF_HOME", ""), os.getcwd())
    description = catalogue.get(plain)
    own = {key: value for key, value in values.items() if key in _NEEDS}
    given = {key: _plain(value) for key, value in values.items() if key not in _NEEDS}
    return task_of(capability, description, name, given, own)


def task_of(
    requirement: str,
    capability: Capability,
    name: str,
    values: Mapping[str, Any],
    own: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the parts of a doit task; `own` are arguments of `needs`."""
    made = expand(capability, name, values, variant=local_variant(capability), cpus=own.get("cpus", 0))
    return parts_of(requirement, capability, made, own)


def parts_of(
    requirement: str, capability: Capability, made: Expanded, own: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the parts of a doit task that does what `made` says."""
    asked = dict(own)
    if made.cpus != 1:
        asked.setdefault("cpus", made.cpus)
    if made.gpus:
        asked.setdefault("gpus", made.gpus)
    if made.memory:
        asked.setdefault("memory", made.memory)
    if made.timeout_s:
        asked.setdefault("timeout", made.timeout_s)
    if made.env:
        asked["env"] = {**dict(made.env), **asked.get("env", {})}
    meta = needs(requirement, **asked)
    meta[KEY]["action"] = {
        "name": made.action,
        "values": dict(made.values),
        "label": lending.wanted(capability, made.action, made.values),
    }
    if made.depfile:
        meta[KEY]["depfile"] = made.depfile
    return {
        "actions": [list(command) for command in made.commands],
        "file_dep": list(made.inputs),
        "targets": list(made.outputs),
        "meta": meta,
    }


def local_variant(capability: Capability) -> str:
    """Return the variant whose programs are here: the one that a plain local run can use."""
    for variant in capability.variants:
        if all(shutil.which(program) for program in variant.requires):
            return variant.name
    return ""


def _plain(value: Any) -> Any:
    """Return paths as text, as everything below expects."""
    if isinstance(value, PurePath):
        return value.as_posix()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


_NEEDS = frozenset(
    {
        "inputs", "outputs", "cpus", "memory", "gpus", "exclusive", "timeout", "priority", "retries", "load",
        "tags", "env", "pass_env", "host_files", "cache", "sandbox", "any_toolchain",
    }
)  # fmt: skip


def expanded(meta: Mapping[str, Any], capability: Capability, variant: str, cpus: int) -> Expanded | None:
    """Return the named action that a task's farm entry carries, for a variant; None when it carries none."""
    said = meta.get("action")
    if said is None:
        return None
    return expand(capability, said["name"], said["values"], variant=variant, cpus=cpus)
