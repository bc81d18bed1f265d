"""A log of JSON lines in files of bounded size: one writer, any number of readers, no lock.

Lines are numbered by where they are: a *cursor* is the number of a file and a place in it. The newest file
has the plain name, older ones `NAME.<number>.jsonl`; when all together are too large, the oldest are removed.
A reader that comes too late for some of them is told how many bytes it has missed.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

FILES = 8
"""In so many parts a log is removed when it is too large."""


class Cursor(msgspec.Struct, frozen=True, order=True):
    """A place in a log."""

    file: int
    offset: int

    def __str__(self) -> str:
        return f"{self.file}:{self.offset}"


START = Cursor(0, 0)


def parse_cursor(text: str) -> Cursor:
    """Return the place that `text` names; raise `ValueError` when it names none."""
    match = re.fullmatch(r"(\d{1,15}):(\d{1,15})", text)
    if match is None:
        raise ValueError(f"{text!r} is not a place in a log")
    return Cursor(int(match[1]), int(match[2]))


def _numbered(path: Path) -> list[tuple[int, Path]]:
    """Return the older files with their numbers, the oldest first."""
    pattern = re.compile(re.escape(path.stem) + r"\.(\d+)" + re.escape(path.suffix))
    found = []
    with contextlib.suppress(OSError):
        for name in os.listdir(path.parent):
            match = pattern.fullmatch(name)
            if match is not None:
                found.append((int(match[1]), path.with_name(name)))
    return sorted(found)


class LineLog:
    """The writer. Raises nothing for the disk's sake: what could not be written is counted."""

    def __init__(self, path: Path, limit: int) -> None:
        """`limit` is the most bytes that all files together may have."""
        self.path = path
        self.lost = 0
        """Bytes of lines that could not be written."""
        self.fault = ""
        """What is wrong with the disk now; empty when nothing is."""
        self._part = max(4096, limit // FILES)
        self._fd = -1
        self._size = 0
        older = _numbered(path)
        self._number = older[-1][0] + 1 if older else 0
        with contextlib.suppress(OSError):
            self._size = path.stat().st_size

    def end(self) -> Cursor:
        """Return where the next line will be."""
        return Cursor(self._number, self._size)

    def append(self, lines: Sequence[bytes]) -> None:
        """Write lines, each without its newline."""
        data = b"\n".join(lines) + b"\n" if lines else b""
        try:
            if self._fd < 0:
                self._open()
            if self._size >= self._part:
                self._rotate()
            self._write(data)
            self.fault = ""
        except OSError as error:
            self.lost += len(data)
            self.fault = f"{self.path} cannot be written: {error.strerror}"

    def close(self) -> None:
        """Close the file; harmless when repeated."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
            self._size += len(data)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)  # half a line is no line
            raise

    def _open(self) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._size = os.fstat(self._fd).st_size
        if self._size and os.pread(self._fd, 1, self._size - 1) != b"\n":
            self._write(b"\n")  # a writer was killed in the middle of a line

    def _rotate(self) -> None:
        os.replace(self.path, self.path.with_name(f"{self.path.stem}.{self._number}{self.path.suffix}"))
        self.close()
        self._number += 1
        older = _numbered(self.path)
        for _, path in older[: max(0, len(older) - (FILES - 1))]:
            path.unlink(missing_ok=True)
        self._open()


class Page(msgspec.Struct, frozen=True):
    """Some lines, and where to go on."""

    lines: tuple[bytes, ...]
    cursor: Cursor
    at_end: bool
    lost: int = 0
    """Bytes that were removed before they could be read."""


class Filter(msgspec.Struct, frozen=True):
    """Which lines are wanted, judged without decoding them.

    Text inside of a JSON string has its quotes escaped, so these patterns match fields and nothing else.
    """

    groups: tuple[tuple[bytes, ...], ...] = ()
    """A line must hold one pattern of each group; the last group is the one that fewest lines satisfy."""

    def lines(self, data: bytes, end: int, most: int) -> tuple[list[bytes], int]:
        """Return the lines wanted among `data[:end]`, about `most` bytes of them, and how far that went."""
        found: list[bytes] = []
        place = size = 0
        others = self.groups[:-1]
        for match in _pattern(self.groups[-1] if self.groups else (b"",)).finditer(data, 0, end):
            if match.start() < place:
                continue  # a second one in the same line
            begin = max(data.rfind(b"\n", place, match.start()) + 1, place)
            after = data.find(b"\n", match.end(), end)
            after = end if after < 0 else after
            line = data[begin:after]
            place = after + 1
            if line and all(any(pattern in line for pattern in group) for group in others):
                found.append(line)
                size += len(line) + 1
                if size >= most:
                    return found, min(place, end)
        return found, end


@functools.lru_cache(maxsize=64)
def _pattern(group: tuple[bytes, ...]) -> re.Pattern[bytes]:
    return re.compile(b"|".join(re.escape(pattern) for pattern in group) if any(group) else b"[^\n]+")


def read_page(
    path: Path, cursor: Cursor, wanted: Filter, *, most: int = 256 * 1024, scan: int = 1024 * 1024
) -> Page:
    """Return the lines after `cursor`: about `most` bytes at most, looking at `scan` bytes at most."""
    # Again when the writer has begun another file between two looks.
    for _ in range(3):
        older = dict(_numbered(path))
        newest = max(older, default=-1) + 1
        number, lost = cursor.file, 0
        if number not in older and number < newest:
            present = [n for n in older if n > number]
            number = min(present, default=newest)
            lost, cursor = (1 if cursor.file or cursor.offset else 0), Cursor(number, 0)
        try:
            with (older.get(number) or path).open("rb") as file:
                if number == newest and max(dict(_numbered(path)), default=-1) + 1 != newest:
                    continue  # what we have opened may be the next file already
                file.seek(cursor.offset)
                data = file.read(scan)
        except (FileNotFoundError, NotADirectoryError):
            if number == newest:
                return Page((), Cursor(newest, 0), True, lost)
            continue
        return _page(data, Cursor(number, cursor.offset), wanted, most, number < newest, lost, scan)
    return Page((), cursor, False)


def _page(data: bytes, cursor: Cursor, wanted: Filter, most: int, closed: bool, lost: int, scan: int) -> Page:
    last = len(data) == 0 or len(data) < scan
    cut = data.rfind(b"\n") + 1
    if cut == 0 and data and (closed or not last):
        cut = len(data)  # no line ends here: not one of ours
    found, place = wanted.lines(data, cut, most)
    done = place >= cut and last
    if done and closed:
        return Page(tuple(found), Cursor(cursor.file + 1, 0), False, lost)
    return Page(tuple(found), Cursor(cursor.file, cursor.offset + place), done, lost)
