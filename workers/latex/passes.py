"""Run a TeX engine until the files that it writes for itself no longer change.

    python passes.py pdflatex [option…] FILE.tex

Bibliography and index are made in between when the document asks for them. Only what the last pass printed is
printed. Standard library only: it runs in a task, by the worker's own Python.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

MOST = 6
"""Passes; a document that still changes then goes in a circle."""

RESULTS = frozenset({".log", ".pdf", ".dvi", ".xdv", ".blg", ".bcf", ".ilg", ".gz", ".fls", ".tex", ".d"})
"""What an engine does not read back."""

TRIVIAL = (r"\relax", r"\gdef \@abspage@last", r"\gdef\@abspage@last", r"\providecommand", r"\catcode")
"""How the lines of an .aux file begin when it holds nothing to be read back."""


class Failed(Exception):
    """A program ended with an error."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Document:
    """One document being typeset."""

    def __init__(self, command: list[str]) -> None:
        self.command = command
        self.folder = Path(_option(command, "output-directory") or ".")
        self.job = _option(command, "jobname") or Path(command[-1]).stem

    def file(self, suffix: str) -> Path:
        """Return one of the files beside the result."""
        return self.folder / f"{self.job}{suffix}"

    def state(self) -> dict[str, bytes]:
        """Return the digests of what the next pass will read."""
        parts = list(self.folder.glob("*.aux"))
        parts += [path for path in self.folder.glob("*") if path.name.startswith(f"{self.job}.")]
        return {
            path.name: hashlib.sha256(path.read_bytes()).digest()
            for path in parts
            if path.suffix not in RESULTS and path.is_file()
        }

    def simple(self) -> bool:
        """Say whether the first pass left nothing to be read back."""
        others = [name for name in self.state() if name != f"{self.job}.aux"]
        lines = _text(self.file(".aux")).splitlines()
        return not others and all(line.startswith(TRIVIAL) for line in lines if line.strip())

    def helpers(self) -> None:
        """Make bibliography and index, where the document has them."""
        paths = {
            # An empty part stands for where the program looks anyway.
            "BIBINPUTS": f"{Path.cwd()}:{os.environ.get('BIBINPUTS', '')}:",
            "BSTINPUTS": f"{Path.cwd()}:{os.environ.get('BSTINPUTS', '')}:",
        }
        if self.file(".bcf").exists():
            self.run(["biber", self.job], paths)
        elif r"\bibdata{" in _text(self.file(".aux")):
            self.run(["bibtex", self.job], paths)
        if _text(self.file(".idx")):
            self.run(["makeindex", "-q", f"{self.job}.idx"], {})

    def run(self, command: list[str], paths: dict[str, str]) -> None:
        """Run a program beside the result; its output is shown when it fails."""
        done = subprocess.run(
            command, cwd=self.folder, env={**os.environ, **paths}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            _show(done.stdout)
            raise Failed(done.returncode)

    def once(self) -> bytes:
        """Run the engine; return what it printed."""
        done = subprocess.run(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if done.returncode != 0:
            _show(done.stdout)
            raise Failed(done.returncode)
        return done.stdout


def main(command: list[str]) -> int:
    """Typeset; return the exit code of whatever ended it."""
    document = Document(command)
    try:
        printed, count = document.once(), 1
        if not document.simple():
            document.helpers()
            before = document.state()
            while True:
                printed, count = document.once(), count + 1
                after = document.state()
                if after == before:
                    break
                if count == MOST:
                    _show(printed)
                    changing = sorted(name for name in after if after[name] != before.get(name))
                    print(
                        f"error: still changing after {MOST} passes: {', '.join(changing)}", file=sys.stderr
                    )
                    return 1
                before = after
    except Failed as failed:
        return failed.code if failed.code > 0 else 1
    except FileNotFoundError as error:
        print(f"error: {error.filename} is needed and is not installed here", file=sys.stderr)
        return 127
    _show(printed)
    print(f"stable after {count} {'pass' if count == 1 else 'passes'}")
    return 0


def _option(command: list[str], name: str) -> str:
    """Return the value of `-name VALUE` or `-name=VALUE`."""
    for index, word in enumerate(command):
        plain = word.lstrip("-")
        if word.startswith("-") and plain == name and index + 1 < len(command):
            return command[index + 1]
        if word.startswith("-") and plain.startswith(f"{name}="):
            return plain.partition("=")[2]
    return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _show(printed: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(printed)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
