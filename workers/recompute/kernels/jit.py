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
    """Let functions that are defined from now on be cached under `folder`; empty: not at all."""
    give_back_code()
    if folder:
        numba.config.CACHE_DIR = os.path.join(folder, sources())  # type: ignore[attr-defined]
    numba.config.CF_KEEP = bool(folder)  # type: ignore[attr-defined]


def compiled(function: Callable[..., Any]) -> Any:
    """Compile `function` when it is first called with some types."""
    keep = getattr(numba.config, "CF_KEEP", False)
    made = numba.njit(cache=keep, nogil=True, error_model="numpy", boundscheck=False)(function)
    _made.append(made)
    return made


def anything_new() -> bool:
    """Say whether this process had to compile something, because it was not in the cache."""
    return any(made.stats.cache_misses for made in _made)
