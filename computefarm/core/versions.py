"""Version constraints such as `>=9` or `>=9,<13`: comma means and, the empty constraint means any."""

from __future__ import annotations

import re
from functools import lru_cache

_TERM = re.compile(r"(>=|<=|==|!=|>|<|=)?\s*([0-9][0-9A-Za-z.+_-]*)")
_PART = re.compile(r"\d+|[A-Za-z]+")

Constraint = tuple[tuple[str, str], ...]
"""Pairs of operator and version; all must hold."""

_Key = tuple[tuple[int, int, str], ...]

_ZERO: _Key = ((1, 0, ""),)


def parse_constraint(text: str) -> Constraint:
    """Return the terms of `text`; raise `ValueError` with a text for people when it is not a constraint."""
    terms = []
    for part in text.split(","):
        if not part.strip() and not text.strip():
            continue
        match = _TERM.fullmatch(part.strip())
        if match is None:
            raise ValueError(
                f"{text!r} is not a version constraint: expected terms such as >=9, ==12.2.0 or <14"
            )
        terms.append((match[1] or "==", match[2]))
    return tuple(terms)


@lru_cache(maxsize=4096)
def satisfies(version: str, constraint: str) -> bool:
    """Return whether `version` meets every term; a version that names no number meets only the empty one.

    `==9` is met by 9, 9.0 and 9.4.1 (everything that begins so); the other operators compare number by
    number, with missing numbers taken as zero. A malformed constraint raises `ValueError`.
    """
    terms = parse_constraint(constraint)
    if not terms:
        return True
    have = _key(version)
    return bool(have) and all(_holds(have, operator, _key(wanted)) for operator, wanted in terms)


def _key(version: str) -> _Key:
    """Split into comparable parts; letters sort before numbers, so that 9rc1 comes before 9.0 and 9.1."""
    return tuple(
        (1, int(part), "") if part.isdigit() else (-1, 0, part.lower()) for part in _PART.findall(version)
    )


def _holds(have: _Key, operator: str, wanted: _Key) -> bool:
    width = max(len(have), len(wanted))
    left = have + _ZERO * (width - len(have))
    right = wanted + _ZERO * (width - len(wanted))
    match operator:
        case "==" | "=":
            return left == right or have[: len(wanted)] == wanted
        case "!=":
            return not _holds(have, "==", wanted)
        case ">=":
            return left >= right
        case "<=":
            return left <= right
        case ">":
            return left > right
        case _:
            return left < right
