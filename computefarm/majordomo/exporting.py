"""A problem description as the dodo file that means the same."""

from __future__ import annotations

import keyword
import pprint
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from computefarm.problem import Planned, Problem, groups

WIDTH = 100


def dodo_text(problem: Problem, planned: Sequence[Planned]) -> str:
    """Return a dodo file with the same tasks; it stands alone and may be edited."""
    by_name: dict[str, list[Planned]] = {}
    for task in planned:
        by_name.setdefault(task.basename, []).append(task)
    members, default = groups(problem)
    parts = [_head(problem, planned, default)]
    parts += [_creator(name, tasks) for name, tasks in by_name.items()]
    parts += [_group(name, names) for name, names in members.items()]
    return "\n\n\n".join(parts) + "\n"


def _head(problem: Problem, planned: Sequence[Planned], default: Iterable[str]) -> str:
    summary = f": {problem.summary}" if problem.summary else ""
    title = _plain(problem.name + summary)
    lines = [f'"""{title}. Written by `majordomo export {problem.source}`."""', ""]
    used = {"farm": _acts(planned), "needs": not all(map(_is_action, planned))}
    names = [name for name, is_used in used.items() if is_used]
    lines.append(f"from computefarm import {', '.join(names)}")
    if default:
        lines += ["", f"DOIT_CONFIG = {{'default_tasks': {list(default)!r}}}"]
    if problem.packages:
        folders = ", ".join(str(v.mapping()["unpack"].value) for v in problem.packages.values())
        lines += ["", f"# The description's packages are expected in: {folders}"]
    return "\n".join(lines)


def _plain(text: str) -> str:
    return text.replace("\\", "").replace('"""', "'''")


def _is_action(task: Planned) -> bool:
    return bool(task.action)


def _acts(planned: Iterable[Planned]) -> bool:
    return any(map(_is_action, planned))


def _creator(name: str, tasks: Sequence[Planned]) -> str:
    function = _function(name)
    lines = [f"def task_{function}():"]
    summary = {task.summary for task in tasks}
    if len(summary) == 1 and (text := next(iter(summary))):
        lines.append(f'    """{_plain(text)}"""')
    basename = {} if function == name else {"basename": name}
    if len(tasks) == 1 and not tasks[0].name:
        return "\n".join([*lines, *_dictionary("return", basename, tasks[0], {}, "    ")])
    common = _common(tasks)
    rows = {task.name: {k: v for k, v in _values(task).items() if k not in common} for task in tasks}
    lines.append(f"    each = {_shown(rows, 11)}")
    lines.append("    for name, values in each.items():")
    head = {**basename, "name": _Code("name")}
    keys = {key for row in rows.values() for key in row}
    return "\n".join([*lines, *_dictionary("yield", head, tasks[0], common, "        ", keys)])


class _Code(str):
    """Text that is code, not a string."""

    def __repr__(self) -> str:
        return str(self)


def _common(tasks: Sequence[Planned]) -> dict[str, Any]:
    """Return the values that all tasks share."""
    first = _values(tasks[0])
    others = [_values(task) for task in tasks[1:]]
    return {
        key: value for key, value in first.items() if all(other.get(key, _Code) == value for other in others)
    }


def _values(task: Planned) -> dict[str, Any]:
    """Return what tells one task of a name from another."""
    if task.action:
        values = {**task.values, **task.own}
        extra = {"file_dep": list(task.file_dep)} if _more_files(task) else {}
    else:
        commands = [list(c) if isinstance(c, tuple) else c.replace("%", "%%") for c in task.commands]
        values = {"actions": commands, "targets": list(task.targets), "needs": dict(task.own)}
        extra = {"file_dep": list(task.file_dep)}
    after = {"task_dep": list(task.after)} if task.after else {}
    return {**values, **extra, **after}


def _more_files(task: Planned) -> bool:
    """Return whether a reference made a file a dependency that the action itself does not read."""
    read: set[str] = set()
    for value in task.values.values():
        read.update([value] if isinstance(value, str) else value if isinstance(value, list) else ())
    return not set(task.file_dep) <= read


_TASK_KEYS = ("file_dep", "task_dep")


def _dictionary(
    verb: str,
    head: Mapping[str, Any],
    task: Planned,
    common: Mapping[str, Any],
    indent: str,
    keys: Collection[str] = (),
) -> list[str]:
    """Return the lines of one task; `keys` are those that come from `values`, a row of the table above."""
    values = common if keys else _values(task)
    inner = indent + "    "
    lines = [f"{inner}{key!r}: {value!r}," for key, value in head.items()]
    body = _action_lines if task.action else _command_lines
    lines += body(task, values, inner, keys)
    lines.append(f"{inner}'clean': True,")
    return [f"{indent}{verb} {{", *lines, f"{indent}}}"]


def _action_lines(task: Planned, values: Mapping[str, Any], inner: str, keys: Collection[str]) -> list[str]:
    given = {key: value for key, value in values.items() if key not in _TASK_KEYS}
    arguments = [repr(task.requirement), repr(task.action)]
    arguments += [f"{key}={_shown(value, len(inner) + len(key) + 10)}" for key, value in given.items()]
    arguments += [f"{key}=values[{key!r}]" for key in _ordered(keys) if key not in _TASK_KEYS]
    lines = [f"{inner}**farm.action(", *(f"{inner}    {argument}," for argument in arguments), f"{inner}),"]
    there = [key for key in _TASK_KEYS if key in values]
    lines += [f"{inner}{key!r}: {_shown(values[key], len(inner) + 12)}," for key in there]
    return lines + [f"{inner}{key!r}: values[{key!r}]," for key in _TASK_KEYS if key in keys]


def _command_lines(task: Planned, values: Mapping[str, Any], inner: str, keys: Collection[str]) -> list[str]:
    lines = [f"{inner}{k!r}: {_shown(v, len(inner) + 12)}," for k, v in values.items() if k != "needs"]
    lines += [f"{inner}{key!r}: values[{key!r}]," for key in _ordered(keys) if key != "needs"]
    own = values.get("needs", {})
    asked = [repr(task.requirement), *(f"{key}={value!r}" for key, value in own.items())]
    if "needs" in keys:
        asked.append("**values['needs']")
    return [*lines, f"{inner}'meta': needs({', '.join(asked)}),"]


def _ordered(keys: Collection[str]) -> list[str]:
    return sorted(keys)


def _shown(value: Any, indent: int) -> str:
    text = pprint.pformat(value, width=max(40, WIDTH - indent), sort_dicts=False)
    return text.replace("\n", "\n" + " " * indent)


def _group(name: str, members: Iterable[str]) -> str:
    function = _function(name)
    basename = "" if function == name else f"'basename': {name!r}, "
    return f"def task_{function}():\n    return {{{basename}'actions': None, 'task_dep': {list(members)!r}}}"


def _function(name: str) -> str:
    plain = re.sub(r"\W", "_", name)
    return f"{plain}_" if keyword.iskeyword(plain) else plain
