"""What a misspelt name may have meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

QUOTED: Final = "'{}'"
"""The form of a name where the text around it has Python's quotes."""


def did_you_mean(name: str, known: Iterable[str], form: str = "`{}`", most: int = 1) -> str:
    """Return `; did you mean …?` with the nearest of the known names, or the empty string.

    `form` is how a name is written, with `{}` in its place; at most `most` are named.
    """
    near = get_close_matches(name, list(known), n=most)
    return f"; did you mean {' or '.join(form.format(one) for one in near)}?" if near else ""
