"""Is a task up to date? doit's rules, word for word, with the farm's additions and one look at each file."""

from __future__ import annotations

import inspect
import subprocess
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from doit.dependency import Dependency, DependencyStatus, UptodateCalculator, get_md5
from doit.task import Task

from .checker import ContentChecker, Files
from .database import Database, Entry, FileState
from .reasons import reason_sentences


class Facts:
    """What decides a farm task's result beside its `file_dep`."""

    __slots__ = ("any_toolchain", "capability", "command", "depfile", "fingerprint", "inputs", "version")

    def __init__(
        self, capability: str, command: str, inputs: frozenset[str] = frozenset(), *,
        fingerprint: str = "", version: str = "", any_toolchain: bool = False, depfile: str = "",
    ) -> None:  # fmt: skip
        self.capability = capability
        self.command = command
        self.inputs = inputs
        """Paths that `needs(inputs=…)` stands for now."""
        self.fingerprint = fingerprint
        """Chosen for the run; empty when nothing offers the capability now, or nobody asked."""
        self.version = version
        self.any_toolchain = any_toolchain
        self.depfile = depfile
        """Where the command says which of the inputs it has read: the others do not count."""


class FarmFacts(Protocol):
    """Knows which tasks are farm tasks, and what decides their results."""

    def facts(self, task: Task) -> Facts | None:
        """Return what decides a farm task's result, None for a local task."""


Reason = tuple[str, Any]


