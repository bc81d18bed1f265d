"""Problem descriptions: what to build, in terms of capabilities and their actions, with nothing evaluated."""

from __future__ import annotations

from .files import check_files
from .ordering import groups
from .planning import plan
from .reading import read
from .schema import PROBLEM
from .words import Package, Planned, Problem, ProblemError

__all__ = [
    "PROBLEM", "Package", "Planned", "Problem", "ProblemError", "check_files", "groups", "plan", "read",
]  # fmt: skip
