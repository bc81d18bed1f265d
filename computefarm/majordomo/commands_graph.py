"""`majordomo graph` and `majordomo export`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from doit.cmd_base import DoitCmdBase, check_tasks_exist
from doit.exceptions import InvalidDodoFile

from computefarm.errors import UsageError

from .commands_doit import Own
from .dispatch import Control
from .picture import dot, nodes, roots, tree

MOST_BOXES = 2000
"""More than these in one picture, and Graphviz works for hours on what nobody can read."""


def _option(name: str, short: str, kind: type, default: Any, text: str) -> dict[str, Any]:
    shape = {"section": "graph", "name": name, "short": short, "long": name, "type": kind}
    return {**shape, "default": default, "help": text}


class Graph(Own, DoitCmdBase):
    """`majordomo graph`."""

    name = "graph"
    doc_purpose = "show which task needs which, as a tree or a picture"
    doc_usage = "[DODO_FILE] [TASK...]"
    cmd_options = (
        _option("output", "o", str, "", "FILE.svg, .png, .pdf or .dot; a tree of text by default"),
        _option("all", "", bool, False, "every subtask, not only the name they share"),
    )
    asks_farm = True

    def _execute(self, output: str, all: bool, pos_args: list[str]) -> int:
        tasks = {task.name: task for task in self.task_list}
        if pos_args:
            check_tasks_exist(tasks, pos_args)
        control = Control(self.task_list)
        control.process(self.sel_tasks or None)
        names = pos_args or control.selected_tasks or list(tasks)
        boxes = nodes(control.tasks, names, self._states(control.tasks), self._capabilities(), each=all)
        if not output:
            print("\n".join(tree(boxes, roots(boxes))))
            return 0
        _draw(dot(boxes, os.path.basename(os.getcwd()) or "tasks"), output, len(boxes))
        return 0

    def _states(self, tasks: Mapping[str, Any]) -> dict[str, str]:
        states: dict[str, str] = {}
        for name, task in tasks.items():
            if not task._actions:
                continue
            if self.dep_manager.status_is_ignore(task):
                states[name] = "ignore"
                continue
            try:
                states[name] = str(self.dep_manager.get_status(task, tasks).status)
            except (OSError, InvalidDodoFile):
                states[name] = "error"
        return states

    def _capabilities(self) -> dict[str, str]:
        found = {}
        for task in self.task_list:
            needs = self.farm.needs(task)
            if needs is not None:
                found[task.name] = needs.capability
        return found


def _draw(text: str, output: str, boxes: int) -> None:
    suffix = Path(output).suffix.lower()
    if suffix == ".dot":
        _write(output, text.encode())
        return
    if suffix not in (".svg", ".png", ".pdf"):
        raise UsageError(f"-o {output}: expected a name that ends with .svg, .png, .pdf or .dot")
    program, plain = shutil.which("dot"), Path(output).with_suffix(".dot")
    if program is None:
        raise UsageError(
            f"-o {output}: there is no program `dot` (Graphviz) here",
            hint=f"sudo apt install graphviz    # or, without it: majordomo graph -o {plain}",
        )
    if boxes > MOST_BOXES:
        raise UsageError(
            f"-o {output}: {boxes} boxes are too many for a picture",
            hint=f"majordomo graph TASK -o {output}    # a part of it; or leave --all out, or: -o {plain}",
        )
    done = subprocess.run([program, f"-T{suffix[1:]}"], input=text.encode(), capture_output=True, check=False)
    if done.returncode:
        raise UsageError(f"-o {output}: dot failed: {done.stderr.decode(errors='replace').strip()}")
    _write(output, done.stdout)


def _write(output: str, data: bytes) -> None:
    try:
        Path(output).write_bytes(data)
    except OSError as error:
        raise UsageError(f"-o {output}: {error.strerror}") from error
    sys.stderr.write(f"wrote {output}\n")


class Export(Own, DoitCmdBase):
    """`majordomo export`."""

    name = "export"
    doc_purpose = "write a problem description as a dodo file"
    doc_usage = "PROBLEM.yaml [-o DODO_FILE]"
    cmd_options = (
        _option("output", "o", str, "", "file to write; standard output by default"),
        _option("force", "", bool, False, "replace the file if it is there"),
    )

    def _execute(self, output: str, force: bool, pos_args: list[str]) -> int:
        from .exporting import dodo_text
        from .problem_tasks import ProblemLoader

        if not isinstance(self.loader, ProblemLoader):
            hint = "majordomo export problem.yaml -o dodo.py"
            raise UsageError("export takes a problem description", hint=hint)
        text = dodo_text(self.loader.problem, self.loader.planned)
        if not output:
            sys.stdout.write(text)
            return 0
        if os.path.exists(output) and not force:
            hint = "majordomo export … --force    # replaces it"
            raise UsageError(f"-o {output}: it is there already", hint=hint)
        _write(output, text.encode())
        return 0
