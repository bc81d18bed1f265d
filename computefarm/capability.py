"""What a capability file may say.

`parse` checks a file's text against the schema; it reads no files, runs nothing and evaluates nothing.
Named actions are checked for shape and kept as plain data; nothing uses them yet, problem descriptions will.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from computefarm.errors import CapabilityError

from .located import Located, read_yaml
from .needs import parse_requirement
from .quantities import parse_size

__all__ = [
    "Capability",
    "Command",
    "NamedAction",
    "Probe",
    "Resources",
    "VersionProbe",
    "parse",
    "parse_requirement",
]

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


class NamedAction(msgspec.Struct, frozen=True):
    """One thing the capability can do, as a template; kept for problem descriptions, not used yet."""

    run: Command
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    depfile: str = ""
    defaults: Mapping[str, Any] = {}


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
)


def parse(text: str, source: str) -> Capability:
    """Return the capability that `text` describes.

    Raises `CapabilityError` naming `source`, line, field and what was expected.
    """
    top = read_yaml(text, source, CapabilityError)
    fields = top.mapping(FIELDS, required=("capability", "summary", "worker"))
    return Capability(
        capability=_name(fields["capability"]),
        summary=fields["summary"].text(),
        worker=_name(fields["worker"]),
        source=source,
        probe=_probe(fields["probe"]) if "probe" in fields else Probe(),
        fingerprint=_fingerprint(fields["fingerprint"]) if "fingerprint" in fields else (),
        resources=_resources(fields["resources"]) if "resources" in fields else Resources(),
        env=_env(fields["env"]) if "env" in fields else (),
        logs=_name(fields["logs"]) if "logs" in fields else "",
        sandbox=fields["sandbox"].flag() if "sandbox" in fields else False,
        actions=_actions(fields["actions"]) if "actions" in fields else {},
    )


def _name(value: Located) -> str:
    text = value.text()
    if not NAME.fullmatch(text):
        raise value.wrong("a name: a letter, then letters, digits and _ . + -")
    return text


def _command(value: Located) -> Command:
    if not isinstance(value.value, list) or not value.value:
        raise value.wrong("a list with a program and its arguments, such as [gcc, -dumpmachine]")
    return value.texts()


def _run_and_match(value: Located) -> VersionProbe:
    fields = value.mapping(("run", "match"), required=("run",))
    pattern = fields["match"].text() if "match" in fields else ""
    if pattern:
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise fields["match"].error(f"{pattern!r} is not a regular expression: {error}") from error
    return VersionProbe(run=_command(fields["run"]), match=pattern)


def _probe(value: Located) -> Probe:
    fields = value.mapping(("version", "tags"))
    tags: list[tuple[str, VersionProbe | str]] = []
    if "tags" in fields:
        for name, tag in sorted(fields["tags"].mapping().items()):
            if not NAME.fullmatch(name):
                raise tag.error("a tag's name is a letter, then letters, digits and _ . + -")
            tags.append((name, tag.text() if isinstance(tag.value, str) else _tag(tag)))
    return Probe(
        version=_run_and_match(fields["version"]) if "version" in fields else None,
        tags=tuple(tags),
    )


def _tag(value: Located) -> VersionProbe:
    if not isinstance(value.value, dict):
        raise value.wrong("text, or {run: [program, argument…], match: regular expression}")
    return _run_and_match(value)


def _fingerprint(value: Located) -> tuple[str | VersionProbe, ...]:
    if value.value == "version":
        return ()
    expected = "a list of programs, such as [gcc, {run: [gcc, -print-prog-name=cc1]}], or the word version"
    if not isinstance(value.value, list) or not value.value:
        raise value.wrong(expected)
    programs: list[str | VersionProbe] = []
    for item in value.items():
        if isinstance(item.value, dict):
            programs.append(_run_and_match(item))
        elif isinstance(item.value, str):
            programs.append(item.text())
        else:
            raise item.wrong("a program's name, or {run: [command that prints its path]}")
    return tuple(programs)


def _resources(value: Located) -> Resources:
    fields = value.mapping(("cpus", "memory", "gpus"))
    return Resources(
        cpus=fields["cpus"].whole(least=1) if "cpus" in fields else 1,
        memory=_size(fields["memory"]) if "memory" in fields else 0,
        gpus=fields["gpus"].whole() if "gpus" in fields else 0,
    )


def _size(value: Located) -> int:
    expected = "a size such as 256MiB"
    if type(value.value) is not int and not isinstance(value.value, str):
        raise value.wrong(expected)
    try:
        return parse_size(value.value)
    except ValueError as error:
        raise value.wrong(expected) from error


def _env(value: Located) -> tuple[tuple[str, str], ...]:
    pairs = []
    for name, text in sorted(value.mapping().items()):
        if not name or "=" in name or "\0" in name:
            raise text.error("a variable's name has no = and is not empty")
        if not isinstance(text.value, str) or "\0" in text.value:
            raise text.wrong("text (put it in quotes)")
        pairs.append((name, text.value))
    return tuple(pairs)


def _actions(value: Located) -> dict[str, NamedAction]:
    actions: dict[str, NamedAction] = {}
    for name, action in value.mapping().items():
        if not NAME.fullmatch(name):
            raise action.error("an action's name is a letter, then letters, digits and _ . + -")
        fields = action.mapping(("run", "inputs", "outputs", "depfile", "defaults"), required=("run",))
        actions[name] = NamedAction(
            run=_command(fields["run"]),
            inputs=fields["inputs"].texts() if "inputs" in fields else (),
            outputs=fields["outputs"].texts() if "outputs" in fields else (),
            depfile=_depfile(fields["depfile"]) if "depfile" in fields else "",
            defaults=_defaults(fields["defaults"]) if "defaults" in fields else {},
        )
    return actions


def _depfile(value: Located) -> str:
    if value.value != "gcc":
        raise value.wrong("gcc, the only dependency format so far")
    return "gcc"


def _defaults(value: Located) -> dict[str, Any]:
    """Return scalars and lists of them, by parameter."""
    defaults = {}
    for name, default in value.mapping().items():
        flat = default.value if isinstance(default.value, list) else [default]
        for item in flat:
            if item.value is None or isinstance(item.value, list | dict):
                raise default.wrong("text, a number, true or false, or a list of these")
        defaults[name] = default.plain()
    return defaults
