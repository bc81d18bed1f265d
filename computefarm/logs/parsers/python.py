"""Tracebacks and warnings of Python, failures of pytest.

Forms: the `traceback` and `warnings` modules' documented output, and pytest's short test summary.
"""

from __future__ import annotations

import re

from .words import Parsed, place

_FRAME = re.compile(r'\s*File "(?P<file>[^"]+)", line (?P<line>\d+)(?:, in .*)?$')
_RAISED = re.compile(r"(?P<name>[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Warning|Failure|Iteration)|"
                     r"[A-Za-z_][\w]*(?:\.[A-Za-z_]\w*)+)(?:: (?P<text>.*))?$")  # fmt: skip
_WARNED = re.compile(r"(?P<file>\S[^:]*):(?P<line>\d+): (?P<name>\w*Warning): (?P<text>.*)")
_NOT_MINE = re.compile(r"site-packages|dist-packages|/lib/python\d|^<frozen |^<string>")

_SUMMARY = re.compile(r"(?P<kind>FAILED|ERROR) (?P<file>[^\s:]+)(?:::(?P<test>\S+))?(?: - (?P<text>.*))?$")
_AT = re.compile(r"(?P<file>[^\s:]+\.py):(?P<line>\d+): (?P<text>\w.*)?$")
_EXPLAINED = re.compile(r"E   +(?P<text>.*)")
_ENDED = re.compile(r"(?:=+ )?(?P<text>(?:\d+ \w+, )*(?:\d+ \w+|no tests ran) in [\d.]+s.*?)(?: =+)?$")


class Python:
    """A script's own traceback, and what the `warnings` module prints."""

    def __init__(self) -> None:
        self._in_traceback = False
        self._frame: tuple[str, int] | None = None

    @property
    def inside(self) -> bool:
        """Whether a traceback has begun and its exception has not come."""
        return self._in_traceback

    def feed(self, line: str) -> Parsed | None:
        """Return the exception at a traceback's end, at the last line of the user's own code."""
        if line.startswith("Traceback (most recent call last):"):
            self._in_traceback, self._frame = True, None
            return None
        found = _FRAME.match(line)
        if found:
            self._in_traceback = True  # a SyntaxError has a place but no heading
            if self._frame is None or not _NOT_MINE.search(found["file"]):
                self._frame = (found["file"], int(found["line"]))
            return None
        if self._in_traceback and line and not line[0].isspace():
            return self._raised(line)
        found = _WARNED.match(line)
        if found:
            text = f"{found['name']}: {found['text']}"
            return Parsed("warning", text, *place(found["file"]), int(found["line"]))
        return None

    def _raised(self, line: str) -> Parsed | None:
        if _RAISED.match(line) is None and not re.match(r"[A-Za-z_]\w*(?:: |$)", line):
            return None
        frame, self._frame, self._in_traceback = self._frame, None, False
        if frame is None:
            return Parsed("error", line)
        return Parsed("error", line, *place(frame[0]), frame[1])


class Pytest:
    """pytest's failures, its summary, and tracebacks outside of any test."""

    def __init__(self) -> None:
        self._python = Python()
        self._explanation = ""

    def feed(self, line: str) -> Parsed | None:
        """Return a failure with the place where it was raised; the summary's lines name the tests."""
        found = _EXPLAINED.match(line)
        if found:
            self._explanation = self._explanation or found["text"]
            return None
        found = _SUMMARY.match(line)
        if found:
            name = found["test"] or "collection"
            text = f"{name}: {found['text'] or found['kind'].lower()}"
            return Parsed("error", text, *place(found["file"]))
        found = _WARNED.match(line.strip())
        if found:
            text = f"{found['name']}: {found['text']}"
            return Parsed("warning", text, *place(found["file"]), int(found["line"]))
        found = _AT.match(line)
        if found and (self._explanation or found["text"]):
            explanation, self._explanation = self._explanation, ""
            return Parsed("error", explanation or found["text"], *place(found["file"]), int(found["line"]))
        found = _ENDED.match(line)
        if found:
            bad = re.search(r"\b(failed|errors?)\b", found["text"])
            return Parsed("error" if bad else "info", found["text"])
        return self._python.feed(line)
