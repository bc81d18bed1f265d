"""All that an attempt printed, where its worker keeps it: `<run>/<task>~<attempt>.txt` and its ends.

The file has the beginning; the rest goes to `….end-1`, `….end-2` and so on, of which the last two are kept.
"""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import NamedTuple

from computefarm.errors import FarmError

from .tasklog import safe_name

PAGE = 256 * 1024
"""Bytes of a page: one takes no longer on the way than a control message may wait."""


class Page(NamedTuple):
    """Some of it, and where to go on."""

    data: bytes
    cursor: str
    """Empty at the end."""
    left_out: int
    """Bytes before `data` that were not kept."""


def kept_path(folder: Path, run: str, task: str, attempt: int) -> Path:
    """Return the first file of an attempt's output; `folder` holds all outputs of a worker's home."""
    name = f"{safe_name(task).removesuffix('.log')}~{attempt}.txt"
    return folder / safe_name(run or "-").removesuffix(".log") / name


def end_path(path: Path, number: int) -> Path:
    """Return one of the files that follow."""
    return path.with_name(f"{path.name}.end-{number}")


def read_page(path: Path, cursor: str = "", most: int = PAGE) -> Page:
    """Return the next page of an output; raise `FarmError` when it is not there (any more)."""
    number, inode, offset = _place(cursor)
    try:
        parts = _parts(path)
        if not parts:
            raise FarmError(f"there is no such file: {path}")
        numbers = list(parts)
        if number not in parts or (inode and parts[number].stat().st_ino != inode):
            raise FarmError(f"{path} was changed while it was read: begin again")
        with parts[number].open("rb") as file:
            file.seek(offset)
            data = file.read(most)
            inode, size = _identity(file.fileno())
        offset += len(data)
        following = numbers[numbers.index(number) + 1 :]
        gone = _left_out(parts, number) if offset == len(data) else 0
        if offset < size or (len(data) == most and not following):
            return Page(data, f"{number}.{inode}.{offset}", gone)
        return Page(data, f"{following[0]}.0.0" if following else "", gone)
    except OSError as error:
        raise FarmError(f"{path}: {error.strerror}") from error


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_ino, found.st_size


def _place(cursor: str) -> tuple[int, int, int]:
    if not cursor:
        return 0, 0, 0
    try:
        number, inode, offset = (int(word) for word in cursor.split("."))
    except ValueError as error:
        raise FarmError(f"{cursor!r} is no place in an output") from error
    return number, inode, offset


def _parts(path: Path) -> dict[int, Path]:
    """Return the files by their number, in order."""
    if not path.exists():
        return {}
    ends = {}
    for end in path.parent.glob(f"{_escaped(path.name)}.end-*"):
        word = end.name.rpartition("-")[2]
        if word.isdigit():
            ends[int(word)] = end
    return {0: path, **dict(sorted(ends.items()))}


def _left_out(parts: dict[int, Path], number: int) -> int:
    """Return how much is missing before the part `number`: all ends that were removed had one size."""
    ends = [each for each in parts if each]
    if not ends or number != ends[0]:
        return 0
    return (number - 1) * parts[number].stat().st_size


def _escaped(name: str) -> str:
    return glob.escape(name)
