"""Sizes and durations as people write them: `20GiB`, `1h30m`. Raises `ValueError` and nothing else."""

from __future__ import annotations

import math
import re

_UNITS = {
    "": 1, "b": 1,
    "k": 1024, "kib": 1024, "kb": 1000,
    "m": 1024**2, "mib": 1024**2, "mb": 1000**2,
    "g": 1024**3, "gib": 1024**3, "gb": 1000**3,
    "t": 1024**4, "tib": 1024**4, "tb": 1000**4,
}  # fmt: skip
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.ASCII)

_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PLAIN = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_PARTS = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|d|h|m|s)\s*", re.ASCII)


def parse_size(text: str | int) -> int:
    """Return bytes: `512MiB`, `20 GB`, `1.5g` (single letters are powers of 1024), or a plain number."""
    if isinstance(text, bool):
        raise ValueError("a size is a number of bytes, not true or false")
    if isinstance(text, int):
        if text < 0:
            raise ValueError(f"a size cannot be negative: {text}")
        return text
    match = _SIZE.fullmatch(text.strip().lower())
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"not a size: {text!r} (write 512MiB, 20GiB, 1.5GB or a number of bytes)")
    return int(float(match[1]) * _UNITS[match[2]]) if "." in match[1] else int(match[1]) * _UNITS[match[2]]


def parse_duration(text: str | float) -> float:
    """Return seconds: `10m`, `1h30m`, `500ms`, `2d`, or a plain number of seconds."""
    if isinstance(text, bool):
        raise ValueError("a duration is a number of seconds, not true or false")
    if isinstance(text, int | float):
        if not math.isfinite(text) or text < 0:
            raise ValueError(f"a duration is a finite number of seconds from 0 up, not {text}")
        return float(text)
    word = text.strip().lower()
    if _PLAIN.fullmatch(word):
        return float(word)
    total, at, smallest = 0.0, 0, math.inf
    while at < len(word):
        match = _PARTS.match(word, at)
        # Units get smaller from left to right, each once: 30m1h or 5m5m is more likely a slip than a wish.
        if match is None or _SECONDS[match[2]] >= smallest:
            break
        total += float(match[1]) * _SECONDS[match[2]]
        smallest = _SECONDS[match[2]]
        at = match.end()
    if not word or at < len(word):
        raise ValueError(f"not a duration: {text!r} (write 90, 10m, 1h30m, 500ms or 2d)")
    return total


def format_size(size: int) -> str:
    """Return `size` bytes for people: `512 MiB`, `1.5 GiB`."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if value >= 10 or value == int(value) else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def format_duration(seconds: float) -> str:
    """Return `seconds` for people: `0.4s`, `12s`, `3m20s`, `2h05m`, `3d04h`."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"
