r"""Messages of LaTeX and ConTeXt.

TeX names the file only where it opens it, `(./chapter.tex`, and closes it with `)`; a message names the line
alone: `l.12 \foo` below an error, `on input line 12` in a warning. With `-file-line-error` the error itself
says `./chapter.tex:12: text`. TeX breaks its lines at 79 characters unless `max_print_line` is raised.
"""

from __future__ import annotations

import re

from .words import Parsed, place

_FILE_LINE = re.compile(r"(?P<file>[^\s:(][^:(]*\.\w+):(?P<line>\d+): (?P<text>.*)")
_ERROR = re.compile(r"! (?P<text>.*)")
_AT_LINE = re.compile(r"l\.(?P<line>\d+)\b ?(?P<context>.*)")
_WARNING = re.compile(
    r"(?:(?:LaTeX|pdfTeX|LuaTeX)(?: \w+)?|(?:Package|Class) \S+) (?P<kind>Warning|Error|Info):? ?(?P<text>.*)"
)
_CONTINUED = re.compile(r"\(\w[\w-]*\) {2,}(?P<text>\S.*)")
_WIDTH = 79
"""Where TeX breaks its lines."""
_INPUT_LINE = re.compile(r"on input line (?P<line>\d+)")
_BOX = re.compile(
    r"(?P<text>(?:Over|Under)full \\[hv]box .*?)"
    r"(?: at lines (?P<line>\d+)--\d+|detected at line (?P<one>\d+))"
)
_CONTEXT = re.compile(
    r"(?P<who>tex|lua|metapost) error\s+> (?:tex|lua|mp|metapost) error on line (?P<line>\d+)"
    r" in file (?P<file>[^:]+): ?(?:! )?(?P<text>.*)"
)
_CONTEXT_FATAL = re.compile(r"mtx-context\s+\| fatal error: (?P<text>.*)")
_OPENED = re.compile(r"\((?P<file>(?:\.{0,2}/)?[^\s(){}<>]+\.\w{1,5})|[()]")


class Latex:
    """pdflatex, lualatex, xelatex and context."""

    def __init__(self) -> None:
        self._stack: list[str] = []
        self._error = ""
        self._warning = ""
        self._broken = False
        """The line before was broken by TeX."""

    def feed(self, line: str) -> Parsed | None:
        """Return the message in `line`; an error is told when its line number has come."""
        if self._error:
            found = _AT_LINE.match(line)
            if found:
                text, self._error = self._error, ""
                text += f" {found['context'].strip()}" if found["context"].strip() else ""
                return Parsed("error", text, *self._here(), int(found["line"]))
            if found := _ERROR.match(line):  # the one before had no place
                text, self._error = self._error, found["text"]
                return Parsed("error", text, *self._here())
            return None
        if self._warning:
            return self._go_on(line)
        parsed = self._message(line)
        if parsed is None and not self._warning:
            self._follow(line)
        return parsed

    def _message(self, line: str) -> Parsed | None:
        if found := _CONTEXT.match(line):
            return Parsed("error", found["text"], *place(found["file"]), int(found["line"]))
        if found := _CONTEXT_FATAL.match(line):
            return Parsed("error", found["text"])
        if found := _FILE_LINE.match(line):
            return Parsed("error", found["text"], *place(found["file"]), int(found["line"]))
        if found := _ERROR.match(line):
            text = found["text"]
            if text.startswith(("Emergency stop", " ==> Fatal", "==> Fatal")):
                return Parsed("error", text.strip(), *self._here())
            self._error = text
            return None
        if found := _WARNING.match(line):
            if found["kind"] == "Warning":
                self._warning, self._broken = found["text"], len(line) >= _WIDTH
                return self._told() if _INPUT_LINE.search(found["text"]) and not self._broken else None
            level = {"Error": "error", "Info": "info"}[found["kind"]]
            return Parsed(level, found["text"], *self._here())
        if found := _BOX.match(line):
            return Parsed("info", found["text"], *self._here(), int(found["line"] or found["one"] or 0))
        return None

    def _go_on(self, line: str) -> Parsed | None:
        """Add to a warning what stands below it; a blank line is its end."""
        broken, self._broken = self._broken, len(line) >= _WIDTH
        if broken and line.strip():
            self._warning += line
        elif found := _CONTINUED.match(line):
            self._warning += f" {found['text']}"
        else:
            return self._told()
        return None

    def _told(self) -> Parsed:
        text, self._warning = self._warning, ""
        where = _INPUT_LINE.search(text)
        return Parsed("warning", text, *self._here(), int(where["line"]) if where else 0)

    def _here(self) -> tuple[str, str]:
        for file in reversed(self._stack):
            if file:
                return place(file)
        return "", ""

    def _follow(self, line: str) -> None:
        """Keep track of which file is open."""
        for found in _OPENED.finditer(line):
            if found["file"]:
                self._stack.append(found["file"])
            elif found[0] == "(":
                self._stack.append("")
            elif self._stack:
                self._stack.pop()
