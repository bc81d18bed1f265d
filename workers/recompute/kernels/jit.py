"""Compile with numba, and keep what was compiled between starts."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numba

from .paging import give_back_code

HERE: Final = Path(__file__).parent
_made: Final[list[Any]] = []


def sources() -> str:
    """Return a name for the compiled form of these sources under this numba."""
    # numba looks at one file's time stamp only; what a function inlines from another file counts as well.
    content = hashlib.sha256(numba.__version__.encode())
    for path in sorted(HERE.glob("*.py")):
        text = path.read_bytes()
        if any(mark in text for mark in (b"@compiled", b"@kernel", b"@device_function")):
            content.update(text)
    return content.hexdigest()[:16]


def keep_in(folder: str) -> None:
    """Keep what is compiled under `folder`, and take from there what was; empty: nothing is kept."""
    give_back_code()
    if not folder:
        return
    wanted = os.path.join(folder, sources())
    if wanted != numba.config.CACHE_DIR:  # type: ignore[attr-defined]
        numba.config.CACHE_DIR = wanted  # type: ignore[attr-defined]
        numba.config.CF_KEEP = True  # type: ignore[attr-defined]
        for made in _made:
            made.enable_caching()


def compiled(function: Callable[..., Any]) -> Any:
    """Compile `function` when it is first called with some types."""
    made = numba.njit(nogil=True, error_model="numpy", boundscheck=False)(function)
    if getattr(numba.config, "CF_KEEP", False):
        made.enable_caching()
    _made.append(made)
    return made


def anything_new() -> bool:
    """Say whether this process had to compile something, because it was not in the cache."""
    return any(made.stats.cache_misses for made in _made)
