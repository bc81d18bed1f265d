"""Values of a capability file that are more than a word; an error names its place and what was expected."""

from __future__ import annotations

import re

from computefarm.located import Located
from computefarm.quantities import parse_duration, parse_size


def pattern_of(value: Located) -> str:
    """Return a regular expression that compiles."""
    text = value.text()
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise value.error(f"{text!r} is not a regular expression: {error}") from error
    return text


def env_of(value: Located) -> tuple[tuple[str, str], ...]:
    """Return environment variables, sorted by name."""
    pairs = []
    for name, text in sorted(value.mapping().items()):
        if not name or "=" in name or "\0" in name:
            raise text.error("a variable's name has no = and is not empty")
        if not isinstance(text.value, str) or "\0" in text.value:
            raise text.wrong("text (put it in quotes)")
        pairs.append((name, text.value))
    return tuple(pairs)


def size_of(value: Located) -> int:
    """Return bytes."""
    try:
        return parse_size(value.value)
    except (ValueError, AttributeError, TypeError) as error:
        raise value.wrong("a size such as 256MiB") from error


def duration_of(value: Located) -> float:
    """Return seconds, more than 0."""
    try:
        seconds = parse_duration(value.value)
    except (ValueError, AttributeError, TypeError) as error:
        raise value.wrong("a duration such as 10m") from error
    if seconds <= 0:
        raise value.wrong("a duration such as 10m, more than 0")
    return seconds
