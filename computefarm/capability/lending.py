"""What a worker started with `--only-actions` does: the actions of its own capability files, nothing else.

Both sides use this: a client names the action it wants by a label, the worker says which labels it does, and
before it runs anything it makes the command itself from the name and the values, and compares.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from computefarm.messages import Action

from .actions import ActionError
from .description import Capability
from .expanding import expand, find

LABEL_DIGITS = 12
UNUSUAL = "!"
"""Stands in a label before the parameter whose value no lent worker takes."""

_encoder = msgspec.msgpack.Encoder()


def label(capability: Capability, action: str) -> str:
    """Return the name of an action together with a digest of all that its description says."""
    template = msgspec.structs.replace(find(capability, action), summary="")
    described = _encoder.encode((template, capability.env, capability.variants))
    return f"{action}:{hashlib.sha256(described).hexdigest()[:LABEL_DIGITS]}"


def wanted(capability: Capability, action: str, values: Mapping[str, Any]) -> str:
    """Return the label of an action with these (checked) values.

    With a value that no lent worker takes it is one that none offers, and that says so.
    """
    template = find(capability, action)
    for name, parameter in template.params.items():
        if parameter.lent and name in values:
            items = values[name] if parameter.many else [values[name]]
            if not all(re.fullmatch(parameter.lent, str(item)) for item in items):
                return f"{action}{UNUSUAL}{name}"
    return label(capability, action)


def lent(capability: Capability) -> tuple[str, ...]:
    """Return the labels of the actions that a restricted worker does."""
    return tuple(label(capability, name) for name, each in capability.actions.items() if not each.runs_code)


def kept(capability: Capability) -> tuple[str, ...]:
    """Return the names of the actions that run code which the task brings, so that nobody lends them."""
    return tuple(name for name, each in capability.actions.items() if each.runs_code)


def refusal(capability: Capability, action: Action, variant: str, cpus: int) -> str:
    """Return why a restricted worker does not do `action`; empty when it is one of its own.

    Nothing of what was sent is trusted: the command is made anew from the name and the values.
    """
    head = "this worker runs named actions of its own capability files only (--only-actions)"
    if not action.named:
        return f"{head}, and this is a command of the task's own: {_shown(action.commands)}"
    try:
        template = find(capability, action.named)
        if template.runs_code:
            return f"{head}, and {action.named} runs code that the task brings"
        made = expand(
            capability, action.named, _values(action.values), variant=variant, cpus=cpus, strict=True
        )
    except ActionError as error:
        return f"{head}: {error}"
    if action.commands != made.commands:
        return f"{head}, and its {action.named} is {_shown(made.commands)}, not {_shown(action.commands)}"
    strange = [name for name, value in action.env if (name, value) not in made.env]
    if strange:
        return f"{head}, and sets no variable {strange[0]} for a task"
    if action.host_files:
        return f"{head}, and looks for no file of the machine: {action.host_files[0]}"
    hidden = [entry.path for entry in action.inputs if _hidden(entry.path)]
    if hidden:
        return f"{head}, and takes no hidden file, which a program could take for its settings: {hidden[0]}"
    return ""


def _hidden(path: str) -> bool:
    """Say whether a path has a part that begins with a dot; the task's directory is its HOME."""
    return any(part.startswith(".") for part in path.split("/"))


def _values(encoded: bytes) -> Mapping[str, Any]:
    try:
        values = json.loads(encoded or b"{}")
    except (ValueError, RecursionError) as error:
        raise ActionError(f"its values cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise ActionError("its values are no mapping")
    return values


def encoded_values(values: Mapping[str, Any]) -> bytes:
    """Return an action's values as they travel: equal values give equal bytes."""
    return json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode(
        errors="surrogateescape"
    )


def _shown(commands: tuple[str | tuple[str, ...], ...]) -> str:
    text = "; ".join(one if isinstance(one, str) else " ".join(one) for one in commands)
    return repr(text if len(text) <= 120 else text[:119] + "…")


__all__ = ["encoded_values", "kept", "label", "lent", "refusal", "wanted"]
