"""Which display a run gets, and whether a stream takes a live one at all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TextIO

from .live import LiveProgress
from .progress import Facts, PlainProgress
from .reporting import RunWatcher


def wants_display(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Say whether to draw on a stream: a capable terminal, and neither `CI` nor `NO_COLOR` asks for lines."""
    asked = any(environ.get(name) for name in ("CI", "NO_COLOR"))
    return not asked and environ.get("TERM", "dumb") != "dumb" and stream.isatty()


def choose_progress(
    stream: TextIO,
    environ: Mapping[str, str],
    *,
    mode: str = "auto",
    verbosity: Callable[[str], int] = lambda name: 1,
    log_path: Callable[[str], Path | None] = lambda name: None,
    logs: Callable[[], str] = lambda: "",
    title: Callable[[str], str] = lambda name: name,
    parser: Callable[[str], str] = lambda name: "",
) -> RunWatcher:
    """Return the display for a mode: `rich`, `plain`, `none` (failures and summary only) or `auto`.

    `auto` is live on a capable terminal, and plain lines elsewhere and where `CI` or `NO_COLOR` ask for it.
    """
    facts = Facts(title, verbosity, log_path, logs, parser)
    if mode == "none":
        return LiveProgress(stream, facts=facts, calm_s=threading.TIMEOUT_MAX)
    if mode == "auto":
        mode = "rich" if wants_display(stream, environ) else "plain"
    return LiveProgress(stream, facts=facts) if mode == "rich" else PlainProgress(stream, facts=facts)
