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

_GROUPED = re.compile(r"\s+(?:\| |\+ (?=Exception Group))\s?(?P<rest>.*)")
_INTERPRETER = re.compile(
    r"(?:\S*/)?python[\d.]*: (?P<text>(?:can't open file|No module named|Error while) .*)"
)

_SUMMARY = re.compile(r"(?P<kind>FAILED|ERROR) (?P<file>[^\s:]+)(?:::(?P<test>.+?))?(?: - (?P<text>.*))?$")
_USAGE = re.compile(r"ERROR: (?P<text>.+)")
_HEADING = re.compile(r"[_=]{3,} .+ [_=]{3,}$")
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
        if (grouped := _GROUPED.match(line)) and (self._in_traceback or "Group" in line):
            line = grouped["rest"]
        if line.startswith(("Traceback (most recent call last):", "Exception Group Traceback (most")):
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
        found = _INTERPRETER.match(line)
        return Parsed("error", found["text"]) if found else None

    def _raised(self, line: str) -> Parsed | None:
        if _RAISED.match(line) is None and not re.match(r"[A-Za-z_]\w*(?:: |$)", line):
            return None
        frame, self._frame, self._in_traceback = self._frame, None, False
        if frame is None or frame[0].startswith("<"):  # code from a command line or a string
            return Parsed("error", line)
        return Parsed("error", line, *place(frame[0]), frame[1])


class Pytest:
    """pytest's failures, its summary, and tracebacks outside of any test."""

    def __init__(self) -> None:
        self._python = Python()
        self._explanation = ""
        self._frame: tuple[str, int] | None = None
        """Where short tracebacks say they are: above what they say."""
        self._told = 0
        """Failures told with their place: the summary repeats them."""

    def feed(self, line: str) -> Parsed | None:
        """Return a failure with the place where it was raised; the summary's lines name the tests."""
        found = _EXPLAINED.match(line)
        if found:
            return self._explained(found["text"])
        if _HEADING.match(line):
            self._explanation, self._frame = "", None
        found = _SUMMARY.match(line)
        if found:
            name = found["test"] or "collection"
            text = f"{name}: {found['text'] or found['kind'].lower()}"
            level, self._told = ("info", self._told - 1) if self._told else ("error", 0)
            return Parsed(level, text, *place(found["file"]))
        if found := _USAGE.match(line):
            return Parsed("error", found["text"])
        found = _WARNED.match(line.strip())
        if found:
            text = f"{found['name']}: {found['text']}"
            return Parsed("warning", text, *place(found["file"]), int(found["line"]))
        found = _AT.match(line)
        if found and (found["text"] or "").startswith("in "):
            if self._frame is None or not _NOT_MINE.search(found["file"]):
                self._frame = (found["file"], int(found["line"]))
            return None
        if found and (self._explanation or found["text"]):
            explanation, self._explanation = self._explanation, ""
            self._told += 1
            return Parsed("error", explanation or found["text"], *place(found["file"]), int(found["line"]))
        found = _ENDED.match(line)
        if found:
            bad = re.search(r"\b(failed|errors?)\b", found["text"])
            return Parsed("error" if bad else "info", found["text"])
        return self._python.feed(line)

    def _explained(self, text: str) -> Parsed | None:
        """Take a line of an explanation; the first one below a short traceback is the failure."""
        if self._frame is None:
            self._explanation = self._explanation or text
            return None
        (file, line), self._frame = self._frame, None
        self._told += 1
        return Parsed("error", text, *place(file), line)
