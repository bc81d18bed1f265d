"""Messages of gcc, clang and the linker behind them; of make, ninja and CMake around them.

The forms are those of GCC's "Formatting messages" (`file:line:column: kind: text`), which clang shares,
and of the GNU coding standards' section on error messages.
"""

from __future__ import annotations

import re

from .words import Parsed, place

_KINDS = {
    "fatal error": "error",
    "error": "error",
    "runtime error": "error",
    "internal compiler error": "critical",
    "sorry, unimplemented": "error",
    "warning": "warning",
    "note": "info",
    "remark": "info",
}
_KIND = "|".join(_KINDS)
_LOCATED = re.compile(
    rf"(?P<file>[^\s:][^:]*):(?P<line>\d+):(?:(?P<column>\d+):)? (?P<kind>{_KIND}): (?P<text>.*)"
)
_PROGRAM = re.compile(
    rf"(?P<program>[\w.+/-]*(?:gcc|g\+\+|cc1|cc1plus|clang|clang\+\+|cc|c\+\+|collect2|lto1|lto-wrapper|ld|mold)"
    rf"(?:-\d+|\.\w+)?): (?P<kind>{_KIND}): (?P<text>.*)"
)
_FILE_ONLY = re.compile(rf"(?P<file>[^\s:][^:]*): (?P<kind>{_KIND}): (?P<text>.*)")
_LINKER = re.compile(r"(?:(?P<ld>[^\s:]*\bld(?:\.\w+)?): ?)?(?P<rest>.*)")
_LINKED = re.compile(
    r"(?P<file>[^\s:(][^:(]*):(?:(?P<line>\d+):|\([^)]*\):) (?P<text>"
    r"(?:undefined reference|multiple definition|relocation truncated|first defined here).*)"
)
_LINKED_WORDS = re.compile("undefined reference|multiple definition|relocation truncated|first defined here")
_CANNOT = re.compile(
    r"cannot find \S+(?:: .*)?|final link failed.*|.*: (?:file not recognized|file format not recognized"
    r"|syntax error).*"
)
_ARCHIVER = re.compile(
    r"(?:\S*-)?(?:ar|ranlib|strip|objcopy): .*(?:No such file|not recognized|malformed|ermission denied).*"
)

_MAKE = re.compile(r"g?make(?:\[\d+\])?: (?P<rest>.*)")
_MAKE_FAILED = re.compile(
    r"(?P<bad>\*\*\* )?\[(?P<file>[^:\]]+):(?P<line>\d+): (?P<target>.+)\] (?P<text>[A-Z].*)"
)
_UNABLE = re.compile(r".*: (?:No such file or directory|Permission denied|[Cc]ommand not found)$")
_NO_COMMAND = re.compile(
    r"(?:\S*/)?(?:ba|da|z|k)?sh: (?:(?:line )?\d+: )?(?P<text>\S+: (?:command )?not found)$"
)
_NINJA_PLACE = re.compile(r"(?P<file>[^\s:]+):(?P<line>\d+): (?P<text>.*)")
_MAKEFILE = re.compile(r"(?P<file>[Mm]akefile\S*|GNUmakefile|\S+\.mk):(?P<line>\d+): (?P<text>.*)")
_ENTERING = re.compile(r"Entering directory ['`](?P<dir>.*)'")
_LEAVING = re.compile(r"Leaving directory '(?P<dir>.*)'")
_CMAKE = re.compile(
    r"CMake (?P<kind>Error|Warning|Deprecation Warning)(?: \(dev\))?(?: at (?P<file>.+?):(?P<line>\d+)"
    r"(?: \(.*\))?| in (?P<in>[^:]+))?:?(?P<text>.*)"
)


def _promising(line: str) -> bool:
    """Say whether a line may be a message; most lines are none, and this costs a tenth of the patterns."""
    return ":" in line and (
        "rror" in line
        or "arning" in line
        or " note: " in line
        or " remark: " in line
        or "sorry, " in line
        or "defin" in line
        or "relocation" in line
        or "cannot find" in line
        or "failed" in line
        or "recogni" in line
        or "malformed" in line
        or "No such file" in line
        or "ermission denied" in line
    )


