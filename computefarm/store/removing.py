"""Empty a folder a task has had its way with: any depth, any modes, never through a symbolic link."""

from __future__ import annotations

import os
import secrets
import stat
import sys
from collections.abc import Callable
from pathlib import Path

DEEP = 32
"""Folders nested deeper are moved up first, so that depth costs neither open files nor recursion."""

Drop = Callable[[str, int], None]
"""Does away with an empty folder, or a file, by its name in an open folder."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: str | Path) -> None:
    """Remove `path` and all below it; raise `OSError` when something cannot be removed."""
    try:
        empty_folder(path, _remove_folder, _remove_file)
    except NotADirectoryError:
        os.unlink(path)  # a file, or a link: open refuses to go through one
        return
    os.rmdir(path)


def empty_folder(path: str | Path, drop_folder: Drop, drop_file: Drop) -> None:
    """Hand all that is in the folder `path` to the two functions: folders when they are empty, all else."""
    top = _open_folder(path, None)
    try:
        while _empty(top, top, 0, drop_folder, drop_file):
            pass
    finally:
        os.close(top)


def _remove_folder(name: str, parent: int) -> None:
    os.rmdir(name, dir_fd=parent)


def _remove_file(name: str, parent: int) -> None:
    os.unlink(name, dir_fd=parent)


def _empty(folder: int, top: int, depth: int, drop_folder: Drop, drop_file: Drop) -> bool:
    """Empty one open folder; True when something was moved up into `top` and is still to do."""
    with os.scandir(folder) as entries:
        names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    moved = False
    for name, is_folder in names:
        if not is_folder:
            drop_file(name, folder)
            continue
        inner = _open_folder(name, folder)
        try:
            if depth < DEEP:
                moved |= _empty(inner, top, depth + 1, drop_folder, drop_file)
            else:
                os.rename(name, f".{secrets.token_hex(8)}", src_dir_fd=folder, dst_dir_fd=top)
                moved = True
                continue
        finally:
            os.close(inner)
        drop_folder(name, folder)
    return moved


def _open_folder(name: str | Path, parent: int | None) -> int:
    """Open a folder for listing and changing, giving ourselves the right to do so."""
    try:
        folder = os.open(name, _FOLDER, dir_fd=parent)
    except PermissionError:
        _unlock(name, parent)
        return os.open(name, _FOLDER, dir_fd=parent)
    mode = os.fstat(folder).st_mode
    if stat.S_IMODE(mode) & 0o700 != 0o700:
        os.fchmod(folder, 0o700)
    return folder


def _unlock(name: str | Path, parent: int | None) -> None:
    if sys.platform == "linux":
        # Linux cannot change the mode of a name without following links, but of an opened place it can.
        place = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
        try:
            os.chmod(f"/proc/self/fd/{place}", 0o700)
        finally:
            os.close(place)
    else:
        os.chmod(name, 0o700, dir_fd=parent, follow_symlinks=False)
