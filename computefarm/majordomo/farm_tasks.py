"""Which tasks go to the farm, and what of them decides their results."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from doit.action import CmdAction
from doit.task import Task

from computefarm.errors import TaskError, UsageError
from computefarm.needs import KEY, needs, read_needs

from .dependency import Facts

if TYPE_CHECKING:
    from computefarm.needs import Needs

    from .toolchains import Toolchain

OWN_FILES = (".majordomo.db", ".majordomo.db-wal", ".majordomo.db-shm", ".majordomo.db.lock")
"""Never inputs of a task, however wide its patterns."""

PLAIN_OPTIONS = {"env", "cwd"}
"""What a `CmdAction` may ask of its process and still run elsewhere."""


class FarmTasks:
    """Tells farm tasks from local ones. One per command."""

    def __init__(self, root: str, default_capability: str = "") -> None:
        self._root = root
        self._default: Needs | None = None
        if default_capability:
            self._default = read_needs(needs(default_capability))
        self._needs: dict[str, Needs | None] = {}
        self._patterns: dict[str, tuple[str, ...]] = {}
        self._last: tuple[Task, Facts] | None = None
        self.logs: dict[str, str] = {}
        """By task that was planned: the line parser of what it prints, where that is known."""
        self.toolchain_of: Callable[[Needs], Toolchain | None] = lambda _: None
        """Which toolchain this run uses for a need; commands that run nothing never ask the farm."""

    def any_of(self, tasks: Iterable[Task]) -> bool:
        """Say whether any of these is a farm task; raise `UsageError` for one that cannot be."""
        if self._default is None:
            tasks = [task for task in tasks if task.meta]
        # Counted, so that every one of them is checked.
        return sum(self.needs(task) is not None for task in tasks) > 0

    def needs(self, task: Task) -> Needs | None:
        """Return what a farm task needs, None for a local task.

        Raises `UsageError` for a task with needs that only this process could run.
        """
        if self._default is None and not task.meta:
            return None
        try:
            return self._needs[task.name]
        except KeyError:
            pass
        found = self._needs[task.name] = self._read(task)
        return found

    def _read(self, task: Task) -> Needs | None:
        if not task._actions:
            return None
        asked: Needs | None = None
        if task.meta and KEY in task.meta:
            try:
                asked = read_needs(task.meta)
            except UsageError as error:
                raise UsageError(f"task {task.name}: {error}") from error
        if asked is None:
            if self._default is None or any(_stays(action) for action in task._actions):
                return None
            return self._default
        if any(_interactive(action) for action in task._actions):
            return None
        for number, action in enumerate(task._actions, start=1):
            if reason := _stays(action):
                raise UsageError(
                    f"task {task.name} needs {asked.capability}, but its action {number} ({_name(action)}) "
                    f"{reason}: on the farm every action must be a command string or an argument list",
                    hint="make it a task of its own, without needs(…)",
                )
        return asked

    def facts(self, task: Task) -> Facts | None:
        """Return what decides a farm task's result, None for a local task."""
        asked = self.needs(task)
        if asked is None:
            return None
        # Asked for twice in a row: by the up-to-date check, and when the task is planned.
        if self._last is not None and self._last[0] is task:
            return self._last[1]
        toolchain = self.toolchain_of(asked)
        facts = Facts(
            asked.capability,
            command_text(task, asked),
            frozenset(self.inputs(asked)) if asked.inputs else frozenset(),
            fingerprint=toolchain.fingerprint if toolchain else "",
            version=toolchain.version if toolchain else "",
            any_toolchain=asked.any_toolchain,
            depfile=asked.depfile,
        )
        if toolchain is not None or asked.any_toolchain:
            self._last = (task, facts)
        return facts

    def inputs(self, asked: Needs) -> list[str]:
        """Return the project's files that `needs(inputs=…)` names now; unmatched patterns give nothing."""
        found: list[str] = []
        for pattern in asked.inputs:
            found += self.expand(pattern)
        return found

    def expand(self, pattern: str) -> tuple[str, ...]:
        """Return the files that one pattern names; a folder means everything below it."""
        known = self._patterns.get(pattern)
        if known is None:
            known = self._patterns[pattern] = tuple(sorted(set(_expand(self._root, pattern))))
        return known

    def check_inputs(self, task: Task, asked: Needs) -> None:
        """Raise `TaskError` naming a pattern that matches nothing."""
        for pattern in asked.inputs:
            if not self.expand(pattern):
                raise TaskError(
                    f"task {task.name}: inputs pattern {pattern!r} matches no file in {self._root}",
                    hint=f"create it, or correct needs(inputs=[{pattern!r}])",
                )

    def forget(self, paths: Iterable[str] | None = None) -> None:
        """Look again at the patterns that these new files may match, or at all."""
        self._last = None
        if paths is None:
            self._patterns.clear()
            return
        for path in paths:
            for pattern in [p for p in self._patterns if path.startswith(_fixed_part(p))]:
                del self._patterns[pattern]


