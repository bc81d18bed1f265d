"""From a description to tasks: parameters, combinations, references, actions."""

from __future__ import annotations

import itertools
import posixpath
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from computefarm.capability import ActionError, Capability, expand
from computefarm.capability.expanding import inside
from computefarm.errors import UsageError
from computefarm.located import Located
from computefarm.needs import needs, parse_requirement
from computefarm.spelling import did_you_mean

from .ordering import in_order
from .parameters import params_of
from .schema import NEEDS
from .templates import Scope, filled, plain
from .validate import nearest, unknown
from .words import Planned, Problem

Glob = Callable[[str], list[str]]
"""Returns the project's files that match a pattern, sorted."""

FindCapability = Callable[[str], Capability]
"""Returns the capability of a name; raises `UsageError` with the nearest names."""

MOST = 200_000
"""Tasks of one problem."""

PLATFORM = re.compile(r"[a-z0-9]+-[a-z0-9_]+", re.ASCII)
PLATFORMS = ("linux-x86_64", "linux-aarch64", "linux-armv7l", "linux-riscv64", "darwin-arm64")
"""Known ones, for guesses: any other of this shape is a platform too."""

TWO_OPTIONS = re.compile(r"-\S+\s+-")
"""What looks like a command line where one of its words belongs."""

OWN = frozenset(
    {"capability", "action", "run", "foreach", "exclude", "name", "platforms", "after", "summary", *NEEDS}
)
"""Keys of a task that are not parameters of its action."""


def plan(
    problem: Problem,
    overrides: Mapping[str, str],
    capability: FindCapability,
    glob: Glob,
    variant: Callable[[Capability], str] = lambda capability: "",
) -> list[Planned]:
    """Return all tasks, each after those whose outputs it refers to.

    `overrides` are parameters as the command line gave them; `variant` returns which of a capability's
    variants the commands are written for. Raises `ProblemError`.
    """
    params = params_of(problem, overrides)
    planner = _Planner(problem, params, capability, glob, variant)
    for name in in_order(problem):
        planner.add(name)
    tasks = [task for tasks in planner.planned.values() for task in tasks]
    return [_with_inputs(task, planner.made) for task in tasks]


def _with_inputs(task: Planned, made: Mapping[str, str]) -> Planned:
    """Return a task that comes after those which make what its inputs name."""
    more = [path for path in task.own.get("inputs", ()) if path in made and path not in task.file_dep]
    return msgspec.structs.replace(task, file_dep=(*task.file_dep, *more)) if more else task


# --- tasks --------------------------------------------------------------------------------------------


def _check_keys(value: Located, fields: Mapping[str, Located]) -> None:
    """Refuse keys that contradict one another, or that would mean nothing."""
    if ("action" in fields) == ("run" in fields):
        both = "has both action and run" if "run" in fields else "has neither action nor run"
        strange = [key for key in fields if key not in OWN]
        meant = next((key for key in strange if nearest(key, ("action", "run"))), "")
        guess = f"; is `{meant}` meant to be `{nearest(meant, ('action', 'run'))}`?" if meant else ""
        raise value.error(f"{both}: give one of them{guess}")
    for key in ("name", "exclude"):
        if key in fields and "foreach" not in fields and not (key == "name" and "platforms" in fields):
            raise fields[key].error(f"`{key}` means something only beside foreach: this is one task")


def _only(value: Any) -> Any:
    """Return the item of a list of one: what a reference to one file's task stands for."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


class _Item(msgspec.Struct):
    """One combination of a task's variables."""

    names: dict[str, Any]
    files: tuple[str, ...]
    """Values that are files: what the task reads."""
    platform: str
    label: str


