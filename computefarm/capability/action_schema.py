"""Read the `actions:` of a capability file; every error names file, line, column and field."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from computefarm.located import Located
from computefarm.spelling import QUOTED, did_you_mean

from .actions import BUILT_IN, KINDS, RESERVED, ActionError, Argv, NamedAction, Parameter, Spread, When, Word
from .expanding import checked, names_in
from .values import duration_of, env_of, pattern_of, size_of

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.+-]*", re.ASCII)
PARAMETER = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)
SPREAD = re.compile(r"([^{}]*)\{([A-Za-z_][A-Za-z0-9_]*)\.\.\.\}([^{}]*)", re.ASCII)

FIELDS = (
    "summary", "run", "params", "inputs", "outputs", "depfile", "defaults", "env", "cpus", "memory", "gpus",
    "timeout", "logs", "runs_code",
)  # fmt: skip
PARAMETER_FIELDS = ("type", "default", "choices", "match", "summary", "lent")


def read_actions(value: Located, variants: tuple[str, ...]) -> dict[str, NamedAction]:
    """Return the actions by name; `variants` are the capability's, in order of preference."""
    actions: dict[str, NamedAction] = {}
    for name, action in value.mapping().items():
        if not NAME.fullmatch(name):
            raise action.error("an action's name is a letter, then letters, digits and _ . + -")
        actions[name] = _action(name, action, variants)
    return actions


def _action(name: str, value: Located, variants: tuple[str, ...]) -> NamedAction:
    fields = value.mapping(FIELDS, required=("run",))
    commands = _commands(fields["run"], variants)
    inputs = _names(fields, "inputs")
    outputs = _names(fields, "outputs")
    depfile = _depfile(fields["depfile"]) if "depfile" in fields else ""
    params = _params(fields, commands, inputs, outputs)
    used = {word_name for argvs in commands.values() for argv in argvs for word_name, _ in _used(argv)}
    if depfile and "depfile" not in used:
        raise fields["depfile"].error("nothing writes it: put {depfile} into run, such as -MMD -MF {depfile}")
    if "depfile" in used and not depfile:
        raise fields["run"].error("{depfile} is used, but the action has no depfile: gcc")
    return NamedAction(
        name=name,
        commands=commands,
        params=params,
        inputs=inputs,
        outputs=outputs,
        depfile=depfile,
        env=env_of(fields["env"]) if "env" in fields else (),
        cpus=fields["cpus"].whole(least=1) if "cpus" in fields else 0,
        memory=size_of(fields["memory"]) if "memory" in fields else 0,
        gpus=fields["gpus"].whole() if "gpus" in fields else 0,
        timeout_s=duration_of(fields["timeout"]) if "timeout" in fields else 0.0,
        logs=fields["logs"].text() if "logs" in fields else "",
        summary=fields["summary"].text() if "summary" in fields else "",
        runs_code=fields["runs_code"].flag() if "runs_code" in fields else False,
    )


# --- run ----------------------------------------------------------------------------------------------


def _commands(value: Located, variants: tuple[str, ...]) -> dict[str, tuple[Argv, ...]]:
    if not isinstance(value.value, dict):
        return {"": _argvs(value)}
    if not variants:
        raise value.wrong("a list with a program and its arguments (this capability has no variants)")
    by_variant = value.mapping(variants)
    # In the capability's order, which is the order of preference.
    return {name: _argvs(by_variant[name]) for name in variants if name in by_variant}


def _argvs(value: Located) -> tuple[Argv, ...]:
    expected = "a list with a program and its arguments, or a list of such lists"
    if not isinstance(value.value, list) or not value.value:
        raise value.wrong(expected)
    if all(isinstance(item.value, list) for item in value.items()):
        return tuple(_argv(item) for item in value.items())
    return (_argv(value),)


def _argv(value: Located) -> Argv:
    words: list[Word] = []
    for item in value.items():
        if isinstance(item.value, dict):
            fields = item.mapping(("when", "run"), required=("when", "run"))
            inner = tuple(_word(word) for word in fields["run"].items())
            words.append(When(fields["when"].text(), inner))
        else:
            words.append(_word(item))
    if not words or isinstance(words[0], When | Spread):
        raise value.error("the first word is the program")
    return tuple(words)


def _word(value: Located) -> str | Spread:
    text = value.text()
    spread = SPREAD.fullmatch(text)
    if spread:
        return Spread(spread[2], spread[1], spread[3])
    try:
        names_in(text)
    except ValueError as error:
        raise value.error(f"{text!r}: {error}") from error
    return text


