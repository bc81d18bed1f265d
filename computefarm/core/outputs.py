"""Whether what came back is what was asked for: a worker decides what is in a file, never which file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import translate

from computefarm.messages import FileEntry

LONGEST = 4096
"""Characters of a path, at most."""

_MAGIC = re.compile(r"[*?\[]")


def stray_output(entries: Sequence[FileEntry], declared: Sequence[str]) -> str | None:
    """Return what is wrong with the first output that was not asked for, or None.

    Declared are files, folders (then everything below) and patterns.
    """
    exact = set(declared)
    others: list[re.Pattern[str]] | None = None
    seen: set[str] = set()
    for entry in entries:
        path = entry.path
        if path in seen:
            return f"output {_shown(path)} came twice"
        seen.add(path)
        # An empty folder's path ends with `/`.
        if (fault := unsafe(path.removesuffix("/") if entry.size == 0 else path)) is not None:
            return f"output {_shown(path)}: {fault}"
        if path in exact:
            continue
        if others is None:
            others = [_below(one) for one in declared]
        if not any(one.match(path) for one in others):
            return f"output {_shown(path)} was not declared"
    return None


def unsafe(path: str) -> str | None:
    """Return why a relative path may not be used as a file's name, or None."""
    if not path or len(path) > LONGEST:
        return "an empty name" if not path else f"a name of {len(path):,} characters"
    if "\0" in path:
        return "a NUL in its name"
    if path.startswith("/"):
        return "an absolute path"
    parts = path.split("/")
    if ".." in parts:
        return "a path that leads out of the task's directory (..)"
    if "" in parts or "." in parts:
        return "an empty or `.` component"
    if max(map(len, parts)) > 255:
        return "a component of more than 255 characters"
    return None


def _below(declared: str) -> re.Pattern[str]:
    """Return what matches a declared output, and everything below it."""
    plain = "/".join(part for part in declared.split("/") if part not in ("", "."))
    if not plain:
        return re.compile(r"(?s:.*)")  # the whole directory
    if _MAGIC.search(plain) is None:
        return re.compile(f"{re.escape(plain)}(/.*)?\\Z", re.DOTALL)
    # Generous where a pattern means less (`*` crosses `/`): it still names the files.
    whole = translate(plain.replace("**/", "*")).removesuffix(r"\Z")
    return re.compile(f"{whole}(/.*)?\\Z", re.DOTALL)


def _shown(path: str) -> str:
    """Return a path for a message: printable and short."""
    text = path if path.isprintable() else ascii(path)
    return text if len(text) <= 200 else f"{text[:200]}…"
