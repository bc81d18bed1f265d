"""A description's parameters: their defaults, in any order, and what the command line says instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from computefarm.located import Located
from computefarm.spelling import QUOTED, did_you_mean

from .templates import Scope, filled, references
from .words import Problem, ProblemError


def params_of(problem: Problem, overrides: Mapping[str, str]) -> dict[str, Any]:
    """Return every parameter's value; `overrides` are texts of the command line.

    A default may use other parameters, wherever they stand. Raises `ProblemError`.
    """
    for name in overrides:
        if name not in problem.params:
            guess = did_you_mean(name, problem.params, QUOTED)
            known = ", ".join(problem.params) or "none"
            raise ProblemError(f"-p {name}: {problem.source} has no such parameter; it has: {known}{guess}")
    values: dict[str, Any] = {}
    for name in problem.params:
        _settle(name, problem.params, overrides, values, ())
    return {name: values[name] for name in problem.params}


def _settle(
    name: str, params: Mapping[str, Located], overrides: Mapping[str, str], values: dict[str, Any],
    path: tuple[str, ...],
) -> None:  # fmt: skip
    """Put the value of one parameter into `values`, those that it uses before."""
    if name in values:
        return
    default = params[name]
    if name in overrides:
        values[name] = _override(name, default, overrides[name])
        return
    for place, other, _ in references(default):
        if other in (*path, name):
            names = [*path, name]
            circle = " uses ".join([*names[names.index(other) :], other])
            raise place.error(f"parameters use one another in a circle: {circle}")
        if other in params:
            _settle(other, params, overrides, values, (*path, name))
    values[name] = filled(default, Scope(values))


def _override(name: str, default: Located, text: str) -> Any:
    """Return what the command line gave, in the shape of the default."""
    match default.value:
        case bool():
            if text.lower() not in ("true", "false"):
                raise ProblemError(f"-p {name}={text}: expected true or false")
            return text.lower() == "true"
        case int() | float():
            try:
                return int(text) if isinstance(default.value, int) else float(text)
            except ValueError as error:
                raise ProblemError(f"-p {name}={text}: expected a number, as its default is") from error
        case list():
            return [item for item in text.split(",") if item]
        case _:
            return text
