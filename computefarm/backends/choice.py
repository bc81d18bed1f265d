"""Which backend a command uses: the configured farm, or the embedded one when there is none."""

from __future__ import annotations

from pathlib import Path

from computefarm.home import Home
from computefarm.settings import Settings
from computefarm.transport.farms import find_access

from .base import Backend
from .farm import FarmBackend
from .local import LocalBackend


def choose(
    *, home: Home, settings: Settings, session: str, project: Path, slots: int | None = None
) -> Backend:
    """Return the backend for a run, not started yet.

    A farm that is configured but cannot be reached is an error at `start`, never a silent local run.
    """
    access = find_access(home, settings.farm)
    if access is None:
        return LocalBackend(home=home, settings=settings, session=session, project=project, slots=slots)
    return FarmBackend(access=access, home=home, settings=settings, session=session)


def connect(*, home: Home, settings: Settings, session: str) -> FarmBackend | None:
    """Return a started connection to the configured farm for questions, or None when there is no farm."""
    access = find_access(home, settings.farm)
    if access is None:
        return None
    backend = FarmBackend(
        access=access, home=home, settings=settings, session=session, role=access.speaks_as()
    )
    backend.start(lambda _event: None)
    return backend