def _fixed_part(pattern: str) -> str:
    for index, letter in enumerate(pattern):
        if letter in "*?[":
            return pattern[:index]
    return pattern


def _expand(root: str, pattern: str) -> Iterable[str]:
    for match in glob.iglob(pattern, root_dir=root, recursive=True):
        if os.path.isdir(os.path.join(root, match)):
            # `**` lists folders and what is below them; other folders stand for their content.
            if not pattern.endswith("**"):
                yield from _below(root, match)
        elif match not in OWN_FILES:
            yield os.path.normpath(match)


def _below(root: str, folder: str) -> Iterable[str]:
    top = os.path.join(root, folder)
    for place, _, names in os.walk(top):
        inside = os.path.relpath(place, root)
        for name in names:
            if name not in OWN_FILES:
                yield os.path.normpath(os.path.join(inside, name))


# --- actions ------------------------------------------------------------------------------------------


def _stays(action: Any) -> str:
    """Say why an action cannot run elsewhere, or return the empty string."""
    if isinstance(action, str | list):
        return ""
    if not isinstance(action, CmdAction):
        return "is Python code of this process"
    if type(action).execute is not CmdAction.execute:
        return "runs only here"
    others = sorted(set(action.pkwargs) - PLAIN_OPTIONS)
    if others:
        return f"uses {', '.join(others)}"
    return ""


def _interactive(action: Any) -> bool:
    return isinstance(action, CmdAction) and type(action).execute is not CmdAction.execute


def _name(action: Any) -> str:
    call = action[0] if isinstance(action, tuple) and action else getattr(action, "py_callable", action)
    return getattr(call, "__qualname__", None) or repr(call)


def command_text(task: Task, asked: Needs) -> str:
    """Return the text that stands for a farm task's command in its up-to-date check.

    Templates count as written, since what doit puts into them is checked on its own.
    The command comes first, then a zero byte and whatever else enters the action.
    """
    lines = [_action_text(action) for action in task._actions]
    env = asked.env
    if asked.action and "variants" in asked.action:
        lines, env = _whichever_variant(lines, env, asked.action["variants"])
    rest: list[Any] = []
    if task.targets or asked.outputs:
        rest.append([*task.targets, *asked.outputs])
    if env or asked.pass_env:
        passed = {name: os.environ.get(name) for name in asked.pass_env}
        rest.append({**passed, **env})
    if task.params or task.creator_params or task.pos_arg:
        task.init_options()
        options = {key: value for key, value in (task.options or {}).items() if key not in task.getargs}
        rest.append([options, task.pos_arg_val])
    if asked.version or asked.tags:
        rest.append([asked.version, asked.tags])
    if not rest:
        return "\n".join(lines)
    return "\n".join(lines) + "\0" + json.dumps(rest, sort_keys=True, default=repr)


def _whichever_variant(
    lines: list[str], env: dict[str, str], variants: Mapping[str, Any]
) -> tuple[list[str], dict[str, str]]:
    """Return text and variables that are the same whichever variant the machine has that planned the task.

    The workers' variant is part of their toolchain, which is compared by itself.
    """
    texts = {name: [" ".join(words) for words in each["commands"]] for name, each in variants.items()}
    if lines not in texts.values():
        return lines, env  # the author's own commands
    first = next(iter(variants))
    return texts[first], variants[first]["env"]


def _action_text(action: Any) -> str:
    if isinstance(action, str):
        return action
    if isinstance(action, list):
        return " ".join(map(str, action))
    raw = action._action
    if isinstance(raw, str):
        text = raw
    elif isinstance(raw, list):
        text = " ".join(map(str, raw))
    else:
        text = f"{_name(raw)}()"
    extra = own_environment(action)
    place = action.pkwargs.get("cwd")
    return f"{text}{f' in {place}' if place else ''}{f' with {extra}' if extra else ''}"


def own_environment(action: CmdAction) -> Mapping[str, str]:
    """Return what an action's `env` adds to this process's environment.

    doit's `env` replaces the environment, so people write `env={**os.environ, "X": "1"}`; only X is meant.
    """
    given = action.pkwargs.get("env") or {}
    return {key: str(given[key]) for key in sorted(given) if os.environ.get(key) != given[key]}
