"""Open a plot file with the reader that is installed (an entry point of the group `computefarm.plots`)."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any, Final, Protocol

from .kernel import KernelError

GROUP: Final = "computefarm.plots"


class PlotFile(Protocol):
    """An open plot; use it in a `with` statement. Challenges have 32 bytes; errors are `BadRequest`."""

    @property
    def dropped(self) -> int:
        """Bits that are missing of each x; 0: nothing has to be recomputed."""

    def __enter__(self) -> PlotFile: ...

    def __exit__(self, *error: Any) -> None: ...

    def proofs(self, challenge: bytes) -> list[bytes]:
        """Return the proofs of an uncompressed plot."""

    def qualities(self, challenge: bytes) -> list[bytes]:
        """Return the qualities of an uncompressed plot, in the same order."""

    def requests(self, challenge: bytes) -> list[list[dict[str, Any]]]:
        """Return, for each proof of a compressed plot, requests of which the first that is `ok` gives it."""

    def quality_requests(self, challenge: bytes) -> list[dict[str, Any]]:
        """Return, for each proof of a plot of level C1 to C8, the request of its quality."""


def open_plot(path: Path) -> PlotFile:
    """Return an open plot; raises `BadRequest` for a file that cannot be read, with the reason."""
    for point in metadata.entry_points(group=GROUP):
        reader: PlotFile = point.load()(path)
        return reader
    raise KernelError("no reader of plots is installed", hint="pip install -e .")
