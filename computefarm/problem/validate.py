"""Check a file's values against a schema; every error names file, line, column, key and what was expected."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from computefarm.located import Located

OTHER_WORDS = {
    "cmd": "run", "command": "run", "commands": "run", "exec": "run", "script": "run", "shell": "run",
    "actions": "action", "do": "action",
    "file_dep": "inputs", "deps": "inputs", "dependencies": "inputs", "depends": "inputs",
    "task_dep": "after", "depends_on": "after", "requires": "after",
    "targets": "outputs", "target": "outputs", "produces": "outputs", "artifacts": "outputs",
    "for": "foreach", "for_each": "foreach", "each": "foreach", "matrix": "foreach", "with_items": "foreach",
    "doc": "summary", "description": "summary", "title": "summary", "environment": "env",
    "platform": "platforms", "sources": "inputs",
    "ncpus": "cpus", "cores": "cpus", "threads": "cpus", "jobs": "tasks", "steps": "tasks", "rules": "tasks",
    "variables": "params", "vars": "params", "parameters": "params",
    "imports": "include", "includes": "include", "checksum": "sha256", "hash": "sha256", "folder": "unpack",
    "dest": "unpack", "name": "problem", "worker": "capability", "tool": "capability", "uses": "capability",
}  # fmt: skip
"""What other tools call things, for those who try their words here."""

_NAMES = {
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
}


def validate(value: Located, schema: Mapping[str, Any]) -> None:
    """Return if `value` is as `schema` says; raise the value's own kind of error for the first fault."""
    types = schema.get("type", ())
    types = (types,) if isinstance(types, str) else types
    if not any(_is(value.value, kind) for kind in types):
        raise value.wrong(_expected(schema, types) + _quotes(value, types))
    if isinstance(value.value, dict):
        _mapping(value, schema)
    elif isinstance(value.value, list):
        if len(value.value) < schema.get("minItems", 0):
            raise value.wrong(_expected(schema, types))
        for item in value.items():
            validate(item, schema.get("items", {}))
    elif isinstance(value.value, str):
        _string(value, schema, types)
    elif "minimum" in schema and value.value < schema["minimum"]:
        raise value.wrong(f"{_expected(schema, types)}, at least {schema['minimum']}")


def _quotes(value: Located, types: tuple[str, ...] | list[str]) -> str:
    """Return what to say when quotes are all that is missing."""
    if "string" not in types:
        return ""
    if isinstance(value.value, dict) and len(value.value) == 1:
        [(name, inner)] = value.value.items()
        if inner.value is None:
            return f" (text in braces needs quotes: '{{{name}}}')"
    if isinstance(value.value, int | float) and "number" not in types and "array" not in types:
        return " (put it in quotes)"
    return ""


def _is(value: Any, kind: str) -> bool:
    match kind:
        case "string":
            return isinstance(value, str)
        case "integer":
            return type(value) is int
        case "number":
            return type(value) in (int, float)
        case "boolean":
            return type(value) is bool
        case "array":
            return isinstance(value, list)
        case _:
            return isinstance(value, dict)


def _expected(schema: Mapping[str, Any], types: tuple[str, ...] | list[str]) -> str:
    return schema.get("x-expected") or " or ".join(_NAMES[kind] for kind in types)


def _string(value: Located, schema: Mapping[str, Any], types: tuple[str, ...] | list[str]) -> None:
    if not value.value and "string" in types and "array" not in types and "number" not in types:
        raise value.wrong(f"{_expected(schema, types)} that is not empty")
    if "\0" in value.value:
        raise value.wrong("text without zero bytes")
    if "enum" in schema and value.value not in schema["enum"]:
        raise value.error(f"expected one of {', '.join(schema['enum'])}, got {value.shown()}")
    if "pattern" in schema and re.search(schema["pattern"], value.value) is None:
        raise value.wrong(_expected(schema, types))


def _mapping(value: Located, schema: Mapping[str, Any]) -> None:
    known = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    fields = value.mapping()
    if len(fields) < schema.get("minProperties", 0):
        raise value.wrong(f"{_expected(schema, ('object',))}, and not an empty one")
    for key, child in fields.items():
        if key in known:
            validate(child, known[key])
        elif others is False:
            raise child.error(unknown(key, tuple(known)))
        elif isinstance(others, dict):
            if isinstance(child.value, dict) and known and (near := nearest(key, known)):
                raise child.error(f"unknown key `{key}`; did you mean `{near}`?")
            validate(child, others)
    for key in schema.get("required", ()):
        if key not in fields:
            strange = [one for one in fields if one not in known]
            near = next((one for one in strange if nearest(one, (key,))), "")
            guess = f"; is `{near}` meant to be it?" if near else ""
            raise value.error(f"`{key}` is missing{guess}")


def nearest(key: str, known: Iterable[str]) -> str:
    """Return the one of `known` that was probably meant; empty when nothing is near."""
    known = tuple(known)
    other = OTHER_WORDS.get(key.lower(), "")
    near = get_close_matches(key, known, n=1) or get_close_matches(key.lower(), known, n=1)
    # A misspelling by a letter is likelier than another tool's word, and that than a distant spelling.
    if other in known and not (near and get_close_matches(key, near, cutoff=0.85)):
        return other
    return near[0] if near else ""


def unknown(key: str, known: tuple[str, ...]) -> str:
    """Return the message for a key that does not exist, with the nearest that does."""
    near = nearest(key, known)
    guess = f"; did you mean `{near}`?" if near else ","
    return f"unknown key `{key}`{guess} {'E' if near else 'e'}xpected one of {', '.join(known)}"
