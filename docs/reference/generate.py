"""Write the generated parts of the reference: run it after a change of schemas, messages or capability files.

    python docs/reference/generate.py

A test runs it and compares.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from computefarm import messages
from computefarm.capability import Parameter
from computefarm.catalogue import Catalogue
from computefarm.problem.schema import PACKAGE, PROBLEM, TASK

HERE = Path(__file__).parent
GENERATED = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

TYPES = {
    "string": "text",
    "array": "list",
    "object": "mapping",
    "boolean": "true or false",
    "integer": "whole number",
}


def _type(schema: Mapping[str, Any]) -> str:
    kinds = schema.get("type", "string")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if "pattern" in schema and len(kinds) > 1:
        kinds = kinds[:1]  # or a reference to a parameter, as everywhere
    return " or ".join(TYPES.get(kind, kind) for kind in kinds)


def _table(schema: Mapping[str, Any]) -> str:
    rows = ["| Key | Is | Means |", "|--|--|--|"]
    for name, field in schema["properties"].items():
        needed = " **required**" if name in schema.get("required", ()) else ""
        rows.append(f"| `{name}` | {_type(field)}{needed} | {field['description']} |")
    return "\n".join(rows)


def problem() -> str:
    """Return the tables of a problem description."""
    others = TASK["additionalProperties"]["description"]
    return "\n\n".join(
        [
            "### At the top", _table(PROBLEM),
            "### In a task", f"{TASK['description']}", _table(TASK), f"Any other key: {others.lower()}",
            "### In a package", PACKAGE["description"], _table(PACKAGE),
        ]
    )  # fmt: skip


def _default(parameter: Parameter) -> str:
    if parameter.required:
        return "required"
    return f"`{json.dumps(parameter.default)}`" if parameter.default not in ("", []) else "nothing"


def _shipped() -> Iterator[str]:
    catalogue = Catalogue.load()
    for name in catalogue.names():
        capability = catalogue.get(name)
        yield f"### `{name}`\n\n{capability.summary}."
        if capability.variants:
            names = ", ".join(f"`{each.name}`" for each in capability.variants)
            yield f"Variants, in order of preference: {names}."
        for action in capability.actions.values():
            own_code = " It runs code that the task brings." if action.runs_code else ""
            rows = [f"`{name}` · `{action.name}`: {action.summary or 'no summary'}.{own_code}", ""]
            rows += ["| Parameter | Type | Default | Means |", "|--|--|--|--|"]
            for parameter in action.params.values():
                role = "input " if parameter.name in action.inputs else ""
                role = "output " if parameter.name in action.outputs else role
                limits = f"one of {', '.join(parameter.choices)}" if parameter.choices else ""
                meaning = "; ".join(filter(None, [parameter.summary, limits]))
                cells = (f"`{parameter.name}`", role + parameter.kind, _default(parameter), meaning)
                rows.append(f"| {' | '.join(cells)} |")
            yield "\n".join(rows)


def capabilities() -> str:
    """Return every shipped capability with its actions."""
    return "\n\n".join(_shipped())


def _messages(union: Any) -> str:
    rows = ["| Message | Means |", "|--|--|"]
    for one in get_args(union):
        meaning = one.__doc__.partition("\n\n")[0]
        rows.append(f"| `{one.__struct_config__.tag}` | {' '.join(meaning.split())} |")
    return "\n".join(rows)


def to_manager() -> str:
    """Return every message to the manager with its meaning."""
    return _messages(messages.ToManager)


def from_manager() -> str:
    """Return every message from the manager with its meaning."""
    return _messages(messages.FromManager)


PARTS = {
    "problem": problem,
    "capabilities": capabilities,
    "to_manager": to_manager,
    "from_manager": from_manager,
}


def filled(page: str) -> str:
    """Return a page with its generated parts made anew."""
    return GENERATED.sub(lambda match: f"{match[1]}\n{PARTS[match[2]]()}\n\n{match[3]}", page)


def files() -> dict[Path, str]:
    """Return what every generated file is to contain."""
    found = {HERE / "problem.schema.json": json.dumps(PROBLEM, indent=2) + "\n"}
    for name in ("problems.md", "capabilities.md", "protocol.md"):
        found[HERE / name] = filled((HERE / name).read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
        print(path)
