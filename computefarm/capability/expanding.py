"""Put values into an action's templates; nothing is evaluated: names in braces, four attributes of paths."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from computefarm.spelling import QUOTED, did_you_mean

from .actions import ATTRIBUTES, BUILT_IN, ActionError, Argv, Expanded, NamedAction, Parameter, Spread, When

if TYPE_CHECKING:
    from .description import Capability, Variant

FIELD = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
"""A literal brace written twice, or a name in braces."""

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)

LONGEST = 65_536
"""Characters of one value."""

MOST = 100_000
"""Items of one list."""


def expand(
    capability: Capability,
    action: str,
    values: Mapping[str, Any],
    *,
    variant: str = "",
    cpus: int = 0,
    strict: bool = False,
) -> Expanded:
    """Return the action called `action` with `values` put into it.

    `variant` chooses among the capability's variants (the first that can do it by default); `cpus` overrides
    the slots; `strict` refuses values that no worker with `--only-actions` takes.
    Raises `ActionError` naming the action, the parameter and what was expected.
    """
    template = find(capability, action)
    where = f"{capability.capability}.{action}"
    given = {name: _value(where, template, name, value) for name, value in values.items()}
    if strict:
        _check_lent(where, template, given)
    filled = _filled(where, template, given)
    chosen = _variant(where, capability, template, variant)
    resources = (chosen.resources if chosen else None) or capability.resources
    slots = cpus or template.cpus or resources.cpus
    depfile = _depfile(where, template, filled)
    names = {**filled, "cpus": slots, "depfile": depfile}
    argvs = template.commands.get("") or template.commands[chosen.name if chosen else ""]
    own = chosen.env if chosen else ()
    outputs = _paths(template.outputs, filled)
    return Expanded(
        capability=capability.capability,
        action=action,
        commands=tuple(tuple(_argv(argv, names)) for argv in argvs),
        values=given,
        inputs=_paths(template.inputs, filled),
        outputs=(*outputs, depfile) if depfile else outputs,
        depfile=depfile,
        env=tuple(sorted({**dict(capability.env), **dict(own), **dict(template.env)}.items())),
        cpus=slots,
        memory=template.memory,
        gpus=template.gpus or resources.gpus,
        timeout_s=template.timeout_s,
        logs=template.logs or (chosen.logs if chosen else "") or capability.logs,
    )


def find(capability: Capability, action: str) -> NamedAction:
    """Return the action called `action`; raise `ActionError` with the nearest names."""
    there = capability.actions
    if action in there:
        return there[action]
    guess = did_you_mean(action, there, QUOTED)
    known = ", ".join(sorted(there)) or "none"
    raise ActionError(f"{capability.capability} has no action {action!r}; it has: {known}{guess}")


def able(capability: Capability, template: NamedAction) -> tuple[str, ...]:
    """Return the variants that can do an action, in order of preference; empty where there are none."""
    every = "" in template.commands
    return tuple(each.name for each in capability.variants if every or each.name in template.commands)


def _variant(where: str, capability: Capability, template: NamedAction, name: str) -> Variant | None:
    """Return the variant called `name`, or the first that can do it; None where there are none."""
    can = able(capability, template)
    if not can:
        return None
    if name and name not in can:
        raise ActionError(f"{where}: the variant {name!r} cannot do it; {', '.join(can)} can")
    return next(each for each in capability.variants if each.name == (name or can[0]))


# --- values -------------------------------------------------------------------------------------------


def _value(where: str, template: NamedAction, name: str, value: Any) -> Any:
    """Return a value in the shape of its parameter."""
    parameter = template.params.get(name)
    if parameter is None:
        guess = did_you_mean(name, template.params, QUOTED)
        known = ", ".join(template.params) or "nothing"
        raise ActionError(f"{where} takes no {name!r}, it takes: {known}{guess}", key=name)
    return checked(where, parameter, value)


def checked(where: str, parameter: Parameter, value: Any) -> Any:
    """Return `value` as the parameter holds it: text, a list of texts, or true or false."""
    what = f"{where}: {parameter.name}"

    def wrong(expected: str) -> ActionError:
        return ActionError(f"{what} is {_shown(value)}: expected {expected}", key=parameter.name)

    if parameter.kind == "flag":
        if type(value) is not bool:
            raise wrong("true or false")
        return value
    if parameter.kind == "number":
        if type(value) not in (int, float) or not abs(value) < 1e15:
            raise wrong("a number")
        return value
    if parameter.many:
        items = list(value) if isinstance(value, list | tuple) else [value]
        if len(items) > MOST:
            raise wrong(f"at most {MOST} items")
        return [_item(what, parameter, item) for item in items]
    if isinstance(value, list | tuple | dict) or value is None:
        raise wrong("one path" if parameter.path else "one text")
    return _item(what, parameter, value)


def _item(what: str, parameter: Parameter, item: Any) -> str:
    def wrong(expected: str) -> ActionError:
        return ActionError(f"{what} is {_shown(item)}: expected {expected}", key=parameter.name)

    if type(item) in (int, float):
        item = str(item)
    if not isinstance(item, str) or "\0" in item or len(item) > LONGEST:
        raise wrong("text")
    if parameter.choices and item not in parameter.choices:
        raise wrong(f"one of {', '.join(parameter.choices)}")
    if parameter.match and re.fullmatch(parameter.match, item) is None:
        raise wrong(f"text like {parameter.match}")
    return inside(what, item, parameter.name) if parameter.path else item


def inside(what: str, path: str, key: str = "") -> str:
    """Return a path in its plain form; raise `ActionError` unless it is inside the project."""
    plain = posixpath.normpath(path) if path else ""
    if not path or plain == "." or plain.startswith("/") or plain.split("/", 1)[0] == "..":
        raise ActionError(f"{what} is {path!r}: expected a path inside the project", key=key)
    # In any part: a template may take a path's name or stem alone.
    if plain.startswith("-") or "/-" in plain:
        raise ActionError(f"{what} is {path!r}: a program would take it for an option", key=key)
    if plain.startswith("@"):
        raise ActionError(f"{what} is {path!r}: a program would take it for a file of options", key=key)
    return plain


def _check_lent(where: str, template: NamedAction, given: Mapping[str, Any]) -> None:
    for name, parameter in template.params.items():
        if not parameter.lent or name not in given:
            continue
        for item in given[name] if parameter.many else [given[name]]:
            if re.fullmatch(parameter.lent, str(item)) is None:
                raise ActionError(
                    f"{where}: {name} is {_shown(item)}, which could run or write anything", key=name
                )


def _shown(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _filled(where: str, template: NamedAction, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return every parameter's value: given, or default."""
    filled: dict[str, Any] = {}
    for name, parameter in template.params.items():
        if name in given:
            filled[name] = given[name]
        elif parameter.required:
            raise ActionError(f"{where} needs {name!r} ({_kind(parameter)})", key=name)
        else:
            filled[name] = parameter.default
    return filled


