"""doit's own decisions about tasks with our records: what is run, what an end means."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from doit.exceptions import BaseFail, DependencyError, UnmetDependency
from doit.runner import Runner
from doit.task import Task

from computefarm.messages import Outcome

from .dependency import Dependencies
from .failures import code_of
from .farm_tasks import FarmTasks
from .options import RunOptions
from .watching import Watching


class Judge(Runner):
    """doit's runner without its loop: `select_task` and `process_task_result`, as they are called by ours."""

    def __init__(
        self,
        dep_manager: Dependencies,
        reporter: Any,
        continue_: bool,
        always_execute: bool,
        stream: Any,
        *,
        options: RunOptions,
        farm: FarmTasks,
        watching: Watching,
    ) -> None:
        super().__init__(dep_manager, reporter, continue_, always_execute, stream)
        self.options = options
        self.watching = watching
        self.codes: set[int] = set()
        self.terminal = (sys.stdout, sys.stderr)
        self._stop_running: bool = False
        self._farm = farm

    def nothing_to_do(self, node: Any, capability: str) -> bool:
        """Settle the common case of a task that is up to date, as `select_task` would."""
        if node.run_status is not None or self.always_execute or node.bad_deps or node.ignored_deps:
            return False
        task = node.task
        try:
            if not self.dep_manager.nothing_to_do(task):
                return False
        except OSError:
            return False  # `select_task` meets it again, and reports it
        node.run_status = "up-to-date"
        self.reporter.get_status(task)
        self.reporter.skip_uptodate(task)
        self.watching.up_to_date(task.name, capability)
        return True

    def select_task(self, node: Any, tasks_dict: Mapping[str, Task]) -> bool:
        """Say whether a task is to be run now, as doit's runner does."""
        task = node.task
        first = node.run_status is None
        try:
            chosen = bool(super().select_task(node, tasks_dict))
        except OSError as error:
            self._handle_task_error(node, DependencyError(f"ERROR: Task '{task.name}': {error}"))
            return False
        status = node.run_status
        if status == "up-to-date" and not task.has_subtask:
            needs = self._farm.needs(task)
            self.watching.up_to_date(task.name, needs.capability if needs else "")
        elif status == "ignore":
            self.watching.not_run(task.name, Outcome.UP_TO_DATE, "ignored, as `majordomo ignore` was told")
        elif first and status == "run" and self.always_execute:
            self.dep_manager.why.setdefault(task.name, ["asked to run whatever its state (-a)"])
        return chosen

    def process_task_result(self, node: Any, base_fail: BaseFail | None) -> BaseFail | None:
        """Save a success or report a failure; return the failure, which saving may have caused."""
        task = node.task
        if base_fail is None:
            task.save_extra_values()
            try:
                self.dep_manager.save_success(task)
            except OSError as error:
                what = "does not exist" if isinstance(error, FileNotFoundError) else f"{error.strerror}"
                base_fail = DependencyError(
                    f"ERROR: Task '{task.name}' saving success: Dependent file '{error.filename}' {what}."
                )
        if base_fail is None:
            node.run_status = "successful"
            self.reporter.add_success(task)
            return None
        self.failed_with(node, base_fail)
        return base_fail

    def failed_with(self, node: Any, base_fail: BaseFail) -> None:
        """A task failed: remember, report and record it, and stop the run unless it is to go on."""
        self._handle_task_error(node, base_fail)

    def _handle_task_error(self, node: Any, base_fail: BaseFail) -> None:
        # doit's own `select_task` calls it by this name.
        task = node.task
        node.run_status = "failure"
        self.dep_manager.remove_success(task)
        self.dep_manager.sent.pop(task.name, None)
        self.reporter.add_failure(task, base_fail)
        if isinstance(base_fail, UnmetDependency):
            if not task.has_subtask:
                self.watching.not_run(
                    task.name, Outcome.BLOCKED, f"blocked by {base_fail.message}", self.capability(task)
                )
            return
        if isinstance(base_fail, DependencyError):
            self.watching.not_run(task.name, Outcome.FAILED, base_fail.message, self.capability(task))
        self.codes.add(code_of(base_fail))
        if not self.continue_ and not self._stop_running:
            self._stop_running = True
            self.stopped_by(task)

    def capability(self, task: Task) -> str:
        """Return what a task needs, empty for a local one."""
        needs = self._farm.needs(task)
        return needs.capability if needs else ""

    def say(self, text: str) -> None:
        """Tell the user one thing about the whole run."""
        self.watching.note(text)
        if self.options.echo:
            self.terminal[1].write(f"majordomo: {text}\n")

    def stopped_by(self, task: Task) -> None:
        """A failure ends the run: nothing new is started."""
