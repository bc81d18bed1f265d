"""A journal's folder: who uses it, and which segments are in it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from pathlib import Path

from computefarm.errors import FarmError, Refused
from computefarm.home import private_folder

LOCK = "lock"
SUFFIX = ".journal"
_NAME = re.compile(r"(\d{10})\.journal")
TEMPORARY = ".new"
"""Begins the names of files that are still being written."""


def segment_path(folder: Path, number: int) -> Path:
    """Return the name of a segment."""
    return folder / f"{number:010d}{SUFFIX}"


def segment_paths(folder: Path) -> dict[int, Path]:
    """Return the segments in `folder`, by number, in order."""
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise FarmError(f"cannot read the folder {folder}: {error.strerror}") from error
    found = ((_NAME.fullmatch(name), name) for name in names)
    return {int(match[1]): folder / name for match, name in found if match}


def remove_leftovers(folder: Path) -> None:
    """Remove what a crash has left half written; only for the holder of the lock."""
    for path in folder.glob(f"{TEMPORARY}*"):
        with contextlib.suppress(OSError):
            path.unlink()


class FolderLock:
    """Keeps a journal's folder to one process; the kernel lets go of it however that process ends."""

    def __init__(self, folder: Path) -> None:
        """Take it; raise `Refused` that names who holds it."""
        private_folder(folder)
        path = folder / LOCK
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise FarmError(f"cannot open {path}: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._descriptor, 32).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise Refused(f"the journal in {folder} is in use by process {holder or 'unknown'}") from None
        except OSError as error:
            os.close(self._descriptor)
            raise FarmError(f"cannot lock {path}: {error.strerror}") from error
        with contextlib.suppress(OSError):  # a full disk: then the holder is not named, but holds
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Let go."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
