"""A problem description in parts, and the tasks that come out of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from computefarm.capability import Expanded
from computefarm.errors import UsageError
from computefarm.located import Located


class ProblemError(UsageError):
    """A problem description is wrong; the text begins with file, line and column."""


class Package(msgspec.Struct, frozen=True):
    """An archive to fetch, verify and unpack."""

    name: str
    url: str
    sha256: str
    unpack: str
    strip: int
    base: str
    """Folder of the description that names it; relative paths start there."""


class Problem(msgspec.Struct):
    """One description with all it includes, checked against the schema; its values know their places."""

    name: str
    source: str
    summary: str
    params: dict[str, Located]
    tasks: dict[str, Located]
    packages: dict[str, Located]
    groups: dict[str, Located]
    default: Located | None
    bases: dict[str, str]
    """For every source file, its folder relative to the project."""


class Planned(msgspec.Struct, frozen=True):
    """One task, with nothing left to fill in."""

    basename: str
    name: str
    """Within `basename`; empty when there is only one."""
    requirement: str
    """Capability and version constraint."""
    action: str
    """Empty for a command of its own."""
    commands: tuple[str | tuple[str, ...], ...]
    file_dep: tuple[str, ...]
    targets: tuple[str, ...]
    own: Mapping[str, Any]
    """Arguments of `needs`."""
    values: Mapping[str, Any]
    """Parameters given to the action, and for a command the outputs: what others refer to."""
    after: tuple[str, ...] = ()
    summary: str = ""
    place: str = ""
    """`problem.yaml:LINE:COLUMN` of the task, for messages about it."""
    made: Expanded | None = None
    """What the action came to; None for a command."""

    @property
    def full_name(self) -> str:
        """Return the task's name as doit has it."""
        return f"{self.basename}:{self.name}" if self.name else self.basename