class Dependencies(Dependency):
    """doit's dependency manager over our database."""

    def __init__(self, database: Database, checker: Any, files: Files) -> None:
        # doit's own constructor would open a database; the attributes are those it promises.
        self._closed = False
        self.checker = checker
        self.checker_name = type(checker).__name__
        self.files = files
        self.backend = database
        self.name = database.name
        self._set = database.set
        self._get = database.get
        self.remove = database.remove
        self.remove_all = database.remove_all
        self._in = database.in_
        self.by_content = isinstance(checker, ContentChecker)
        self.farm: FarmFacts | None = None
        self.why: dict[str, list[str]] = {}
        """Per task of this run: why it was not up to date."""
        self.sent: dict[str, tuple[Facts, Sequence[FileState], Sequence[FileState]]] = {}
        """Per farm task: facts, states of `file_dep` and states of inputs, as they were sent."""

    # --- values ---------------------------------------------------------------------------------------

    def get_values(self, task_name: str) -> dict[str, Any]:
        """Return what a task saved."""
        entry = self.backend.entry(task_name)
        if entry is None or (entry.data is None and not entry.text):
            return {}
        return self.backend.data(entry).get("_values_:") or {}

    def status_is_ignore(self, task: Task) -> Any:
        """Say whether the user told us to ignore a task."""
        entry = self.backend.entry(task.name)
        if entry is None or (entry.data is None and not entry.text):
            return None
        return self.backend.data(entry).get("ignore:")

    def ignore(self, task: Task) -> None:
        """Mark a task to be ignored."""
        super().ignore(task)
        self.backend.commit(task.name)

    def save_success(self, task: Task, result_hash: str | None = None) -> None:
        """Remember that a task succeeded, with the files as they were sent (farm) or are now (local)."""
        states, facts, inputs = self._states(task)
        entry = self.backend.edit(task.name)
        data = self.backend.data(entry)
        if task.values or "_values_:" in data:
            data["_values_:"] = task.values
        if result_hash is not None:
            data["result:"] = result_hash
        elif task.result:
            data["result:"] = task.result if isinstance(task.result, dict) else get_md5(task.result)
        entry.checker = self.checker_name
        if self.by_content:
            entry.deps = array("I", sorted(self.backend.state_id(state) for state in states))
        else:
            self._save_states(task, data)
        entry.inputs = array("I", sorted(self.backend.state_id(state) for state in inputs))
        entry.capability = facts.capability if facts else ""
        entry.command = facts.command if facts else ""
        entry.fingerprint = facts.fingerprint if facts else ""
        entry.version = facts.version if facts else ""
        self.backend.commit(task.name, sync=task.targets)

    def _states(self, task: Task) -> tuple[Sequence[FileState], Facts | None, Sequence[FileState]]:
        sent = self.sent.pop(task.name, None)
        if sent is not None:
            return sent[1], sent[0], sent[2]
        facts = self.farm.facts(task) if self.farm else None
        inputs = [self.files.state(path) for path in sorted(facts.inputs)] if facts else []
        return [self.files.state(dep) for dep in task.file_dep] if self.by_content else [], facts, inputs

    def _save_states(self, task: Task, data: dict[str, Any]) -> None:
        for dep in task.file_dep:
            state = self.checker.get_state(dep, data.get(dep))
            if state is not None:
                data[dep] = state
        data["deps:"] = list(task.file_dep)

    # --- the check ------------------------------------------------------------------------------------

    def get_status(
        self, task: Task, tasks_dict: Mapping[str, Task], get_log: bool = False
    ) -> DependencyStatus:
        """Say whether a task is up to date, as doit's own does, and remember why not in `why`.

        Sets `task.dep_changed`.
        """
        if self.by_content and not get_log and not task.uptodate and task.file_dep and self._unchanged(task):
            task.dep_changed = []
            return UP_TO_DATE
        result = DependencyStatus(get_log)
        task.dep_changed = []
        self._check(task, tasks_dict, result)
        if result.status != "up-to-date" and not get_log:
            self._explain(task, tasks_dict)
        return result

    def nothing_to_do(self, task: Task) -> bool:
        """Say whether a task is surely up to date, at the least cost; False leaves it to `get_status`.

        Sets what doit's runner sets for such a task.
        """
        row = self.backend.row(task.name)
        if row is None or not self.by_content or task.uptodate or row[2] != self.checker_name:
            return False
        file_dep, deps, text = task.file_dep, array("I", row[3]), row[1]
        if not file_dep or len(deps) != len(file_dep) or '"ignore:"' in text:
            return False
        files = self.files
        fresh = files.fresh
        for number in deps:
            if number not in fresh and not files.holds(number):
                return False
        path_of = self.backend.path_of
        if not file_dep.issuperset([path_of[number] for number in deps]):
            return False
        for target in task.targets:
            if not files.exists(target):
                return False
        if self.farm is not None:
            facts = self.farm.facts(task)
            if facts is not None and not _as_before(facts, row):
                return False
        task.dep_changed = []
        task.values = self.get_values(task.name) if '"_values_:"' in text else {}
        return True

    def _unchanged(self, task: Task) -> bool:
        """Decide the common case: nothing to do. False means only that a closer look is needed."""
        entry = self.backend.entry(task.name)
        if entry is None or entry.checker != self.checker_name:
            return False
        deps = entry.deps
        file_dep = task.file_dep
        if len(deps) != len(file_dep):
            return False
        files = self.files
        fresh = files.fresh
        if not fresh.issuperset(deps):
            for number in deps:
                if not files.holds(number):
                    return False
        path_of = self.backend.path_of
        if not file_dep.issuperset([path_of[number] for number in deps]):
            return False
        for target in task.targets:
            if files.stat(target) is None:
                return False
        return self.farm is None or not self._farm_reasons(task, entry)

    def _check(self, task: Task, tasks_dict: Mapping[str, Task], result: DependencyStatus) -> None:
        """Fill in `result` in the order of doit's own: up to the first reason, or all of them."""
        results = self._ask_uptodate(task, tasks_dict, result)
        if not result.get_log and result.status == "run":
            return
        if not (task.file_dep or results) and result.set_reason("has_no_dependencies", True):
            return
        for target in task.targets:
            if not self.checker.exists(target):
                task.dep_changed = list(task.file_dep)
                if result.add_reason("missing_target", target):
                    return
        entry = self.backend.entry(task.name)
        if entry is not None and entry.checker and entry.checker != self.checker_name:
            previous = entry.checker
            task.dep_changed = list(task.file_dep)
            self.remove(task.name)
            self.why[task.name] = reason_sentences({"checker_changed": (previous, self.checker_name)})
            entry = None
            if result.set_reason("checker_changed", (previous, self.checker_name)):
                return
        self._check_files(task, entry, result)
        if result.status == "error":
            return
        for reason, argument in self._farm_reasons(task, entry) if self.farm else ():
            result.set_reason(reason, argument)

    def _ask_uptodate(
        self, task: Task, tasks_dict: Mapping[str, Task], result: DependencyStatus
    ) -> list[Any]:
        results = []
        for ask, args, kwargs in task.uptodate:
            answer = self._ask(task, tasks_dict, ask, args, kwargs)
            if answer is None:
                continue
            results.append(answer)
            if not answer:
                result.add_reason("uptodate_false", (ask, args, kwargs))
        return results

    def _ask(self, task: Task, tasks_dict: Mapping[str, Task], ask: Any, args: Any, kwargs: Any) -> Any:
        if hasattr(ask, "__call__"):  # noqa: B004  # doit's own test: an instance may define it
            if isinstance(ask, UptodateCalculator):
                ask.setup(self, tasks_dict)
            magic: list[Any] = []
            for index, name in enumerate(inspect.signature(ask).parameters):
                if index == 0 and name == "task":
                    magic.append(task)
                elif index == 1 and name == "values":
                    magic.append(self.get_values(task.name))
            return ask(*magic, *args, **kwargs)
        if isinstance(ask, str):
            quiet = subprocess.DEVNULL
            return subprocess.call(ask, shell=True, stderr=quiet, stdout=quiet) == 0
        return ask

    def _check_files(self, task: Task, entry: Entry | None, result: DependencyStatus) -> None:
        saved, previous = self._saved(entry)
        if previous and previous != task.file_dep:
            if result.get_log:
                result.set_reason("added_file_dep", sorted(task.file_dep - previous))
                result.set_reason("removed_file_dep", sorted(previous - task.file_dep))
            result.status = "run"
        changed = []
        for dep in task.file_dep:
            try:
                facts = self.checker.info(dep)
            except self.checker.CheckerError:
                result.error_reason = f"Dependent file '{dep}' does not exist."
                if result.add_reason("missing_file_dep", dep, "error"):
                    return
                continue
            state = saved.get(dep)
            if state is None or self._modified(dep, facts, state):
                changed.append(dep)
        task.dep_changed = changed
        if changed:
            result.set_reason("changed_file_dep", changed)

    def _saved(self, entry: Entry | None) -> tuple[dict[str, Any], set[str] | None]:
        """Return the saved state of each file, and the set of files the task depended on."""
        if entry is None:
            return {}, None
        if self.by_content:
            numbers = {self.backend.path_of[number]: number for number in entry.deps}
            return numbers, set(numbers)
        data = self.backend.data(entry)
        previous = data.get("deps:")
        return data, set(previous) if previous else None

    def _modified(self, dep: str, facts: Any, state: Any) -> bool:
        if self.by_content:
            return not self.files.holds(state)
        return bool(self.checker.check_modified(dep, facts, state))

    def _farm_reasons(self, task: Task, entry: Entry | None) -> list[Reason]:
        """Say what of the farm's own facts differs from the saved ones; nothing is saved for a new task."""
        facts = self.farm.facts(task) if self.farm else None
        if facts is None or entry is None:
            return []
        reasons: list[Reason] = []
        if entry.capability and entry.capability != facts.capability:
            return [("capability_changed", (entry.capability, facts.capability))]
        if entry.capability and entry.command != facts.command:
            reasons.append(("command_changed", (entry.command, facts.command)))
        if entry.fingerprint and facts.fingerprint not in ("", entry.fingerprint) and not facts.any_toolchain:
            change = (facts.capability, entry.version, facts.version)
            reasons.append(("toolchain_changed", change))
        if facts.inputs or entry.inputs:
            changed = self._changed_inputs(facts.inputs, entry, read_only=bool(facts.depfile))
            if changed:
                reasons.append(("changed_inputs", changed))
        return reasons

    def _changed_inputs(self, inputs: frozenset[str], entry: Entry, *, read_only: bool) -> list[str]:
        """Return the inputs that differ; with `read_only` those that were read count, and no others."""
        numbers = entry.inputs
        if read_only and entry.capability:
            if self.files.fresh.issuperset(numbers):
                return []
            return sorted(self.backend.path_of[n] for n in numbers if not self.files.holds(n))
        if len(numbers) == len(inputs) and self.files.fresh.issuperset(numbers):
            known = {self.backend.path_of[number] for number in numbers}
            if known == inputs:
                return []
        saved = {self.backend.path_of[number]: number for number in numbers}
        changed = [path for path in inputs if path not in saved or not self.files.holds(saved[path])]
        return sorted(changed + [path for path in saved if path not in inputs])

    # --- why ------------------------------------------------------------------------------------------

    def _explain(self, task: Task, tasks_dict: Mapping[str, Task]) -> None:
        """Remember every reason, not only the first; never asks `uptodate` a second time."""
        entry = self.backend.entry(task.name)
        if entry is None:
            self.why.setdefault(task.name, ["it has not run before"])
            return
        full = DependencyStatus(True)
        changed, task.dep_changed = task.dep_changed, []
        uptodate, task.uptodate = task.uptodate, []
        try:
            self._check(task, tasks_dict, full)
        finally:
            task.dep_changed, task.uptodate = changed, uptodate
        if uptodate:
            full.reasons.pop("has_no_dependencies", None)
        sentences = reason_sentences(full.reasons)
        self.why[task.name] = sentences or ["its `uptodate` says so"]


def _as_before(facts: Facts, row: tuple[Any, ...]) -> bool:
    """Say whether a farm task's facts are surely those of a saved row."""
    _, _, _, _, inputs, command, capability, fingerprint, _ = row
    if facts.inputs or inputs:
        return False
    if capability and (capability != facts.capability or command != facts.command):
        return False
    return not fingerprint or facts.any_toolchain or facts.fingerprint in ("", fingerprint)


UP_TO_DATE = DependencyStatus(False)
"""Shared: nobody writes into the status of a task that has nothing to do."""
