"""What tasks print, in one plain file per task, bounded without holding any of it in memory.

A file holds the output as it came. When it is too much, it keeps its first `HEAD` and its last `TAIL` bytes;
a line says that something was left out.
"""

from __future__ import annotations

import os
import shutil
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from computefarm.messages import Piece

from .tasklog import safe_name

HEAD = 64 * 1024
TAIL = 1024 * 1024

REMEMBERED = 10_000
"""Files whose size is known without a look."""

GAP = b"[... output left out here ...]\n"


class TaskFiles:
    """The files of all runs, one folder per run. Never raises for the disk's sake: see `fault`."""

    def __init__(self, folder: Path, *, head: int = HEAD, tail: int = TAIL) -> None:
        self.folder = folder
        self.fault = ""
        self._head = head
        self._tail = tail
        self._files: OrderedDict[tuple[str, str], tuple[Path, int, int]] = OrderedDict()
        """Path, size and attempt of what was written to last."""

    def write(self, run: str, task: str, attempt: int, pieces: Sequence[Piece]) -> None:
        """Append what a task has printed; `run` is the name of a folder."""
        name = (run, task)
        data = "".join([piece.text for piece in pieces]).encode("utf-8", "replace")
        try:
            known = self._files.get(name)
            if known is None:
                path = self.folder / run / safe_name(task)
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                size, last = (path.stat().st_size, 1) if path.exists() else (0, attempt)
            else:
                path, size, last = known
            if size and attempt > last:
                data = f"--- attempt {attempt} ---\n".encode() + data
            size = self._append(path, data, size)
            self.fault = ""
        except OSError as error:
            self.fault = f"{self.folder} cannot be written: {error.strerror}"
            return
        self._files[name] = (path, size, attempt)
        self._files.move_to_end(name)
        if len(self._files) > REMEMBERED:
            self._files.popitem(last=False)

    def _append(self, path: Path, data: bytes, size: int) -> int:
        # Opened for each write: thousands of running tasks must not hold thousands of files open.
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
        finally:
            os.close(fd)
        size += len(data)
        return self._shorten(path, size) if size > self._head + 2 * self._tail else size

    def _shorten(self, path: Path, size: int) -> int:
        """Leave out the middle; done once per `TAIL` bytes, so it costs no more than writing them did."""
        with path.open("rb") as file:
            head = file.read(self._head)
            head = head[: head.rfind(b"\n") + 1] or head
            file.seek(size - self._tail)
            tail = file.read()
        tail = tail[tail.find(b"\n") + 1 :] or tail
        whole = head + GAP + tail
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_bytes(whole)
        fresh.replace(path)
        return len(whole)

    def forget(self, run: str) -> None:
        """Remove the files of a run."""
        for name in [name for name in self._files if name[0] == run]:
            del self._files[name]
        shutil.rmtree(self.folder / run, ignore_errors=True)
