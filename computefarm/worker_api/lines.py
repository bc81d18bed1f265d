"""Files of requests: one JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import BinaryIO, Final, NoReturn

import msgspec

LIMIT: Final = 1 << 20
"""Bytes of one line; what is longer is no request."""


class Line(msgspec.Struct, frozen=True):
    """One line that is not empty."""

    number: int
    """Counted from 1."""
    raw: Mapping[str, object] = {}
    trouble: str = ""
    """Why it is no request; empty when it is one."""

    @property
    def id(self) -> object:
        """What the asker calls it: any text or number, or the empty string."""
        return self.raw.get("id", "")


def read_lines(file: BinaryIO) -> Iterator[Line]:
    """Yield the lines of an open file as they come; raises `OSError`."""
    number = 0
    while line := file.readline(LIMIT + 1):
        number += 1
        if len(line) > LIMIT:
            while line and not line.endswith(b"\n"):
                line = file.readline(LIMIT)
            yield Line(number, trouble=f"it has more than {LIMIT >> 20} MiB")
        elif line.strip():
            yield _line(number, line)


def _line(number: int, line: bytes) -> Line:
    try:
        raw = json.loads(line, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        return Line(number, trouble=f"it is not JSON: {error}")
    return Line(number, raw) if isinstance(raw, dict) else Line(number, trouble="it is not a JSON object")


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")