def _used(argv: Iterable[Word]) -> Iterator[tuple[str, bool]]:
    """Yield the names that a command uses, and whether as a list."""
    for word in argv:
        if isinstance(word, When):
            yield word.name, False
            yield from _used(word.words)
        elif isinstance(word, Spread):
            yield word.name, True
        else:
            for name, _ in names_in(word):
                yield name, False


# --- parameters ---------------------------------------------------------------------------------------


def _names(fields: Mapping[str, Located], key: str) -> tuple[str, ...]:
    return fields[key].texts() if key in fields else ()


def _params(
    fields: Mapping[str, Located],
    commands: Mapping[str, tuple[Argv, ...]],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
) -> dict[str, Parameter]:
    """Return every parameter, those of `params:` first; the others are known by how they are used."""
    spread: dict[str, bool] = {}
    for argvs in commands.values():
        for argv in argvs:
            for name, many in _used(argv):
                if name not in BUILT_IN:
                    spread[name] = spread.get(name, False) or many
    declared = fields["params"].mapping() if "params" in fields else {}
    defaults = fields["defaults"].mapping() if "defaults" in fields else {}
    files = {*inputs, *outputs}
    names = dict.fromkeys((*declared, *inputs, *outputs, *spread, *defaults))
    params = {
        name: _parameter(
            name, declared.get(name), defaults.get(name), is_file=name in files, many=spread.get(name, False)
        )
        for name in names
    }
    _check_use(fields, params, spread, files)
    return params


def _check_use(
    fields: Mapping[str, Located],
    params: Mapping[str, Parameter],
    spread: Mapping[str, bool],
    files: set[str],
) -> None:
    for name, parameter in params.items():
        place = _place(fields, name)
        if not PARAMETER.fullmatch(name):
            raise place.error(f"{name!r}: a parameter's name is small letters, digits and _")
        if name in RESERVED:
            raise place.error(f"{name!r} already means something in every task; choose another name")
        if name not in spread and name not in files:
            guess = did_you_mean(name, [*spread, *files], QUOTED)
            raise place.error(f"nothing uses the parameter {name!r}{guess}")
        if spread.get(name) and not parameter.many:
            raise place.error(f"{{{name}...}} splices a list in, but {name!r} is a {parameter.kind}")
        if name in files and not parameter.path:
            raise place.error(f"{name!r} is among inputs or outputs, so its type is file or files")


def _place(fields: Mapping[str, Located], name: str) -> Located:
    for key in ("params", "defaults"):
        if key in fields and name in fields[key].mapping():
            return fields[key].mapping()[name]
    for key in ("inputs", "outputs"):
        if key in fields:
            for item in fields[key].items():
                if item.value == name:
                    return item
    return fields["run"]


def _parameter(
    name: str, declared: Located | None, default: Located | None, *, is_file: bool, many: bool
) -> Parameter:
    fields = declared.mapping(PARAMETER_FIELDS) if declared is not None else {}
    if "default" in fields and default is not None:
        raise default.error(f"{name!r} has its default in params already")
    default = fields.get("default", default)
    kind = _kind(fields["type"]) if "type" in fields else _guessed(default, is_file=is_file, many=many)
    parameter = Parameter(
        name=name,
        kind=kind,
        required=default is None,
        choices=fields["choices"].texts() if "choices" in fields else (),
        match=pattern_of(fields["match"]) if "match" in fields else "",
        summary=fields["summary"].text() if "summary" in fields else "",
        lent=pattern_of(fields["lent"]) if "lent" in fields else "",
    )
    if default is None:
        return parameter
    return msgspec.structs.replace(parameter, default=_default(parameter, default))


def _kind(value: Located) -> str:
    text = value.text()
    if text not in KINDS:
        raise value.error(
            f"expected one of {', '.join(KINDS)}, got {text!r}{did_you_mean(text, KINDS)}"
        )
    return text


def _guessed(default: Located | None, *, is_file: bool, many: bool) -> str:
    if is_file:
        return "files" if many else "file"
    if many or (default is not None and isinstance(default.value, list)):
        return "texts"
    if default is not None and isinstance(default.value, bool):
        return "flag"
    return "text"


def _default(parameter: Parameter, value: Located) -> Any:
    flat = value.value if isinstance(value.value, list) else [value]
    for item in flat:
        if item.value is None or isinstance(item.value, list | dict):
            raise value.wrong("text, a number, true or false, or a list of these")
    plain = value.plain()
    if plain == "" and not parameter.many:
        return ""  # an optional value that was not given, also of a file
    try:
        return checked("default", parameter, plain)
    except ActionError as error:
        raise value.error(str(error)) from error


# --- the rest -----------------------------------------------------------------------------------------


def _depfile(value: Located) -> str:
    if value.value != "gcc":
        raise value.wrong("gcc, the only dependency format so far")
    return "gcc"
