"""Open a plot file with the reader that is installed (an entry point of the group `computefarm.plots`)."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any, Final, Protocol

from .kernel import KernelError

GROUP: Final = "computefarm.plots"


class PlotFile(Protocol):
    """An open plot; use it in a `with` statement. Challenges have 32 bytes; errors are `BadRequest`.

    Every *entry* that a challenge leads to is one proof.
    """

    @property
    def plot_id(self) -> bytes:
        """What the plot's values depend on: 32 bytes."""

    @property
    def k(self) -> int:
        """Bits of an x."""

    @property
    def level(self) -> int:
        """How far the plot is compressed; 0: not at all, nothing has to be recomputed."""

    @property
    def dropped(self) -> int:
        """Bits that are missing of each x."""

    def __enter__(self) -> PlotFile: ...

    def __exit__(self, *error: Any) -> None: ...

    def entries(self, challenge: bytes) -> list[int]:
        """Return the entries of a challenge, in the order in which provers number them; mostly 0 to 3."""

    def proof(self, entry: int, challenge: bytes) -> bytes:
        """Return a proof of an uncompressed plot, checked."""

    def quality(self, entry: int, challenge: bytes) -> bytes:
        """Return a quality of an uncompressed plot."""

    def requests(self, entry: int, challenge: bytes) -> list[dict[str, Any]]:
        """Return requests for a proof of a compressed plot; the first that is `ok` gives it."""

    def quality_request(self, entry: int, challenge: bytes) -> dict[str, Any] | None:
        """Return the request for a quality of a compressed plot; None: only the whole proof tells it."""


def open_plot(path: Path) -> PlotFile:
    """Return an open plot; raises `BadRequest` for a file that cannot be read, with the reason."""
    for point in metadata.entry_points(group=GROUP):
        reader: PlotFile = point.load()(path)
        return reader
    raise KernelError("no reader of plots is installed", hint="pip install -e .")
