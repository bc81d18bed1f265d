"""Bugs planted on purpose: a simulator that does not find them would not find others either."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

Plant = Callable[[pytest.MonkeyPatch], None]
"""Puts a bug into the core, or the simulated shell, until the patch is undone."""

MUTANTS: dict[str, Plant] = {}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Have a bug for a while; an empty name is none."""
    with pytest.MonkeyPatch.context() as patch:
        if name:
            MUTANTS[name](patch)
        yield
