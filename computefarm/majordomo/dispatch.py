"""doit's task control and dispatcher, with a short way for tasks that depend on no other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from doit.control import ExecNode, TaskControl, TaskDispatcher


class Control(TaskControl):
    """doit's, giving out our dispatcher."""

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
