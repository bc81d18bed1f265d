"""One run in one folder at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
from types import TracebackType
from typing import Self

from computefarm.errors import FarmError, Refused


class RunLock:
    """Held while a command may write the success database; ends with the process, however that dies."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: int | None = None

    def __enter__(self) -> Self:
        try:
            # Not inheritable: a task's own children must not keep the lock.
            file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise FarmError(f"cannot lock {os.path.abspath(self._path)}: {error.strerror}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(file, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(file)
            folder = os.path.dirname(os.path.abspath(self._path))
            raise Refused(
                f"majordomo is already at work in {folder} (pid {holder})",
                hint=f"wait for it to end, or stop it: kill {holder}",
            ) from None
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        self._file = file
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = None
