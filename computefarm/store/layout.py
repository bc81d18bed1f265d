"""Fill the private directory of a task with exactly the declared files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from computefarm.errors import StoreError, TaskError
from computefarm.messages import FileEntry

from .blobs import BlobStore
from .copying import store_error
from .private import INNER, PrivateDirs
from .shelf import SMALL

__all__ = ["MAGIC", "PrivateDirs", "lay_out", "output_root", "safe_relative"]

MAGIC = frozenset("*?[")
"""Letters that make a declared output a pattern."""


def safe_relative(path: str) -> str:
    """Return `path` without `.` components; raise `TaskError` unless it stays where it is put.

    Absolute paths, `..`, empty components, NUL and names that are not UTF-8 are refused.
    """
    parts = path.split("/")
    if "" in parts or ".." in parts or "\0" in path or path == ".":
        raise TaskError(_what_is_wrong(path))
    if not path.isascii():
        try:
            path.encode()
        except UnicodeEncodeError:
            raise TaskError(f"path {path!r}: its name is not valid UTF-8, so it cannot be sent") from None
    if "." in parts:
        return "/".join(part for part in parts if part != ".") or safe_relative(".")
    return path


def _what_is_wrong(path: str) -> str:
    if path in ("", "."):
        return f"path {path!r}: names no file"
    if "\0" in path:
        return f"path {path!r}: holds a NUL"
    if path.startswith("/"):
        return f"path {path}: absolute; a task's files are named relative to the project"
    if ".." in path.split("/"):
        return f"path {path}: leads out of the task's directory (..)"
    return f"path {path}: has an empty component (//, or a / at the end)"


def lay_out(
    store: BlobStore,
    inputs: Sequence[FileEntry],
    directory: str | Path,
    outputs: Sequence[str] = (),
    *,
    dirs: PrivateDirs | None = None,
) -> None:
    """Put exactly `inputs` into the empty `directory`, and make the parent folders of `outputs`.

    The directory is made if need be; `dirs`, when it made it, makes folders faster.
    Raises `TaskError` for paths that cannot be laid out, before anything is written;
    `StoreError` for blobs that cannot be had, which the store then no longer holds.
    """
    files = [safe_relative(entry.path) for entry in inputs]
    folders = _folders(files, outputs)
    base = os.fspath(directory)
    make = _make_inner if dirs is None else dirs.make_inner
    place = base
    try:
        if dirs is None:
            os.makedirs(base, mode=0o700, exist_ok=True)
        for folder in folders:
            place = f"{base}/{folder}"
            make(place)
    except FileExistsError as error:
        raise StoreError(f"{place} exists already; a task's directory must be empty") from error
    except OSError as error:
        raise store_error(error, Path(directory), f"make the folder {place}") from error
    for entry, path in zip(inputs, files, strict=True):
        name = f"{base}/{path}"
        spare = dirs.open_spare(name) if dirs is not None and 0 < entry.size <= SMALL else None
        store.copy_to(entry.digest, name, entry.executable, spare)


def _make_inner(path: str) -> None:
    os.mkdir(path, INNER)


def _folders(files: Sequence[str], outputs: Sequence[str]) -> list[str]:
    """Return the folders to make, parents first."""
    wanted = dict.fromkeys(_parents(files))
    wanted.update(dict.fromkeys(_parents(output_root(output) for output in outputs)))
    known = set(files)
    if len(known) < len(files):
        twice = next(path for place, path in enumerate(files) if path in files[:place])
        raise TaskError(f"input {twice} is given twice")
    for folder in wanted:
        if folder in known:
            raise TaskError(f"{folder} is an input file, so nothing can be below {folder}/")
    return sorted(wanted)


def _parents(paths: Iterable[str]) -> Iterable[str]:
    """Yield every folder above `paths`; repeats are cut short."""
    seen: set[str] = set()
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder and folder not in seen:
            seen.add(folder)
            yield folder
            folder = folder.rpartition("/")[0]


def output_root(output: str) -> str:
    """Return a declared output up to its first pattern: the path whose parents must exist beforehand."""
    path = safe_relative(output.rstrip("/") or output)
    if MAGIC.isdisjoint(path):
        return path
    fixed = []
    for part in path.split("/"):
        fixed.append(part)
        if not MAGIC.isdisjoint(part):
            break
    return "/".join(fixed)
