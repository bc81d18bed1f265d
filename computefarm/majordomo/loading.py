"""Tasks from a dodo file, made in less time: most of thousands look alike.

doit checks all twenty attributes of a task whatever was given: most of what loading a large graph costs.
Here the attributes nobody gave are copied from a task that doit has made; anything unusual goes to doit.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from doit.exceptions import InvalidTask
from doit.loader import TASK_STRING, task_params
from doit.task import IOConfig, Task, dict_to_task, first_line

PLAIN_KEYS = frozenset({"name", "actions", "file_dep", "targets", "task_dep", "meta", "doc", "verbosity"})
"""Tasks with nothing else are made here."""

_TEMPLATE: Mapping[str, Any] = vars(Task("template", None))
_ONLY_TEXT = {str}
_NOTHING: Mapping[str, Any] = {}
_LISTS: Mapping[str, Callable[[Any], Any]] = {"file_dep": set, "targets": list, "task_dep": list}


def quick(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Return a dodo file's namespace with task generators that make their subtasks themselves."""
    return {name: _quick_creator(name, value) for name, value in namespace.items()}


def _quick_creator(name: str, value: Any) -> Any:
    if not name.startswith(TASK_STRING) or value is task_params or not inspect.isgeneratorfunction(value):
        return value
    return with_tasks(value, name[len(TASK_STRING) :])


def with_tasks(creator: Callable[..., Iterator[Any]], basename: str) -> Callable[..., Iterator[Any]]:
    """Return `creator` yielding `Task`s where it yields dictionaries of subtasks."""

    @functools.wraps(creator)
    def made(*arguments: Any, **options: Any) -> Iterator[Any]:
        items = iter(creator(*arguments, **options))
        group: Task | None = None
        names: set[str] = set()
        for item in items:
            if type(item) is not dict or not isinstance(item.get("name"), str) or "basename" in item:
                # Tasks of another group, tasks in their own right, generators of generators: doit's business,
                # and so is all that follows, since only doit knows then which groups there are.
                yield item
                break
            if group is None:
                group = Task(basename, None, doc=creator.__doc__, has_subtask=True)
                yield group
            full_name = f"{basename}:{item['name']}"
            if full_name in names:
                raise InvalidTask(f"Task generation '{basename}' has duplicated definition of '{full_name}'")
            names.add(full_name)
            item["name"] = full_name
            task = plain_task(item)
            if task is None:
                task = dict_to_task(item)
            task.subtask_of = basename
            group.task_dep.append(full_name)
            yield task
        yield from items

    return made


def plain_task(item: Mapping[str, Any]) -> Task | None:
    """Return the task that doit would make of `item`, None when that is for doit to make or to refuse."""
    if not item.keys() <= PLAIN_KEYS or "=" in item["name"] or type(item.get("actions")) is not list:
        return None
    # The template's own containers must not be shared between tasks.
    state = {
        **_TEMPLATE,
        "name": item["name"],
        "creator_params": [],
        "setup_tasks": [],
        "io": IOConfig(_NOTHING),
        "_actions": item["actions"].copy(),
        "file_dep": set(),
        "task_dep": [],
        "wild_dep": [],
        "calc_dep": set(),
        "getargs": {},
        "value_savers": [],
        "uptodate": [],
        "targets": [],
        "values": {},
        "clean_actions": [],
        "teardown": [],
    }
    for key, value in item.items():
        if key in _LISTS:
            if type(value) not in (list, tuple) or (value and set(map(type, value)) != _ONLY_TEXT):
                return None
            state[key] = _LISTS[key](value)
        elif key == "meta":
            if type(value) is not dict:
                return None
            state[key] = value
        elif key == "doc":
            if type(value) is not str:
                return None
            state[key] = first_line(value)
        elif key == "verbosity":
            if value not in (None, 0, 1, 2):
                return None
            state[key] = value
    if state["task_dep"] and any("*" in each for each in state["task_dep"]):
        return None
    task = Task.__new__(Task)
    task.__dict__ = state
    return task
