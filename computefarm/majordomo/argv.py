"""Command lines as people type them, put into the shape that doit's parser takes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from computefarm.errors import UsageError

DODO_COMMANDS = frozenset(
    {
        "run", "list", "info", "clean", "forget", "ignore", "reset-dep", "strace", "tabcompletion", "graph",
        "export",
    }
)  # fmt: skip
"""Commands whose first word may be the dodo file."""


HELP = ("--help", "-h")
VERSION = "--version"


class Option(Protocol):
    """What is asked of one of doit's option objects."""

    short: str
    long: str
    type: type


def asked(arguments: Sequence[str], commands: Collection[str]) -> list[str] | None:
    """Return the command line that answers `--help` or `--version`, or None when neither is asked for.

    They are looked for before the first word that is neither a command nor an option: tasks have options too.
    """
    command, words = "", list(arguments)
    if words and words[0] in commands:
        command = words.pop(0)
    for word in words:
        if word in HELP:
            return ["help", command] if command else ["help"]
        if word == VERSION:
            return [VERSION]
        if word == "--" or (not word.startswith("-") and command in ("", *DODO_COMMANDS)):
            break
    return None


def option_error(error: Exception, command: str) -> UsageError:
    """Return doit's complaint about an option in one sentence, without its list of objects."""
    text = str(error).partition(" (parsing options: ")[0].removeprefix("Error parsing Command: ")
    wrong = re.match(r"Error parsing parameter '(\w+)' <class '(\w+)'>\.\n.*: (.*)", text)
    if wrong:
        text = f"parameter `{wrong[1]}`: {wrong[3]} is no {wrong[2]}"
    return UsageError(text.strip(), hint=f"majordomo help {command}")


def rewrite(
    arguments: Sequence[str],
    commands: Collection[str],
    options_of: Callable[[str], Sequence[Option]],
    exists: Callable[[str], bool] = os.path.isfile,
) -> list[str]:
    """Return `arguments` in doit's words: a leading dodo file or description is `-f FILE`, `-p K=V` is `K=V`.

    `options_of` returns a command's options, to tell an option's value from the first word.
    Raises `UsageError` for a description that is not there and for a `-p` that is not `NAME=VALUE`.
    """
    words = list(arguments)
    command, at = "run", 0
    if words and words[0] in commands:
        command, at = words[0], 1
    elif words and words[0].startswith("-"):
        # doit takes the loader's options before the command too (`-f x.py list`): its own business.
        return words
    if command not in DODO_COMMANDS:
        return words
    line = _Line(command, words[at:], _valued(options_of(command)))
    line.take_options()
    if line.rest and not line.given & {"-f", "--file"}:
        first = line.rest[0]
        if first.endswith((".yaml", ".yml")) and not exists(first):
            raise UsageError(f"{first}: there is no such problem description", hint="ls *.yaml")
        if first.endswith((".py", ".yaml", ".yml")) and exists(first):
            line.options += ["-f", line.rest.pop(0)]
            # Options may follow the file: `run dodo.py -n 4 task`.
            line.take_options()
    return [*words[:at], *line.options, *line.variables, *line.rest]


class _Line:
    """The words after a command: its options, doit variables, and what is left."""

    def __init__(self, command: str, words: list[str], valued: Collection[str]) -> None:
        self._command = command
        self._valued = valued
        self.options: list[str] = []
        self.variables: list[str] = []
        self.given: set[str] = set()
        self.rest = words

    def take_options(self) -> None:
        """Take the options at the front of what is left, with their values."""
        while self.rest and self.rest[0].startswith("-") and self.rest[0] not in ("-", "--"):
            word = self.rest.pop(0)
            if self._gives_variable(word):
                value = word[2:] or (self.rest.pop(0) if self.rest else "")
                self.variables.append(_variable(value))
                continue
            self.options.append(word)
            self.given.add(word.partition("=")[0] if word.startswith("--") else word[:2])
            if word in self._valued and self.rest:
                self.options.append(self.rest.pop(0))


    def _gives_variable(self, word: str) -> bool:
        """Return whether it is `-p NAME=VALUE`; elsewhere than in run, `-p` alone may be a command's own."""
        if not word.startswith("-p"):
            return False
        value = word[2:] or (self.rest[0] if self.rest else "")
        return self._command == "run" or bool(re.match(r"[A-Za-z_][\w-]*=", value))


def _variable(text: str) -> str:
    name, equals, _ = text.partition("=")
    if not equals or not name or name.startswith("-"):
        raise UsageError(f"-p {text}: expected NAME=VALUE, as in -p opt=-O3")
    return text


def _valued(options: Sequence[Option]) -> set[str]:
    """Return the spellings of options that take the next word as their value."""
    spellings = set()
    for option in options:
        if option.type is not bool:
            spellings |= {f"-{option.short}"} if option.short else set()
            spellings |= {f"--{option.long}"} if option.long else set()
    return spellings
