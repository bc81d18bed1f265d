"""Fill `{name}` into values: parameters, variables, other tasks' outputs. Nothing is evaluated."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import msgspec

from computefarm.capability.actions import ATTRIBUTES
from computefarm.capability.expanding import FIELD, attribute_of
from computefarm.located import Located
from computefarm.spelling import did_you_mean

REFERENCE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z_][A-Za-z0-9_]*)?", re.ASCII)
WHOLE = re.compile(r"\{([^{}]*)\}")


class Scope(msgspec.Struct):
    """What names mean at one place."""

    names: Mapping[str, Any]
    """Parameters and variables."""
    tasks: Collection[str] = ()
    """Tasks whose outputs may be referred to."""
    outputs: Callable[[Located, str, str], list[str]] | None = None
    """Returns the paths for `{task.key}`."""
    used: list[str] = []
    """Paths that were referred to, in order."""


def references(value: Located) -> Iterator[tuple[Located, str, str]]:
    """Yield `(place, name, attribute)` for every field in a value and all below it."""
    if isinstance(value.value, dict):
        for child in value.value.values():
            yield from references(child)
    elif isinstance(value.value, list):
        for child in value.value:
            yield from references(child)
    elif isinstance(value.value, str):
        for match in FIELD.finditer(value.value):
            if match[1] is not None:
                name, _, attribute = match[1].partition(".")
                yield value, name, attribute


def filled(value: Located, scope: Scope) -> Any:
    """Return a plain value: text with its fields filled in, lists flattened where a field holds a list."""
    if isinstance(value.value, dict):
        return {key: filled(child, scope) for key, child in value.value.items()}
    if isinstance(value.value, list):
        items: list[Any] = []
        for child in value.value:
            item = filled(child, scope)
            items.extend(item) if isinstance(item, list) else items.append(item)
        return items
    if not isinstance(value.value, str):
        return value.value
    whole = WHOLE.fullmatch(value.value)
    if whole is not None:
        return _look_up(value, whole[1], scope)
    return _text(value, scope)


def _text(value: Located, scope: Scope) -> str:
    rest = FIELD.sub("", value.value)
    if "{" in rest or "}" in rest:
        raise value.error(f"{value.value!r} has a single {{ or }}: write {{name}}, or {{{{ for a brace")

    def put(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0][0]
        found = _look_up(value, match[1], scope)
        if isinstance(found, list):
            if len(found) == 1:
                return plain(found[0])
            raise value.error(
                f"{match[0]} is a list of {len(found)}, which has no place inside a text: "
                f"make it an item of its own, '{match[0]}'"
            )
        return plain(found)

    return FIELD.sub(put, value.value)


def plain(value: Any) -> str:
    """Return a scalar as it is written in a command."""
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _look_up(place: Located, field: str, scope: Scope) -> Any:
    if REFERENCE.fullmatch(field) is None:
        raise place.error(f"{{{field}}} is not a reference: write {{name}}, {{name.stem}} or {{task.output}}")
    name, dot, attribute = field.partition(".")
    if name in scope.names:
        return _attribute(place, field, scope.names[name], attribute) if dot else scope.names[name]
    if name in scope.tasks and scope.outputs is not None:
        paths = scope.outputs(place, name, attribute)
        scope.used.extend(paths)
        return list(paths)
    if f"${{{field}}}" in str(place.value):
        raise place.error(f"{{{field}}}: nothing is called `{name}` here; the shell's own: ${{{{{field}}}}}")
    known = [*scope.names, *scope.tasks]
    guess = did_you_mean(name, known, form=f"{{{{{{}}{dot}{attribute}}}}}")
    raise place.error(f"{{{field}}}: nothing is called `{name}` here; there are: {', '.join(known)}{guess}")


def _attribute(place: Located, field: str, value: Any, attribute: str) -> Any:
    if attribute not in ATTRIBUTES:
        guess = did_you_mean(attribute, ATTRIBUTES)
        raise place.error(f"{{{field}}}: expected one of {', '.join(ATTRIBUTES)} after the dot{guess}")
    if isinstance(value, list):
        return [attribute_of(plain(item), attribute) for item in value]
    return attribute_of(plain(value), attribute)
