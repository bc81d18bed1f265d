"""What a run was asked for."""

from __future__ import annotations

from pathlib import Path

import msgspec


class RunOptions(msgspec.Struct, frozen=True):
    """What a run was asked for, beyond doit's own options."""

    run_id: str
    root: str
    """The folder of the dodo file; the project."""
    wait_workers: float | None = None
    """Seconds, when given explicitly."""
    vanished_s: float = 60.0
    """How long to wait for a capability that was there."""
    echo: bool = True
    """Print farm tasks' output here, live; false when a progress display does."""
    in_place: bool = False
    """Run local tasks on the main thread even among farm tasks (`--pdb`)."""
    state: Path | None = None
    """The state folder, where others may ask something of this run; None where nobody can."""
