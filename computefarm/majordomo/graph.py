"""What the shape of a task graph says: who is wanted, who is blocked, who comes first."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from doit.task import Task


def wanted(tasks: Mapping[str, Task], selected: list[str]) -> list[str]:
    """Return the tasks with actions that a selection stands for, without those that only set up others."""
    seen: set[str] = set(selected)
    todo = deque(selected)
    names = []
    while todo:
        task = tasks.get(todo.popleft())
        if task is None:
            continue
        if not task.has_subtask and (task._actions or task.loader):
            names.append(task.name)
        for dep in (*task.task_dep, *task.calc_dep):
            if dep not in seen:
                seen.add(dep)
                todo.append(dep)
    return names


def blocked_by(tasks: Mapping[str, Task], failed: set[str]) -> dict[str, str]:
    """Return, for each task that depends on a failed one, a failed task that blocks it."""
    after: dict[str, list[str]] = {}
    for name, task in tasks.items():
        for dep in (*task.task_dep, *task.setup_tasks, *task.calc_dep):
            after.setdefault(dep, []).append(name)
    cause = {name: name for name in failed}
    todo = deque(sorted(failed))
    while todo:
        name = todo.popleft()
        for dependant in after.get(name, ()):
            if dependant not in cause:
                cause[dependant] = cause[name]
                todo.append(dependant)
    return {name: by for name, by in cause.items() if name not in failed}


def priorities(tasks: Mapping[str, Task]) -> dict[str, float]:
    """Return for each task how many tasks lie on the longest path behind it; groups count nothing.

    Iterative, since chains of thousands are normal; a cycle, which doit reports later, ends the search.
    """
    after: dict[str, list[str]] = {}
    waits: dict[str, int] = dict.fromkeys(tasks, 0)
    for name, task in tasks.items():
        for dep in {*task.task_dep, *task.setup_tasks, *task.calc_dep}:
            if dep in waits:
                after.setdefault(name, []).append(dep)
                waits[dep] += 1
    length = dict.fromkeys(tasks, 0.0)
    ready = [name for name, count in waits.items() if not count]
    while ready:
        name = ready.pop()
        step = length[name] + (1.0 if tasks[name]._actions else 0.0)
        for dep in after.get(name, ()):
            if step > length[dep]:
                length[dep] = step
            waits[dep] -= 1
            if not waits[dep]:
                ready.append(dep)
    return length
