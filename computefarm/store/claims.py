"""Folders that belong to one living process, so that the leftovers of a crash can be told from work in hand.

A claim is a folder with a locked file in it. The kernel drops the lock with the process, however it ends;
no process number is trusted, because numbers are reused and containers have their own.
(A child that was forked without exec holds the lock too.)
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import threading
import time
from pathlib import Path

from .removing import remove_tree

LOCK = ".lock"
YOUNG_S = 60.0
"""A folder without a lock file may still be in the making until it is this old."""


class Claim:
    """A fresh folder `root/prefix…` that is ours until `close` or the end of this process."""

    def __init__(self, root: Path, prefix: str) -> None:
        self.root = root
        self._lock = -1
        self._renewing = threading.Lock()
        while True:
            self.path = root / f"{prefix}{secrets.token_hex(6)}"
            if self._take():
                return

    def _take(self) -> bool:
        """Make and lock the folder; False when a sweep by another process was faster."""
        try:
            self.path.mkdir(mode=0o700)
            lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except (FileExistsError, FileNotFoundError):
            return False
        try:
            swept = _locked_by_another(lock)
        except OSError:
            swept = False  # a file system without locks: then nobody sweeps here either
        try:
            same = not swept and os.path.samestat(os.stat(self.path / LOCK), os.fstat(lock))
        except FileNotFoundError:
            same = False
        if same:
            self._lock = lock
        else:
            os.close(lock)
        return same

    def renew(self) -> bool:
        """Make the folder again, under its name, if somebody has removed it; tell whether that was so."""
        with self._renewing:
            if self._lock < 0 or self.path.exists():
                return False
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            before = self._lock
            made = self._take()
            if made:
                os.close(before)
            return made

    def close(self) -> None:
        """Remove the folder with what is in it, and give the lock up."""
        if self._lock < 0:
            return
        try:
            with contextlib.suppress(FileNotFoundError):  # somebody has removed it already
                remove_tree(self.path)
        finally:
            os.close(self._lock)
        self._lock = -1


def sweep(root: Path, prefix: str, *, older_than_s: float = 0.0) -> tuple[Path, ...]:
    """Remove the claims under `root` whose owner is gone; return those that could not be removed."""
    stuck: list[Path] = []
    for path in sorted(root.glob(f"{prefix}*")):
        try:
            if time.time() - path.lstat().st_mtime < older_than_s or not _abandoned(path):
                continue
            remove_tree(path)
        except FileNotFoundError:
            continue  # another process sweeps too
        except OSError:
            stuck.append(path)
    return tuple(stuck)


def _abandoned(path: Path) -> bool:
    try:
        lock = os.open(path / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return time.time() - path.lstat().st_mtime > YOUNG_S
    except NotADirectoryError:
        return True
    try:
        return not _locked_by_another(lock)
    except OSError:
        return False  # a file system without locks: nobody can know
    finally:
        os.close(lock)


def _locked_by_another(lock: int) -> bool:
    """Take the lock, and return False, unless somebody holds it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
