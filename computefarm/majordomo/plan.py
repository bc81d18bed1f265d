"""From a doit task to what the farm is asked to do."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from doit.action import CmdAction
from doit.task import Task

from computefarm.backends.base import Submission
from computefarm.errors import TaskError, UsageError
from computefarm.messages import Action, FileEntry, Need

from .checker import Files
from .database import FileState
from .dependency import Facts
from .farm_tasks import FarmTasks, own_environment
from .outputs import separators
from .toolchains import VARIANT, need_of

if TYPE_CHECKING:
    from computefarm.messages import Offer
    from computefarm.needs import Needs

    from .toolchains import Toolchain

Entries = Callable[[str, str], FileEntry]
"""Return the content of the file at a path, under its path in the project."""


class Plan(msgspec.Struct, frozen=True):
    """A submission, and what must be remembered of what was sent."""

    submission: Submission
    facts: Facts
    deps: tuple[FileState, ...]
    inputs: tuple[FileState, ...]
    marked: bool
    """The output of the single actions is told apart by marks in it."""
    others: tuple[str, ...] = ()
    """Toolchains that were offered too, and that this run does not use."""


class SortedFiles(set[str]):
    """`file_dep` in an order that is the same in every run, since commands are made from it."""

    def __iter__(self) -> Any:
        return super().__iter__() if len(self) < 2 else iter(sorted(super().__iter__()))


class Planner:
    """Turns farm tasks into submissions. One per run."""

    def __init__(self, root: str, farm: FarmTasks, files: Files, *, always: bool) -> None:
        self._root = root
        self._real_root = os.path.realpath(root)
        self._project = Path(root)
        self._farm = farm
        self._files = files
        self._always = always
        self._relative: dict[str, str] = {}
        self._wanted: dict[Any, Need] = {}

    def plan(
        self, task: Task, asked: Needs, facts: Facts, toolchain: Toolchain | None, number: int,
        priority: float, variant: str = "", offer: Offer | None = None,
    ) -> Plan:  # fmt: skip
        """Return what to submit for `task`; `variant` is the one of its action that the workers have.

        What the task does not say is taken from `offer`.

        Raises `UsageError` for a `file_dep` outside the project, `TaskError` for what else cannot be sent.
        """
        task.file_dep = SortedFiles(task.file_dep)
        self._farm.check_inputs(task, asked)
        entries, deps, inputs = self._gather(task, asked, facts)
        before = asked
        if variant:
            asked = with_variant(asked, variant, pin=toolchain is None)
        commands, environment, marked = self._commands(task, asked)
        if variant:
            commands = commands_of(variant, before, commands)
        action = Action(
            capability=asked.capability,
            commands=commands,
            inputs=tuple(entries[path] for path in sorted(entries)),
            outputs=self._outputs(task, asked),
            env=tuple(sorted(environment.items())),
            timeout_s=asked.timeout,
            platform=toolchain.platform if toolchain else "",
            fingerprint=toolchain.fingerprint if toolchain else "",
            host_files=asked.host_files,
            sandbox=asked.sandbox,
            named=asked.action.get("name", ""),
            values=_values(asked) if asked.action else b"",
        )
        # Imported late: a run with nothing to send need not build encoders.
        from computefarm.codec import encode_action

        submission = Submission(
            task=number,
            name=task.name,
            need=self._need(task, asked, toolchain, offer, entries),
            action=encode_action(action),
            sources={entry.digest: f"{self._root}/{path}" for path, entry in entries.items()},
            project=self._project,
            kind=task.subtask_of or task.name,
            priority=priority + asked.priority,
            retries=asked.retries,
            read_cache=asked.cache and not self._always,
            write_cache=asked.cache,
        )
        return Plan(submission, facts, deps, inputs, marked, toolchain.others if toolchain else ())

    # --- files ----------------------------------------------------------------------------------------

    def _gather(
        self, task: Task, asked: Needs, facts: Facts
    ) -> tuple[dict[str, FileEntry], tuple[FileState, ...], tuple[FileState, ...]]:
        entries: dict[str, FileEntry] = {}
        deps, inputs = [], []
        for dep in task.file_dep:
            relative = self.inside(dep)
            if relative is None:
                if dep in asked.host_files:
                    deps.append(self._state(task, dep))
                    continue
                raise UsageError(
                    f"task {task.name}: file_dep {dep} is outside the project {self._root}, "
                    "so it cannot travel to a worker",
                    hint=f"move it into the project; if every worker has it: needs(…, host_files=[{dep!r}])",
                )
            state = self._state(task, dep)
            deps.append(state)
            entries[relative] = self._entry(relative, dep, state)
        for path in facts.inputs:
            state = self._state(task, path)
            inputs.append(state)
            entries[path] = self._entry(path, path, state)
        return entries, tuple(deps), tuple(inputs)

    def _state(self, task: Task, path: str) -> FileState:
        try:
            return self._files.state(path)
        except IsADirectoryError:
            raise TaskError(
                f"task {task.name}: {path} in file_dep is a folder",
                hint=f"name its files, or: needs(…, inputs=[{path!r}])",
            ) from None
        except OSError as error:
            raise TaskError(f"task {task.name}: cannot read {path}: {error.strerror}") from error

    def _entry(self, relative: str, path: str, state: FileState) -> FileEntry:
        found = self._files.stat(path)
        executable = found is not None and bool(found.st_mode & 0o111)
        return FileEntry(relative, state.digest, state.size, executable)

    def inside(self, path: str) -> str | None:
        """Return a path relative to the project, None when it is not in it."""
        known = self._relative.get(path)
        if known is None:
            known = self._relative[path] = self._inside(path)
        return known or None

    def _inside(self, path: str) -> str:
        plain = os.path.normpath(path)
        if os.path.isabs(plain):
            for root in (self._root, self._real_root):
                if plain.startswith(root + os.sep):
                    return plain[len(root) + 1 :]
            return ""
        return "" if plain == "." or plain.split(os.sep, 1)[0] == ".." else plain

    def _outputs(self, task: Task, asked: Needs) -> tuple[str, ...]:
        outputs: dict[str, None] = {}
        for target in task.targets:
            relative = self.inside(target)
            if relative is None:
                raise TaskError(
                    f"task {task.name}: target {target} is outside the project {self._root}: "
                    "a farm task can only bring back files of the project"
                )
            outputs[relative] = None
        outputs.update(dict.fromkeys(asked.outputs))
        return tuple(outputs)

    # --- commands -------------------------------------------------------------------------------------

    def _commands(
        self, task: Task, asked: Needs
    ) -> tuple[tuple[str | tuple[str, ...], ...], dict[str, str], bool]:
        environment = {name: os.environ[name] for name in asked.pass_env if name in os.environ}
        environment.update(asked.env)
        commands: list[str | tuple[str, ...]] = []
        marked = len(task.actions) > 1 and any(action.save_out for action in task.actions)
        for number, action in enumerate(task.actions):
            if marked and number:
                commands.append(separators(number))
            environment.update(own_environment(action))
            if action.buffering:
                environment["PYTHONUNBUFFERED"] = "1"
            commands.append(self._command(task, action))
        return tuple(commands), environment, marked

    def _command(self, task: Task, action: CmdAction) -> str | tuple[str, ...]:
        try:
            expanded = action.expand_action()
        except Exception as error:  # the author's template or function may raise anything
            raise ExpansionError(task.name, error) from error
        command: str | tuple[str, ...]
        if action.shell:
            command = expanded if isinstance(expanded, str) else expanded[0]
        else:
            command = (expanded,) if isinstance(expanded, str) else tuple(expanded)
        place = action.pkwargs.get("cwd")
        return command if place is None else self._moved(task, command, str(place))

    def _moved(self, task: Task, command: str | tuple[str, ...], place: str) -> str | tuple[str, ...]:
        relative = self.inside(place)
        if relative is None and os.path.normpath(place) not in (".", self._root):
            raise UsageError(f"task {task.name}: cwd {place} is outside the project {self._root}")
        if relative is None:
            return command
        folder = shlex.quote(relative)
        if isinstance(command, str):
            return f"mkdir -p {folder}; cd {folder}\n{command}"
        return ("/bin/sh", "-c", f'mkdir -p {folder} && cd {folder} && exec "$@"', "sh", *command)

    def _need(
        self, task: Task, asked: Needs, toolchain: Toolchain | None, offer: Offer | None, paths: Iterable[str]
    ) -> Need:
        fingerprint = toolchain.fingerprint if toolchain else ""
        label = _label(asked, paths) if asked.action else ""
        need = need_of(asked, offer, fingerprint=fingerprint, action=label)
        if need.logs:
            self._farm.logs[task.name] = need.logs
        return self._wanted.setdefault(need, need)


def with_variant(asked: Needs, variant: str, *, pin: bool) -> Needs:
    """Return what a task needs with a variant of its action.

    `pin` asks for a worker with this variant by its tag, where no toolchain does so.
    """
    chosen: dict[str, Any] = asked.action["variants"][variant]
    changed = {key: chosen[key] for key in ("cpus", "gpus", "memory", "env")}
    changed["logs"] = chosen.get("logs", "")
    tags = {**asked.tags, VARIANT: variant} if pin else asked.tags
    return msgspec.structs.replace(asked, tags=tags, **changed)


def commands_of(
    variant: str, asked: Needs, commands: tuple[str | tuple[str, ...], ...]
) -> tuple[str | tuple[str, ...], ...]:
    """Return the commands of a variant in the place of another's; what the author put there himself stays."""
    known = {
        name: tuple(tuple(command) for command in each["commands"])
        for name, each in asked.action["variants"].items()
    }
    return known[variant] if commands in known.values() else commands


def _label(asked: Needs, paths: Iterable[str]) -> str:
    """Return the label of the action; with hidden files as inputs it is one that no lent worker has."""
    label: str = asked.action.get("label", "")
    if any(path.startswith(".") or "/." in path for path in paths):
        return f"{asked.action['name']}!inputs"
    return label


def _values(asked: Needs) -> bytes:
    """Return what was put into a named action, as it travels."""
    # Imported late: a run without named actions need not know what they are.
    from computefarm.capability.lending import encoded_values

    return encoded_values(asked.action.get("values", {}))


class ExpansionError(TaskError):
    """A command could not be made from its template; a task *error* in doit's terms."""

    exit_code = 2

    def __init__(self, task: str, error: Exception) -> None:
        super().__init__(f"task {task}: CmdAction Error creating command string: {error!r}")