class _Planner:
    """Plans one task after the other."""

    def __init__(
        self, problem: Problem, params: Mapping[str, Any], capability: FindCapability, glob: Glob,
        variant: Callable[[Capability], str],
    ) -> None:  # fmt: skip
        self._problem = problem
        self._params = params
        self._capability = capability
        self._glob = glob
        self._variant = variant
        self.planned: dict[str, list[Planned]] = {}
        self._platforms: dict[str, list[str]] = {}
        self._count = 0
        self.made: dict[str, str] = {}
        """Which task makes which file."""

    def add(self, basename: str) -> None:
        """Plan the tasks of one entry."""
        value = self._problem.tasks[basename]
        fields = value.mapping()
        _check_keys(value, fields)
        requirement, capability = self._requirement(fields["capability"])
        items = self._items(value, fields)
        self.planned[basename], self._platforms[basename] = [], []
        names = self._labels(value, fields, items)
        for item, name in zip(items, names, strict=True):
            task = self._task(basename, name, value, item, requirement, capability)
            self._claim(task, value)
            self.planned[basename].append(task)
            self._platforms[basename].append(item.platform)
            self._count += 1
            if self._count > MOST:
                raise value.error(f"more than {MOST} tasks")

    def _requirement(self, value: Located) -> tuple[str, Capability]:
        text = value.text()
        try:
            name, _ = parse_requirement(text)
            return text, self._capability(name)
        except UsageError as error:
            raise value.error(str(error)) from error

    def _claim(self, task: Planned, value: Located) -> None:
        for target in task.targets:
            other = self.made.setdefault(target, task.full_name)
            if other != task.full_name:
                raise value.error(
                    f"{target} is made by {other} already: two tasks cannot make one file"
                )

    # --- variables ---

    def _items(self, value: Located, fields: Mapping[str, Located]) -> list[_Item]:
        platforms = self._platforms_of(fields["platforms"]) if "platforms" in fields else [""]
        variables = fields["foreach"].mapping() if "foreach" in fields else {}
        items: list[_Item] = []
        for platform in platforms:
            choices = {
                name: self._choices(name, choice, fields, platform) for name, choice in variables.items()
            }
            for values in itertools.product(*choices.values()):
                names: dict[str, Any] = dict(zip(choices, (text for text, _ in values), strict=True))
                if platform:
                    names["platform"] = platform
                files = tuple(text for text, is_file in values if is_file)
                label = "-".join([*(str(text) for text, _ in values), *([platform] if platform else [])])
                items.append(_Item(names, files, platform, label))
        return items

    def _platforms_of(self, value: Located) -> list[str]:
        platforms = self._texts(value, Scope(self._params))
        for platform in platforms:
            if PLATFORM.fullmatch(platform) is None:
                guess = did_you_mean(platform, PLATFORMS)
                expected = f"expected SYSTEM-MACHINE, such as linux-x86_64{guess}"
                raise value.error(f"{platform!r} is no platform: {expected}")
        return platforms

    def _choices(
        self, name: str, choice: Located, fields: Mapping[str, Located], platform: str
    ) -> list[tuple[Any, bool]]:
        if name in self._params or name in self._problem.tasks or name == "platform":
            raise choice.error(f"`{name}` is the name of something else; call the variable differently")
        scope = self._scope({}, platform)
        texts = filled(choice, scope)
        excluded = self._texts(fields["exclude"], scope) if "exclude" in fields else []
        left_out = {path for pattern in excluded for path in [pattern, *self._glob(pattern)]}
        made = set(scope.used)
        found: list[tuple[Any, bool]] = []
        for text in texts if isinstance(texts, list) else [texts]:
            if isinstance(text, str) and any(sign in text for sign in "*?["):
                self._inside(choice, text)
                paths = self._glob(text)
                if not paths:
                    raise choice.error(f"no file matches {text}")
                found += [(path, True) for path in paths if path not in left_out]
            elif text not in left_out:
                # In a list, the name of a file is that file; any other word is a word.
                is_file = text in made or (isinstance(text, str) and self._glob(text) == [text])
                found.append((text, is_file))
        if not found:
            raise choice.error(f"nothing is left for `{name}` to stand for")
        return found

    def _labels(self, value: Located, fields: Mapping[str, Located], items: list[_Item]) -> list[str]:
        """Return a name for each task: as told, else the values, short where that tells them apart."""
        if "foreach" not in fields and "platforms" not in fields:
            return [""]
        if "name" in fields:
            names = [
                self._text(fields["name"], self._scope(item.names, item.platform)) for item in items
            ]
            place = fields["name"]
        else:
            names = [posixpath.splitext(posixpath.basename(item.label))[0] for item in items]
            if len(set(names)) < len(names) or any(len(item.names) > 1 for item in items):
                names = [item.label for item in items]
            place = value
        for name in names:
            if not name or name.startswith(("-", "_")) or "=" in name:
                raise place.error(f"{name!r} is no name for a task; say how each is called with name:")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise place.error(f"several tasks are called {twice!r}; say how each is called with name:")
        return names

    # --- one task ---

    def _scope(self, names: Mapping[str, Any], platform: str) -> Scope:
        return Scope(
            {**self._params, **names},
            self._problem.tasks,
            lambda place, task, key: self._outputs(place, task, key, platform),
            [],
        )

    def _outputs(self, place: Located, task: str, key: str, platform: str) -> list[str]:
        """Return the paths that `{task.key}` stands for; of the same platform where both have several."""
        tasks = self.planned[task]
        of = self._platforms[task]
        if platform and platform in of:
            tasks = [one for one, its in zip(tasks, of, strict=True) if its == platform]
        paths: list[str] = []
        for one in tasks:
            value = one.targets if key in ("", "outputs") else one.values.get(key)
            if value is None:
                known = (*one.values, "outputs")
                raise place.error(f"{{{task}.{key}}}: {unknown(key, known)}")
            paths += [value] if isinstance(value, str) else value
        # The list of what a compiler read is nobody's input.
        return [path for path in paths if not (key in ("", "outputs") and path.endswith(".d"))]

    def _task(
        self, basename: str, name: str, value: Located, item: _Item, requirement: str, capability: Capability
    ) -> Planned:
        fields = value.mapping()
        scope = self._scope(item.names, item.platform)
        own = self._own(value, fields, scope, requirement, item.platform)
        given = {key: filled(child, scope) for key, child in fields.items() if key not in OWN}
        place = f"{value.source}:{value.line}:{value.column}"
        common: dict[str, Any] = {
            "basename": basename, "name": name, "requirement": requirement, "place": place,
            "after": tuple(self._texts(fields["after"], scope)) if "after" in fields else (),
            "summary": self._text(fields["summary"], scope) if "summary" in fields else "",
        }  # fmt: skip
        if "action" in fields:
            return self._action(value, fields, scope, own, given, item, capability, common)
        return self._command(value, fields, scope, own, given, item, common)

    def _action(
        self, value: Located, fields: Mapping[str, Located], scope: Scope, own: dict[str, Any],
        given: dict[str, Any], item: _Item, capability: Capability, common: dict[str, Any],
    ) -> Planned:  # fmt: skip
        action = self._text(fields["action"], scope)
        template = capability.actions.get(action)
        if template is not None:
            for key in given:
                if key not in template.params:
                    raise fields[key].error(unknown(key, (*template.params, *sorted(OWN))))
            for name in template.params:
                # A variable with the parameter's name is its value, unless it is given.
                if name not in given and name in scope.names and name not in self._params:
                    given[name] = scope.names[name]
        given = {key: self._single(fields.get(key, value), template, key, one) for key, one in given.items()}
        try:
            variant = self._variant(capability)
            made = expand(capability, action, given, variant=variant, cpus=own.get("cpus", 0))
        except ActionError as error:
            place = fields.get(error.key, value) if error.key else fields["action"]
            raise place.error(str(error)) from error
        return Planned(
            action=action, commands=made.commands, own=own,
            values=self._told(made.values, capability, action),
            file_dep=tuple(dict.fromkeys([*made.inputs, *item.files, *scope.used])),
            targets=made.outputs, made=made, **common,
        )  # fmt: skip

    def _told(self, values: Mapping[str, Any], capability: Capability, action: str) -> dict[str, Any]:
        """Return what others may refer to: what was given, and defaults of outputs."""
        template = capability.actions[action]
        defaults = {
            name: template.params[name].default
            for name in template.outputs
            if not template.params[name].required
        }
        return {**defaults, **values}

    def _single(self, place: Located, template: Any, key: str, value: Any) -> Any:
        """Return the only item of a list where one value belongs."""
        parameter = template.params.get(key) if template is not None else None
        if parameter is not None and parameter.kind == "texts":
            if isinstance(value, str) and TWO_OPTIONS.match(value):
                words = ", ".join(value.split())
                raise place.error(f"{value!r} is one word of the command line; several are a list: [{words}]")
            return value
        if parameter is None or parameter.many or not isinstance(value, list):
            return value
        if len(value) != 1:
            raise place.error(f"expected one value for `{key}`, got {len(value)}")
        return value[0]

    def _command(
        self, value: Located, fields: Mapping[str, Located], scope: Scope, own: dict[str, Any],
        given: dict[str, Any], item: _Item, common: dict[str, Any],
    ) -> Planned:  # fmt: skip
        for key in given:
            raise fields[key].error(unknown(key, tuple(sorted(OWN))))
        outputs = own.pop("outputs", [])
        # What it makes may be written once, under outputs, and be called by that name in the command.
        run = filled(fields["run"], msgspec.structs.replace(scope, names={"outputs": outputs, **scope.names}))
        command: str | tuple[str, ...]
        command = tuple(plain(word) for word in run) if isinstance(run, list) else plain(run)
        if not command:
            raise fields["run"].error("the command is empty")
        targets = [path for path in outputs if not path.endswith("/") and not any(s in path for s in "*?[")]
        rest = [path for path in outputs if path not in targets]
        if rest:
            own["outputs"] = rest
        files = tuple(dict.fromkeys([*item.files, *scope.used]))
        return Planned(
            action="", commands=(command,), own=own, values={"outputs": targets}, file_dep=files,
            targets=tuple(self._inside(fields["outputs"], path) for path in targets), **common,
        )  # fmt: skip

    # --- values ---

    def _own(
        self, value: Located, fields: Mapping[str, Located], scope: Scope, requirement: str, platform: str
    ) -> dict[str, Any]:
        """Return the arguments of `needs`, checked one by one so that the wrong one can be named."""
        own: dict[str, Any] = {}
        for key in NEEDS:
            if key not in fields:
                continue
            given = filled(fields[key], scope)
            if key in ("inputs", "outputs", "pass_env", "host_files") and not isinstance(given, list):
                given = [given]
            if isinstance(given, dict):
                given = {name: _only(one) for name, one in given.items()}
            try:
                needs(requirement, **{key: given})
            except UsageError as error:
                _, _, text = str(error).partition("): ")
                raise fields[key].error(text or str(error)) from error
            own[key] = given
        if platform:
            own["tags"] = {**own.get("tags", {}), "platform": platform}
        return own

    def _texts(self, value: Located, scope: Scope) -> list[str]:
        found = filled(value, scope)
        return [plain(item) for item in found] if isinstance(found, list) else [plain(found)]

    def _text(self, value: Located, scope: Scope) -> str:
        found = filled(value, scope)
        if isinstance(found, list):
            raise value.error(f"expected one text, got a list of {len(found)}")
        return plain(found)

    def _inside(self, place: Located, path: str) -> str:
        try:
            return inside(f"`{place.field.rpartition('.')[2]}`", path)
        except ActionError as error:
            raise place.error(str(error)) from error
