"""Problem descriptions: what to build, in terms of capabilities and their actions, with nothing evaluated."""

from __future__ import annotations

from .ordering import groups
from .planning import plan
from .reading import read
from .schema import PROBLEM
from .words import Package, Planned, Problem, ProblemError

__all__ = ["PROBLEM", "Package", "Planned", "Problem", "ProblemError", "groups", "plan", "read"]
