"""The parts of a named action, and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from computefarm.errors import UsageError

KINDS = ("text", "texts", "file", "files", "number", "flag")
"""`file` and `files` are paths inside the project; the others are words of a command line."""

ATTRIBUTES = ("stem", "name", "parent", "suffix")
"""What may follow a parameter's name: `{source.stem}` of `src/a.c` is `a`, `{source.parent}` is `src`."""

BUILT_IN = ("cpus", "depfile")
"""Names that every template may use: the task's slots, and where the depfile belongs."""

RESERVED = frozenset(
    {
        "action", "any_toolchain", "cache", "capability", "cpus", "depfile", "env", "exclusive",
        "foreach", "gpus", "group", "host_files", "inputs", "load", "memory", "needs", "outputs",
        "pass_env", "platforms", "priority", "retries", "run", "sandbox", "tags", "task", "timeout",
        "version",
    }
)  # fmt: skip
"""Names that no parameter may have: they stand beside the parameters in a task."""


class ActionError(UsageError):
    """An action was given values that it cannot use."""

    def __init__(self, message: str, *, key: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.key = key
        """The parameter that is wrong; empty when it is the action itself."""


class Parameter(msgspec.Struct, frozen=True):
    """One value that an action takes."""

    name: str
    kind: str = "text"
    """One of `KINDS`."""
    required: bool = True
    default: Any = None
    choices: tuple[str, ...] = ()
    match: str = ""
    """Regular expression for the whole of each value; empty allows everything."""
    summary: str = ""
    lent: str = ""
    """The same, on workers with `--only-actions` besides."""

    @property
    def many(self) -> bool:
        """Return whether it holds a list."""
        return self.kind in ("texts", "files")

    @property
    def path(self) -> bool:
        """Return whether its values are paths inside the project."""
        return self.kind in ("file", "files")


class Spread(msgspec.Struct, frozen=True):
    """`{flags...}`: as many words as the list has, each put into `around` in the place of `{}`."""

    name: str
    before: str = ""
    after: str = ""


class When(msgspec.Struct, frozen=True):
    """Words that are there only if a parameter is true or not empty."""

    name: str
    words: tuple[str | Spread, ...]


Word = str | Spread | When
"""A template with `{name}` in it, a list to splice in, or a condition."""

Argv = tuple[Word, ...]


class NamedAction(msgspec.Struct, frozen=True):
    """One thing that a capability can do."""

    name: str
    commands: Mapping[str, tuple[Argv, ...]]
    """By variant of the capability; the empty name where it has none."""
    params: Mapping[str, Parameter] = {}
    inputs: tuple[str, ...] = ()
    """Parameters that name files the action reads."""
    outputs: tuple[str, ...] = ()
    """Parameters that name files the action makes."""
    depfile: str = ""
    """`gcc`: the command writes a Makefile rule with the headers it read to `{depfile}`."""
    env: tuple[tuple[str, str], ...] = ()
    cpus: int = 0
    """0 leaves it to the capability."""
    memory: int = 0
    gpus: int = 0
    timeout_s: float = 0.0
    logs: str = ""
    summary: str = ""
    runs_code: bool = False
    """It runs code that the task brings, so a worker with `--only-actions` does not do it."""

    @property
    def programs(self) -> frozenset[str]:
        """Return the programs that the commands start with, where they are written out."""
        return frozenset(
            argv[0]
            for commands in self.commands.values()
            for argv in commands
            if isinstance(argv[0], str) and "{" not in argv[0]
        )


class Expanded(msgspec.Struct, frozen=True):
    """An action with its values put in."""

    capability: str
    action: str
    commands: tuple[tuple[str, ...], ...]
    values: Mapping[str, Any]
    """What was given, checked, without defaults: enough to expand it again elsewhere."""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    """Includes the depfile."""
    depfile: str = ""
    """Path of the depfile; empty when there is none."""
    env: tuple[tuple[str, str], ...] = ()
    cpus: int = 1
    memory: int = 0
    """What the action itself declares; what its capability expects comes with a worker's offer."""
    gpus: int = 0
    timeout_s: float = 0.0
    logs: str = ""
