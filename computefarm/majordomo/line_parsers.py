"""Which line parser understands a task's output: what its action or else its capability says in the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from computefarm.errors import FarmError

if TYPE_CHECKING:
    from computefarm.catalogue import Catalogue
    from computefarm.home import Home

LOCAL = "script"
"""For tasks that run here, with whatever tool."""


class LineParsers:
    """Answers for one run; reads the capability files only when some task has printed something."""

    def __init__(
        self,
        capability_of: Callable[[str], str],
        home: Home,
        project: Path,
        planned: Mapping[str, str] | None = None,
    ) -> None:
        """`capability_of` names a task's capability, empty for a local one; `planned` has what is known."""
        self._planned = planned if planned is not None else {}
        self._capability_of = capability_of
        self._home = home
        self._project = project
        self._catalogue: Catalogue | None = None
        self._known: dict[str, str] = {"": LOCAL}

    def __call__(self, task: str) -> str:
        """Return the parser's name for a task, empty when it has none."""
        if task in self._planned:
            return self._planned[task]
        capability = self._capability_of(task)
        name = self._known.get(capability)
        if name is None:
            name = self._known[capability] = self._ask(capability)
        return name

    def _ask(self, capability: str) -> str:
        try:
            if self._catalogue is None:
                from computefarm.catalogue import Catalogue

                self._catalogue = Catalogue.load(self._home, self._project)
            return self._catalogue.get(capability).logs
        except FarmError:
            return ""  # only the farm describes it; its lines are plain here
