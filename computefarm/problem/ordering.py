"""Which entry comes after which, and what the names of groups stand for; nothing may go round in a circle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from computefarm.located import Located
from computefarm.spelling import did_you_mean

from .templates import references
from .words import Problem


def groups(problem: Problem) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Return the groups, and what is done by default; every name in them is known."""
    known = {*problem.tasks, *problem.groups}
    found = {name: _names(value, known) for name, value in problem.groups.items()}
    default = _names(problem.default, known) if problem.default is not None else ()
    return found, default


def _items(value: Located) -> list[Located]:
    return value.items() if isinstance(value.value, list) else [value]


def _names(value: Located, known: Iterable[str]) -> tuple[str, ...]:
    items = _items(value)
    for item in items:
        if item.text() not in known:
            guess = did_you_mean(item.text(), known)
            raise item.error(f"no task or group is called `{item.text()}`{guess}")
    return tuple(item.text() for item in items)


def in_order(problem: Problem) -> list[str]:
    """Return the tasks' names, each after those it needs.

    Raises `ProblemError` for a circle, whether of outputs, of `after` or of groups, and for unknown names.
    """
    uses = _uses(problem)
    order: dict[str, None] = {}
    for name in uses:
        _visit(name, uses, order)
    return [name for name in order if name in problem.tasks]


def before(problem: Problem, name: str) -> set[str]:
    """Return all that a task or group needs, near and far."""
    uses, found, todo = _uses(problem), set[str](), [name]
    while todo:
        for other in uses[todo.pop()]:
            if other not in found:
                found.add(other)
                todo.append(other)
    return found


def _uses(problem: Problem) -> dict[str, dict[str, Located]]:
    """Return what each task and group needs, and where it says so."""
    known = {*problem.tasks, *problem.groups}
    uses = {name: _used(task, problem, known) for name, task in problem.tasks.items()}
    for name, value in problem.groups.items():
        _names(value, known)
        uses[name] = {item.text(): item for item in _items(value)}
    return uses


def _used(task: Located, problem: Problem, known: Iterable[str]) -> dict[str, Located]:
    """Return what a task needs, and where it says so."""
    fields = task.mapping()
    variables = fields["foreach"].mapping() if "foreach" in fields else {}
    found = {
        other: place
        for place, other, _ in references(task)
        if other in problem.tasks and other not in variables
    }
    if "after" in fields:
        _names(fields["after"], known)
        found.update({item.text(): item for item in _items(fields["after"])})
    return found


def _visit(start: str, uses: Mapping[str, Mapping[str, Located]], order: dict[str, None]) -> None:
    """Put a name after all that it needs."""
    path = {start: iter(uses[start].items())}
    while path:
        name = next(reversed(path))
        for other, place in path[name]:
            if other in path:
                names = list(path)
                circle = [*names[names.index(other) :], other]
                raise place.error(f"tasks need one another in a circle: {' needs '.join(circle)}")
            if other not in order:
                path[other] = iter(uses[other].items())
                break
        else:
            order[name] = None
            del path[name]
