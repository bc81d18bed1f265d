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

from computefarm.capability import Capability, Expanded, able, expand, find, lending
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
    variant = local_variant(capability, name)
    made = expand(capability, name, values, variant=variant, cpus=own.get("cpus", 0))
    return parts_of(requirement, capability, made, own)


def parts_of(
    requirement: str, capability: Capability, made: Expanded, own: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the parts of a doit task that does what `made` says.

    Its commands are those of the variant that was made; those of all variants go along in `meta`, for the one
    that the workers have.
    """
    meta = needs(requirement, **_asked(made, own))
    meta[KEY]["action"] = {
        "name": made.action,
        "values": dict(made.values),
        "label": _label(capability, made, own),
    }
    variants = able(capability, find(capability, made.action))
    if variants:
        meta[KEY]["action"]["variants"] = {
            name: _variant(requirement, capability, made, name, own) for name in variants
        }
    if made.depfile:
        meta[KEY]["depfile"] = made.depfile
    if made.logs != capability.logs:
        meta[KEY]["logs"] = made.logs
    return {
        "actions": [list(command) for command in made.commands],
        "file_dep": list(made.inputs),
        "targets": list(made.outputs),
        "meta": meta,
    }


def _label(capability: Capability, made: Expanded, own: Mapping[str, Any]) -> str:
    """Return the label of an action; one that no lent worker has if the task asks for more than it."""
    for more in ("env", "pass_env", "host_files"):
        if own.get(more):
            return f"{made.action}{lending.UNUSUAL}{more}"
    return lending.wanted(capability, made.action, made.values)


def _asked(made: Expanded, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `needs`: the author's own go before the action's."""
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
    return asked


def _variant(
    requirement: str, capability: Capability, made: Expanded, name: str, own: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what is another with the variant called `name`: commands, variables and resources."""
    other = expand(capability, made.action, made.values, variant=name, cpus=own.get("cpus", 0))
    asked = needs(requirement, **_asked(other, own))[KEY]
    return {
        "commands": [list(command) for command in other.commands],
        "cpus": asked.get("cpus", 1),
        "gpus": asked.get("gpus", 0),
        "memory": asked.get("memory"),
        "env": asked.get("env", {}),
        "logs": other.logs if other.logs != capability.logs else "",
    }


def local_variant(capability: Capability, action: str = "") -> str:
    """Return the first variant, able to do `action`, whose programs are here: plain doit can use it."""
    for variant in capability.variants:
        programs = [*variant.requires, *(one for one in variant.fingerprint if isinstance(one, str))]
        programs += [variant.probe.version.run[0]] if variant.probe.version else []
        can = not action or variant.name in able(capability, find(capability, action))
        if can and all(_here(program) for program in programs):
            return variant.name
    return ""


@functools.cache
def _here(program: str) -> bool:
    return shutil.which(program) is not None


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