def _kind(parameter: Parameter) -> str:
    words = {"file": "a path", "files": "a list of paths", "texts": "a list of texts"}
    return words.get(parameter.kind, "true or false" if parameter.kind == "flag" else f"a {parameter.kind}")


def _paths(names: Iterable[str], filled: Mapping[str, Any]) -> tuple[str, ...]:
    paths = dict[str, None]()
    for name in names:
        value = filled[name]
        # An optional file that was not given.
        paths.update(dict.fromkeys([value] if isinstance(value, str) and value else value or ()))
    return tuple(paths)


def _depfile(where: str, template: NamedAction, filled: Mapping[str, Any]) -> str:
    """Return where the list of headers is written: beside the first output, as compilers do by themselves."""
    if not template.depfile:
        return ""
    outputs = _paths(template.outputs, filled)
    if not outputs:
        raise ActionError(f"{where} writes a depfile, so it needs an output to put it beside")
    return f"{outputs[0]}.d"


# --- templates ----------------------------------------------------------------------------------------


def _argv(argv: Argv, names: Mapping[str, Any]) -> Iterable[str]:
    for word in argv:
        if isinstance(word, When):
            if names[word.name]:
                yield from _argv(word.words, names)
        elif isinstance(word, Spread):
            for item in names[word.name] or ():
                yield f"{word.before}{item}{word.after}"
        else:
            yield fill(word, names)


def fill(template: str, names: Mapping[str, Any]) -> str:
    """Return `template` with each `{name}` or `{name.attribute}` replaced."""

    def put(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0][0]
        name, _, attribute = match[1].partition(".")
        value = names[name]
        text = _text(value)
        return attribute_of(text, attribute) if attribute else text

    return FIELD.sub(put, template)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return " ".join(_text(item) for item in value)
    return str(value)


def attribute_of(path: str, attribute: str) -> str:
    """Return one of `ATTRIBUTES` of a path."""
    name = posixpath.basename(path)
    stem, suffix = posixpath.splitext(name)
    return {"name": name, "stem": stem, "suffix": suffix, "parent": posixpath.dirname(path) or "."}[attribute]


def names_in(template: str) -> list[tuple[str, str]]:
    """Return `(name, attribute)` for every field of a template; raise `ValueError` for a malformed one."""
    fields = []
    rest = FIELD.sub("", template)
    if "{" in rest or "}" in rest:
        raise ValueError("a single { or }: write {name}, or {{ for a brace")
    for match in FIELD.finditer(template):
        if match[1] is None:
            continue
        name, dot, attribute = match[1].partition(".")
        if NAME.fullmatch(name) is None:
            raise ValueError(f"{match[0]} is not a name in braces")
        if dot and attribute not in ATTRIBUTES:
            raise ValueError(f"{match[0]}: expected one of {', '.join(ATTRIBUTES)} after the dot")
        fields.append((name, attribute))
    return fields


__all__ = [
    "BUILT_IN",
    "FIELD",
    "able",
    "attribute_of",
    "checked",
    "expand",
    "fill",
    "find",
    "inside",
    "names_in",
]
