"""A problem description as doit's source of tasks."""

from __future__ import annotations

import functools
import glob
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import doit.loader
from doit.cmd_base import DodoTaskLoader, TaskLoader2
from doit.exceptions import InvalidDodoFile
from doit.task import Task, dict_to_task

from computefarm.catalogue import Catalogue
from computefarm.errors import UsageError
from computefarm.farm import local_variant, parts_of
from computefarm.home import Home
from computefarm.needs import needs
from computefarm.problem import Package, Planned, Problem, ProblemError, check_files, groups, plan, read

from .loading import plain_task
from .packages import ensure


class ProblemLoader(TaskLoader2):
    """Tasks from a problem description; everything else works on them as on those of a dodo file."""

    cmd_options = DodoTaskLoader.cmd_options

    def setup(self, opt_values: Mapping[str, Any]) -> None:
        """Read the description and go to its folder, as doit does with a dodo file."""
        path = Path(opt_values["dodoFile"]).absolute()
        if not path.is_file():
            raise UsageError(f"{opt_values['dodoFile']}: there is no such file")
        doit.loader.initial_workdir = os.getcwd()
        folder = Path(opt_values["cwdPath"]).absolute() if opt_values.get("cwdPath") else path.parent
        if not folder.is_dir():
            raise UsageError(f"{opt_values['cwdPath']}: there is no such folder")
        os.chdir(folder)
        self._source = os.path.relpath(path, folder)
        self.problem, self.planned = load(self._source, variables(), self._catalogue())

    def _catalogue(self) -> Catalogue:
        self.catalogue = Catalogue.load(Home.find(os.environ), Path.cwd())
        return self.catalogue

    def load_doit_config(self) -> dict[str, Any]:
        """Return what is done when nothing is named."""
        _, default = groups(self.problem)
        return {"default_tasks": list(default)} if default else {}

    def load_tasks(self, cmd: Any, pos_args: Any) -> list[Task]:
        """Return doit's tasks."""
        taken = set(getattr(self, "cmd_names", ()) or ())
        for name in (*self.problem.tasks, *self.problem.groups):
            if name in taken:
                value = self.problem.tasks.get(name) or self.problem.groups[name]
                raise value.error(f"a task cannot be called `{name}`: that is a command's name")
        if cmd is not None and cmd.get_name() == "run":
            check_files(self.problem, self.planned, os.path.exists, functools.cache(_glob))
        return tasks_of(self.problem, self.planned, self.catalogue)


def variables() -> dict[str, str]:
    """Return what `-p NAME=VALUE` gave."""
    from doit import doit_cmd

    return dict(doit_cmd._CMDLINE_VARS or {})


def load(
    source: str, overrides: Mapping[str, str], catalogue: Catalogue
) -> tuple[Problem, list[Planned]]:
    """Return the description in the current folder and its tasks; packages are fetched on the way."""
    home = Home.find(os.environ)
    problem = read(source, _text)
    for name, value in problem.packages.items():
        fields = value.mapping()
        package = Package(
            name=name,
            url=fields["url"].text(),
            sha256=fields["sha256"].text(),
            unpack=_inside(fields["unpack"].text(), fields["unpack"]),
            strip=fields["strip"].whole() if "strip" in fields else 1,
            base=problem.bases[value.source],
        )
        place = f"{value.source}:{value.line}:{value.column}"
        ensure(package, Path.cwd(), home.cache, place, lambda text: print(text, file=sys.stderr, flush=True))
    groups(problem)
    variants = {name: local_variant(catalogue.get(name)) for name in catalogue.names()}
    planned = plan(
        problem,
        overrides,
        functools.cache(catalogue.get),
        functools.cache(_glob),
        lambda capability: variants[capability.capability],
    )
    return problem, planned


def _inside(path: str, value: Any) -> str:
    plain = os.path.normpath(path)
    if os.path.isabs(plain) or plain == "." or plain.split(os.sep, 1)[0] == "..":
        raise value.error(f"{path!r}: expected a folder inside the project")
    return plain


def _text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


def _glob(pattern: str) -> list[str]:
    return sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))


# --- doit's tasks -------------------------------------------------------------------------------------


def tasks_of(problem: Problem, planned: Sequence[Planned], catalogue: Catalogue) -> list[Task]:
    """Return doit's tasks: those of one entry under a group of its name."""
    found: dict[str, Task] = {}
    for each in planned:
        value = problem.tasks[each.basename]
        item = {"name": each.full_name, **task_parts(each, catalogue)}
        if each.after:
            item["task_dep"] = list(each.after)
        if each.summary:
            item["doc"] = each.summary
        try:
            task = plain_task(item) or dict_to_task(item)
        except InvalidDodoFile as error:
            raise ProblemError(f"{each.place}: {error}") from error
        # `majordomo clean` removes what a description's tasks have made: there is nobody else to say so.
        task._remove_targets = True
        task.clean_actions = []
        if each.name:
            group = found.get(each.basename)
            if group is None:
                summary = value.mapping().get("summary")
                doc = summary.value if summary is not None and "{" not in summary.value else None
                group = found[each.basename] = Task(each.basename, None, doc=doc, has_subtask=True)
            group.task_dep.append(each.full_name)
            task.subtask_of = each.basename
        found[each.full_name] = task
    for name, members in groups(problem)[0].items():
        found[name] = Task(name, None, task_dep=list(members), doc=f"group: {', '.join(members)}")
    return list(found.values())


def task_parts(task: Planned, catalogue: Catalogue) -> dict[str, Any]:
    """Return `actions`, `file_dep`, `targets` and `meta` of one task."""
    if task.made is not None:
        parts = parts_of(task.requirement, catalogue.get(task.made.capability), task.made, task.own)
    else:
        # doit fills %(targets)s and the like into text; a description has its own way of saying so.
        actions = [list(c) if isinstance(c, tuple) else c.replace("%", "%%") for c in task.commands]
        meta = needs(task.requirement, **task.own)
        parts = {"actions": actions, "targets": list(task.targets), "meta": meta}
    parts["file_dep"] = list(task.file_dep)
    return parts