class Gcc:
    """gcc, g++, clang, clang++, as and ld."""

    def feed(self, line: str) -> Parsed | None:
        """Return the message in `line`, if it is one."""
        if not _promising(line):
            return None
        found = _LOCATED.match(line)
        if found:
            folder, file = place(found["file"])
            level, text = _KINDS[found["kind"]], found["text"]
            return Parsed(level, text, folder, file, int(found["line"]), int(found["column"] or 0))
        found = _PROGRAM.match(line)
        if found:
            return Parsed(_KINDS[found["kind"]], f"{found['program']}: {found['text']}")
        return self._linker(line) or self._assembler(line)

    def _linker(self, line: str) -> Parsed | None:
        whole = _LINKER.match(line)
        rest = whole["rest"] if whole else line
        found = _LINKED.search(rest) if _LINKED_WORDS.search(rest) else None
        if found:
            folder, file = place(found["file"].strip())
            if file.startswith("<"):  # what the linker calls code without a file
                return Parsed("error", found["text"])
            return Parsed("error", found["text"], folder, file, int(found["line"] or 0))
        if whole and whole["ld"]:
            if _CANNOT.match(rest):
                return Parsed("error", rest)
            if rest.startswith("warning: "):
                return Parsed("warning", rest.removeprefix("warning: "))
        return Parsed("error", line) if _ARCHIVER.match(line) else None

    def _assembler(self, line: str) -> Parsed | None:
        # as: `a.s:3: Error: no such instruction`, with a capital; gcc without a line: `x.c: error: …`.
        found = re.match(r"(?P<file>[^\s:][^:]*):(?P<line>\d+): (?P<kind>Error|Warning): (?P<text>.*)", line)
        if found:
            folder, file = place(found["file"])
            return Parsed(found["kind"].lower(), found["text"], folder, file, int(found["line"]))
        found = _FILE_ONLY.match(line)
        if found and " " not in found["file"]:
            folder, file = place(found["file"])
            return Parsed(_KINDS[found["kind"]], found["text"], folder, file)
        return None


class Make:
    """make, ninja and CMake, and the compilers they run."""

    both_streams = True
    """make names its folders on stdout, the compiler its errors on stderr."""

    def __init__(self) -> None:
        self._compiler = Gcc()
        self._folders: list[str] = []
        self._pending: Parsed | None = None

    def feed(self, line: str) -> Parsed | None:
        """Return the message in `line`, in the folder that make has entered last."""
        if self._pending is not None and line.strip():
            # CMake puts the text below the place, indented.
            pending, self._pending = self._pending, None
            if line.startswith("  "):
                return Parsed(pending.level, line.strip(), pending.dir, pending.file, pending.line)
        parsed = self._make(line) or self._cmake(line) or self._compiler.feed(line)
        if parsed is not None and parsed.file and not parsed.dir and self._folders:
            return Parsed(
                parsed.level, parsed.message, self._folders[-1], parsed.file, parsed.line, parsed.column
            )
        return parsed

    def _make(self, line: str) -> Parsed | None:
        if line.startswith("FAILED: "):
            return Parsed("error", line)
        if line.startswith("ninja: "):
            return self._ninja(line.removeprefix("ninja: "))
        if found := _NO_COMMAND.match(line):
            return Parsed("error", found["text"])
        found = _MAKEFILE.match(line)
        if found:
            # What $(warning …) says has no mark of its own.
            level = "error" if found["text"].startswith("*** ") else "warning"
            text = found["text"].removeprefix("warning: ").removeprefix("*** ")
            return Parsed(level, text, *place(found["file"]), int(found["line"]))
        whole = _MAKE.match(line)
        if whole is None:
            return None
        return self._make_itself(whole["rest"])

    def _ninja(self, rest: str) -> Parsed | None:
        if found := _ENTERING.match(rest):
            self._folders.append(found["dir"])
            return None
        for word in ("error", "warning"):
            if rest.startswith(f"{word}: "):
                text = rest.removeprefix(f"{word}: ")
                if found := _NINJA_PLACE.match(text):
                    return Parsed(word, found["text"], *place(found["file"]), int(found["line"]))
                return Parsed(word, text)
        return Parsed("error", rest) if rest.startswith(("build stopped", "fatal")) else None

    def _make_itself(self, rest: str) -> Parsed | None:
        if found := _ENTERING.match(rest):
            self._folders.append(found["dir"])
        elif _LEAVING.match(rest):
            if self._folders:
                self._folders.pop()
        elif found := _MAKE_FAILED.match(rest):
            text = f"{found['target']}: {found['text']}"
            level = "error" if found["bad"] else "warning"  # an error that make was told to ignore
            return Parsed(level, text, *place(found["file"]), int(found["line"]))
        elif rest.startswith("*** "):
            return Parsed("error", rest.removeprefix("*** "))
        elif rest.startswith(("warning: ", "Warning: ")):
            return Parsed("warning", rest.split(": ", 1)[1].strip())
        elif _UNABLE.match(rest):
            return Parsed("error", rest)
        return None

    def _cmake(self, line: str) -> Parsed | None:
        found = _CMAKE.match(line)
        if found is None:
            return None
        level = "error" if found["kind"] == "Error" else "warning"
        folder, file = place(found["file"] or found["in"] or "")
        parsed = Parsed(level, found["text"].strip() or line, folder, file, int(found["line"] or 0))
        if not found["text"].strip():
            self._pending = parsed
            return None
        return parsed
