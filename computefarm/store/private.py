"""Private directories of tasks, made and removed by the thousand.

Some file systems take long to give out an inode when many were given back of late: ext4 without a journal
looks at each of them first. So empty folders and small files are kept, and used again under new names.
"""

from __future__ import annotations

import itertools
import os
import stat
from pathlib import Path

from computefarm.errors import StoreError

from .claims import Claim, sweep
from .copying import store_error
from .removing import empty_folder, remove_tree
from .shelf import SMALL

KEPT = 256
"""Empty folders, and files, kept, at most, of each kind."""

TOP = 0o700
INNER = 0o755
_PREFIX = "tasks-"
_LARGE = 4096
"""Bytes; a folder that has been larger stays slow to read for ever on some file systems."""


class PrivateDirs:
    """Makes one directory per attempt below `root`, and removes it; safe from several threads.

    Those of processes that ended without `close` are removed first; `stuck` names what could not be.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.stuck = sweep(self.root, _PREFIX)
            self._claim = Claim(self.root, _PREFIX)
            self._base = os.fspath(self._claim.path)
            self._pool = f"{self._base}/.kept"
            self._pool_folder = self._open_pool()
        except OSError as error:
            raise store_error(error, self.root, "make private directories") from error
        umask = ~stat.S_IMODE(os.fstat(self._pool_folder).st_mode)
        self._top_mode = TOP & ~umask
        self._inner_mode = INNER & ~umask
        self._tops: dict[str, bool] = {}
        """Kept directories, by the path they were used at last."""
        self._inners: list[int] = []
        """Kept folders, by their name in the pool."""
        self._files: list[int] = []
        """Kept files, likewise."""
        self._numbers = itertools.count()
        self._user = os.geteuid()

    def make(self, name: str) -> Path:
        """Make the empty directory `name`."""
        path = f"{self._base}/{name}"
        try:
            self._restore()
            if not self._reuse(path):
                os.mkdir(path, TOP)
        except OSError as error:
            raise store_error(error, self.root, f"make the directory {name}") from error
        return Path(path)

    def take(self) -> str:
        """Return the path of an empty directory, of any name: a kept one as it is, or a new one."""
        try:
            path, _ = self._tops.popitem()
            if os.path.exists(path):
                return path
        except KeyError:
            pass
        path = f"{self._base}/{next(self._numbers)}"
        try:
            self._restore()
            os.mkdir(path, TOP)
        except OSError as error:
            raise store_error(error, self.root, "make a directory for a task") from error
        return path

    def _open_pool(self) -> int:
        os.mkdir(self._pool, 0o777)
        return os.open(self._pool, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def _restore(self) -> None:
        """Begin anew after somebody has deleted the folder, as people do with caches."""
        if os.path.exists(self._pool) or not self._claim.renew():
            return
        for kept in (self._tops, self._inners, self._files):
            kept.clear()
        before, self._pool_folder = self._pool_folder, self._open_pool()
        os.close(before)

    def make_inner(self, path: str) -> None:
        """Make an empty folder at `path`, inside a private directory."""
        try:
            number = self._inners.pop()
        except IndexError:
            os.mkdir(path, INNER)
            return
        os.rename(f"{self._pool}/{number}", path)

    def open_spare(self, path: str) -> int | None:
        """Open a kept file for writing, now at `path` in a private directory; None when there is none.

        It holds anything, at least one byte and at most `SMALL`, and has any mode.
        """
        try:
            number = self._files.pop()
        except IndexError:
            return None
        try:
            os.rename(f"{self._pool}/{number}", path)
            spare = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        if _has_attributes(spare):
            os.close(spare)
            return None
        return spare

    def remove(self, path: str | Path, *, reuse: bool = True) -> None:
        """Remove a directory with all that a task left in it; harmless when it is gone already.

        Give `reuse=False` when processes of the task may live on, so that they cannot meet the next task.
        """
        try:
            if reuse:
                self._remove_kept(os.fspath(path))
            else:
                remove_tree(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(
                f"cannot remove {error.filename or path} in {path}: {error.strerror}", hint=f"rm -rf {path}"
            ) from error

    def close(self) -> None:
        """Remove all that is left."""
        if self._pool_folder < 0:
            return
        os.close(self._pool_folder)
        self._pool_folder = -1
        try:
            self._claim.close()
        except OSError as error:
            raise StoreError(f"cannot remove {self._base}: {error.strerror}") from error

    def _reuse(self, path: str) -> bool:
        """Give a kept directory the name `path`; False when there is none."""
        if self._tops.pop(path, False):
            return True
        try:
            kept, _ = self._tops.popitem()
        except KeyError:
            return False
        try:
            os.rename(kept, path)
        except OSError:
            self._tops[kept] = True
            raise
        return True

    def _remove_kept(self, path: str) -> None:
        if os.listdir(path):
            empty_folder(path, self._drop_inner, self._drop_file)
        if self._is_like_new(os.lstat(path), self._top_mode, len(self._tops)):
            self._tops[path] = True
        else:
            os.rmdir(path)

    def _drop_inner(self, name: str, parent: int) -> None:
        """Keep an empty folder for the next task, or remove it."""
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if self._is_like_new(found, self._inner_mode, len(self._inners)):
            number = next(self._numbers)
            os.rename(name, f"{number}", src_dir_fd=parent, dst_dir_fd=self._pool_folder)
            self._inners.append(number)
        else:
            os.rmdir(name, dir_fd=parent)

    def _drop_file(self, name: str, parent: int) -> None:
        """Keep a small file of ours for the next task, or remove what it is."""
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if (
            stat.S_ISREG(found.st_mode)
            and found.st_nlink == 1
            and 0 < found.st_size <= SMALL
            and found.st_uid == self._user
            and len(self._files) < KEPT
        ):
            number = next(self._numbers)
            os.rename(name, f"{number}", src_dir_fd=parent, dst_dir_fd=self._pool_folder)
            self._files.append(number)
        else:
            os.unlink(name, dir_fd=parent)

    def _is_like_new(self, found: os.stat_result, mode: int, kept: int) -> bool:
        """Tell whether an empty folder is as if just made, and whether one more is wanted."""
        return (
            found.st_mode == stat.S_IFDIR | mode
            and found.st_uid == self._user
            and found.st_size <= _LARGE
            and kept < KEPT
        )


def _has_attributes(file: int) -> bool:
    """Tell whether a task has given a file more than content and mode: an access list, say."""
    if not hasattr(os, "listxattr"):
        return False
    try:
        return not set(os.listxattr(file)) <= {"security.selinux"}
    except OSError:
        return False  # the file system has none
