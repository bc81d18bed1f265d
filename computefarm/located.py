"""YAML text as plain values that remember their lines, for files whose errors must name the place.

Only text, numbers, true/false, lists and mappings exist here: no tags, no dates, no objects.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import yaml

from computefarm.errors import UsageError
from computefarm.spelling import did_you_mean

MAX_DEPTH = 20
"""Levels of nesting; nothing we read needs more."""
MAX_NODES = 20_000
"""Values in a file after aliases are followed, beyond one for each letter: a small file cannot grow huge."""
LONG = 100_000
"""Letters from which on a file is worth being read by the C library, whose messages are the worse ones."""

_SCALARS: dict[str, Callable[[str], Any]] = {
    "tag:yaml.org,2002:str": str,
    # Dates and the two odd keys of YAML 1.1 are text to us.
    "tag:yaml.org,2002:timestamp": str,
    "tag:yaml.org,2002:merge": str,
    "tag:yaml.org,2002:value": str,
    "tag:yaml.org,2002:null": lambda text: None,
    "tag:yaml.org,2002:bool": lambda text: yaml.SafeLoader.bool_values[text.lower()],
    "tag:yaml.org,2002:int": lambda text: int(text.replace("_", ""), 10),
    "tag:yaml.org,2002:float": lambda text: float(text.replace("_", "")),
}
_COLLECTIONS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


# What YAML takes for the beginning of a mapping, an alias, an anchor or a tag.
_BRACE = re.compile(r"[:,\[-] *(\{[^{} :]*\}[^ ,\]}]+)")
_SIGN = re.compile(r"[:,\[-] *([*&%@`!][^ ,\]}]*)")


class Located:
    """One value of a file, and where it stands."""

    __slots__ = ("_kind", "column", "field", "line", "source", "value")

    def __init__(
        self, value: Any, source: str, line: int, field: str, kind: type[UsageError], column: int = 1
    ) -> None:
        self.value = value
        """A scalar, a list of `Located`, or a dictionary of them."""
        self.source = source
        self.line = line
        """Counted from 1, as `column` is; of the key where the value has one."""
        self.column = column
        self.field = field
        """Path from the top, as `probe.version`; empty for the whole file."""
        self._kind = kind

    def error(self, message: str) -> UsageError:
        """Return the error that names file, line and field before `message`."""
        place = f"field `{self.field}`: " if self.field else ""
        return self._kind(f"{self.source}:{self.line}:{self.column}: {place}{message}")

    def wrong(self, expected: str) -> UsageError:
        """Return the error for a value of the wrong shape."""
        return self.error(f"expected {expected}, got {self.shown()}")

    def shown(self) -> str:
        """Return the value as a reader of the file would name it."""
        match self.value:
            case dict():
                return "a mapping"
            case list():
                return "a list"
            case None:
                return "nothing"
            case bool():
                return "true" if self.value else "false"
            case str():
                return f"the text {self.value!r}"
            case _:
                return f"the number {self.value!r}"

    def mapping(self, known: Iterable[str] | None = None, required: Iterable[str] = ()) -> dict[str, Located]:
        """Return a mapping's fields; with `known`, any other key is an error."""
        if not isinstance(self.value, dict):
            names = f" with the keys {', '.join(known)}" if known is not None else ""
            raise self.wrong(f"a mapping{names}")
        if known is not None:
            known = tuple(known)
            for key, child in self.value.items():
                if key not in known:
                    guess = did_you_mean(key, known)
                    raise child.error(f"unknown key, expected one of {', '.join(known)}{guess}")
        for key in required:
            if key not in self.value:
                raise self.error(f"`{key}` is missing")
        return self.value

    def items(self) -> list[Located]:
        """Return a list's items."""
        if not isinstance(self.value, list):
            raise self.wrong("a list")
        return self.value

    def text(self) -> str:
        """Return text that is not empty."""
        if not isinstance(self.value, str):
            quoted = " (put it in quotes)" if isinstance(self.value, int | float) else ""
            raise self.wrong(f"text{quoted}")
        if not self.value or "\0" in self.value:
            raise self.wrong("text that is not empty")
        return self.value

    def texts(self) -> tuple[str, ...]:
        """Return a list of texts."""
        return tuple(item.text() for item in self.items())

    def whole(self, least: int = 0) -> int:
        """Return a whole number that is at least `least`."""
        if type(self.value) is not int or self.value < least:
            raise self.wrong(f"a whole number, at least {least}")
        return self.value

    def flag(self) -> bool:
        """Return true or false."""
        if type(self.value) is not bool:
            raise self.wrong("true or false")
        return self.value

    def plain(self) -> Any:
        """Return the value and all below it without their places."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value


def read_yaml(text: str, source: str, kind: type[UsageError] = UsageError) -> Located:
    """Return the one document in `text`; raise `kind` naming `source` and the line otherwise."""
    try:
        node = _composed(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        what = error.problem or error.context
        raise kind(
            f"{source}:{line}:{column}: not YAML: {what} (line {line}){_yaml_hint(text, line, str(what))}"
        ) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise kind(f"{source}:1:1: not YAML: {' '.join(str(error).split())}") from error
    if node is None:
        raise kind(f"{source}:1:1: the file is empty")
    return _Reader(source, kind, MAX_NODES + len(text)).read(node, "", 0)


def _composed(text: str) -> yaml.Node | None:
    fast = getattr(yaml, "CSafeLoader", None)
    if fast is not None and len(text) > LONG:
        try:
            return yaml.compose(text, Loader=fast)
        except yaml.YAMLError:
            pass  # said again, in better words
    return yaml.compose(text, Loader=yaml.SafeLoader)


def _yaml_hint(text: str, line: int, what: str) -> str:
    """Return what is probably wrong, in words of people who do not know the grammar."""
    if "'\\t'" in what:
        return "; indent with spaces, not tabs"
    lines = text.splitlines()
    said = lines[line - 1] if 0 < line <= len(lines) else ""
    if "mapping values" in what:
        return "; is a `:` missing on the line before, or is this line indented too far?"
    if "another document" in what:
        return "; one file is one description, without ---"
    if said.count("'") % 2:
        return "; a ' inside '…' is written twice"
    for pattern in (_BRACE, _SIGN):
        if found := pattern.search(said):
            return f"; text that begins with {found[1][0]} needs quotes: '{found[1]}'"
    return ""


class _Reader:
    """Turns nodes into located values, and keeps count."""

    def __init__(self, source: str, kind: type[UsageError], most: int) -> None:
        self._most = most
        self._source = source
        self._kind = kind
        self._count = 0

    def read(self, node: yaml.Node, field: str, depth: int) -> Located:
        mark = node.start_mark
        located = Located(None, self._source, mark.line + 1, field, self._kind, mark.column + 1)
        self._count += 1
        if depth > MAX_DEPTH or self._count > self._most:
            raise located.error("too deep or too large")
        if node.tag not in _SCALARS and node.tag not in _COLLECTIONS:
            raise located.error(f"the tag {node.tag!r} is not allowed: nothing in this file is evaluated")
        if isinstance(node, yaml.MappingNode):
            located.value = self._mapping(node, located, depth)
        elif isinstance(node, yaml.SequenceNode):
            located.value = [
                self.read(item, f"{field}[{index}]", depth + 1) for index, item in enumerate(node.value)
            ]
        else:
            located.value = self._scalar(node)
        return located

    def _mapping(self, node: yaml.MappingNode, located: Located, depth: int) -> dict[str, Located]:
        fields: dict[str, Located] = {}
        for key_node, value_node in node.value:
            key = self.read(key_node, located.field, depth + 1)
            if not isinstance(key.value, str):
                raise key.error(f"a key must be text, got {key.shown()} (put it in quotes)")
            below = f"{located.field}.{key.value}" if located.field else key.value
            child = self.read(value_node, below, depth + 1)
            if key.value in fields:
                raise key.error(f"`{key.value}` stands here twice, first on line {fields[key.value].line}")
            # The key's line, not the value's: that is where a reader looks for the field.
            child.line, child.column = key.line, key.column
            fields[key.value] = child
        return fields

    def _scalar(self, node: yaml.Node) -> Any:
        try:
            return _SCALARS[node.tag](node.value)
        except (ValueError, KeyError):
            # YAML 1.1 sees numbers in 0x1f, 0b1 and 1:30; to everybody else they are text.
            return node.value
