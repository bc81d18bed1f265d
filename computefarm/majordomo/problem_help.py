"""`majordomo help problem`: the keys of a problem description, from the schema that checks them."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from computefarm.problem import PROBLEM
from computefarm.problem.schema import PACKAGE, TASK

WORDS = {"array": "list", "object": "mapping", "string": "text", "boolean": "true/false", "integer": "number"}

EXAMPLE = """\
problem: hello
params: {opt: -O2}                    # majordomo run problem.yaml -p opt=-O3
tasks:
  compile:
    capability: gcc
    action: compile                   # majordomo capabilities shows each one's actions
    foreach: {source: 'src/*.c'}      # one task for each file
    object: 'build/{source.stem}.o'
    flags: ['{opt}']
  link: {capability: gcc, action: link, objects: '{compile.object}', output: hello}
  greet: {capability: shell, run: './{link.output} > {outputs}', outputs: greeting.txt}
"""

BRACES = """\
{opt}              a parameter, or a variable of foreach
{source.stem}      part of a path: stem, name, parent, suffix
{compile.object}   what another entry's tasks were given, or make: {compile.outputs}
{{ and }}          braces
"""


def lines() -> Iterator[str]:
    """Yield the page."""
    yield "A problem description says what is to be made. Nothing in it is evaluated.\n"
    yield textwrap.indent(EXAMPLE, "  ")
    for title, schema in (("At the top", PROBLEM), ("In a task", TASK), ("In a package", PACKAGE)):
        yield f"{title}:"
        yield from _keys(schema)
        if schema is TASK:
            yield "  any other key       a parameter of the action"
        yield ""
    yield "In braces:"
    yield textwrap.indent(BRACES, "  ")
    yield "majordomo help problem-schema > problem.schema.json    # for editors; a description's first line:"
    yield "# yaml-language-server: $schema=problem.schema.json"


def _keys(schema: Mapping[str, Any]) -> Iterator[str]:
    width = max(60, min(shutil.get_terminal_size().columns, 110))
    for name, field in schema["properties"].items():
        kinds = field.get("type", "string")
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if "pattern" in field:
            kinds = kinds[:1]  # text there is a reference
        said = "/".join(WORDS.get(kind, kind) for kind in kinds)
        needed = ", required" if name in schema.get("required", ()) else ""
        text = f"{field['description']} ({said}{needed})"
        yield textwrap.fill(text, width, initial_indent=f"  {name:18}  ", subsequent_indent=" " * 22)
