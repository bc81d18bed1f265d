"""doit's task control and dispatcher, with a short way for tasks that depend on no other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from doit.control import ExecNode, TaskControl, TaskDispatcher
from doit.exceptions import InvalidTask
from doit.task import Task


class Control(TaskControl):
    """doit's, giving out our dispatcher; a task may need ten thousand others."""

    @staticmethod
    def set_implicit_deps(targets: dict[str, str], task_list: Iterable[Task]) -> None:
        """Let every task come after those that make its files; `targets` is filled in."""
        for task in task_list:
            for target in task.targets:
                if target in targets:
                    raise InvalidTask(
                        "Two different tasks can't have a common target."
                        f"'{target}' is a target for {task.name} and {targets[target]}."
                    )
                targets[target] = task.name
        for task in task_list:
            known = set(task.task_dep)
            for dep in task.file_dep:
                maker = targets.get(dep)
                if maker is not None and maker not in known:
                    known.add(maker)
                    task.task_dep.append(maker)

    def task_dispatcher(self) -> Dispatcher:
        """Return what gives out tasks in order."""
        return Dispatcher(self.tasks, self.targets, self.selected_tasks)


class Dispatcher(TaskDispatcher):
    """doit's, order and protocol unchanged."""

    def _add_task(self, node: ExecNode) -> Iterator[Any]:
        """Return what is to be done for a node: itself alone where nothing comes before it."""
        task = node.task
        if task.loader is None and not (node.task_dep or node.calc_dep or task.setup_tasks):
            return iter((task,))
        return iter(super()._add_task(node))
