"""What tasks read must be there, or be made by another: said with its place before anything runs."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Sequence

from computefarm.located import Located
from computefarm.spelling import did_you_mean

from .ordering import before
from .words import Planned, Problem

WILD = "*?["


def check_files(
    problem: Problem,
    planned: Sequence[Planned],
    exists: Callable[[str], bool],
    glob: Callable[[str], list[str]],
) -> None:
    """Raise `ProblemError` for the first file or pattern of inputs that nothing stands behind."""
    made = {path: task.basename for task in planned for path in task.targets}
    # Folders and patterns come back as a whole; which files are in them is known afterwards only.
    loose = {path for task in planned for path in task.own.get("outputs", ())}
    seen: set[str] = set()
    for task in planned:
        for path in task.file_dep:
            if path in seen or path in made:
                continue
            seen.add(path)
            if not exists(path) and not _comes(path, loose):
                message = f"there is no file {path}, and no task makes it{_near(path, glob)}"
                raise _place(problem, task, path).error(message)
        for pattern in task.own.get("inputs", ()):
            if pattern in seen:
                continue
            seen.add(pattern)
            if _comes(pattern, loose) or exists(pattern) or glob(pattern):
                continue
            place = problem.tasks[task.basename].mapping()["inputs"]
            later = fnmatch.filter(made, pattern)
            if not later:
                raise place.error(f"no file matches {pattern}, and no task makes one{_near(pattern, glob)}")
            makers = {made[path] for path in later}
            if pattern not in task.file_dep and not before(problem, task.basename) & makers:
                first = made[later[0]]
                raise place.error(
                    f"`{first}` makes {later[0]}, which matches {pattern}, but nothing says that it comes "
                    f"first: write '{{{first}.outputs}}', or after: {first}"
                )


def _comes(path: str, loose: Iterable[str]) -> bool:
    """Return whether a file may be among what comes back in a folder or by a pattern."""
    for output in loose:
        folder = output.rstrip("/") + "/"
        if path == output or path.startswith(folder) or fnmatch.fnmatchcase(path, output):
            return True
        # A pattern that begins in the folder: build/* where build/lib/ comes back.
        stem = path.partition("*")[0].rpartition("/")[0] + "/"
        if any(sign in path for sign in WILD) and folder.startswith(stem):
            return True
    return False


def _place(problem: Problem, task: Planned, path: str) -> Located:
    """Return where a description says that a task reads a file: a parameter, a variable, else the task."""
    value = problem.tasks[task.basename]
    fields = value.mapping()
    for key, given in task.values.items():
        if key in fields and path in (given if isinstance(given, list) else [given]):
            return fields[key]
    variables = fields["foreach"].mapping() if "foreach" in fields else {}
    for choice in variables.values():
        items = choice.items() if isinstance(choice.value, list) else [choice]
        for item in items:
            if item.value == path:
                return item
    return next(iter(variables.values()), value)


def _near(path: str, glob: Callable[[str], list[str]]) -> str:
    """Return a guess among the files of the same folder."""
    folder, slash, _ = path.rpartition("/")
    return did_you_mean(path, glob(f"{folder}{slash}*"), form="{}")
