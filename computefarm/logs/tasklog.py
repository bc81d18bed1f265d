"""The output of tasks in files: one file per task that printed something, bounded, easy to find.

A file holds the output as it came, stdout and stderr together. When it is too much, it keeps the beginning
(at most `HEAD` bytes of each stream) and the last `TAIL` bytes of each; a line says how much was left out.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from computefarm.messages import Piece

HEAD = 64 * 1024
"""Bytes kept from the beginning of each stream of a task."""
TAIL = 1024 * 1024
"""Bytes kept from the end of each stream of a task."""
TOTAL = 1024 * 1024 * 1024
"""Bytes of logs kept over all runs."""

STREAMS = {1: "stdout", 2: "stderr"}
_UNSAFE = re.compile(r"[^A-Za-z0-9._+=@,:-]")
_LONGEST = 150


def safe_name(task: str) -> str:
    """Return a file name for a task: readable where it can be, and different for different tasks."""
    name = _UNSAFE.sub("_", task)[:_LONGEST]
    if name == task and not name.startswith((".", "-")) and name:
        return f"{name}.log"
    return f"{name.lstrip('.-')}~{_digest(task)}.log"


def _digest(task: str) -> str:
    return hashlib.sha256(task.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def run_folder(state: Path, run: str) -> Path:
    """Return where a run's logs are kept."""
    return state / "runs" / run / "logs"


class TaskLogs:
    """The log files of one run. Never raises for the disk's sake: see `trouble`."""

    def __init__(self, folder: Path, *, head: int = HEAD, tail: int = TAIL) -> None:
        self.folder = folder
        self.trouble = ""
        """What went wrong with the disk; empty when all is well."""
        self._head = head
        self._tail = tail
        self._open: dict[str, _Log] = {}
        self._paths: dict[str, Path] = {}
        self._taken: set[str] = set()

    def write(self, task: str, pieces: Sequence[Piece]) -> None:
        """Append output of a running task; the first output makes the file."""
        log = self._open.get(task)
        if log is None:
            log = self._open[task] = _Log(self._path_of(task), self._head, self._tail)
        try:
            log.append([(piece.stream, piece.text.encode("utf-8", "replace")) for piece in pieces])
        except OSError as error:
            self.trouble = f"task logs cannot be written to {self.folder}: {error}"

    def heading(self, task: str, text: str) -> None:
        """Separate what comes next from what a former attempt printed, if it printed anything."""
        if task in self._open:
            self.write(task, [Piece(stream=1, created_at=0.0, text=f"--- {text} ---\n")])

    def end(self, task: str) -> Path | None:
        """Finish a task's file and return its path; None when the task printed nothing."""
        log = self._open.pop(task, None)
        if log is not None:
            try:
                log.finish()
            except OSError as error:
                self.trouble = f"task logs cannot be written to {self.folder}: {error}"
        return self.path(task)

    def path(self, task: str) -> Path | None:
        """Return the file with a task's output so far; None when it printed nothing."""
        return self._paths.get(task)

    def close(self) -> None:
        """Finish the files of tasks that never ended."""
        for task in list(self._open):
            self.end(task)

    def _path_of(self, task: str) -> Path:
        path = self._paths.get(task)
        if path is None:
            name = safe_name(task)
            if name.casefold() in self._taken:  # a file system may see no difference between Make and make
                name = f"{name.removesuffix('.log')}~{_digest(task)}.log"
            self._taken.add(name.casefold())
            path = self._paths[task] = self.folder / name
        return path


class _Log:
    """One task's file, with its beginning and end in memory as long as the task runs."""

    def __init__(self, path: Path, head: int, tail: int) -> None:
        self._path = path
        self._head_limit = head
        self._tail_limit = tail
        self._head: list[bytes] = []
        self._head_sizes: dict[int, int] = {}
        self._tail: deque[tuple[int, bytes]] = deque()
        self._tail_sizes: dict[int, int] = {}
        self._left_out: dict[int, int] = {}
        self._fresh = True

    def append(self, output: Sequence[tuple[int, bytes]]) -> None:
        written = []
        for stream, data in output:
            written.append(data)
            size = self._head_sizes.get(stream, 0)
            room = max(0, self._head_limit - size)
            if not self._tail and len(data) <= room:
                self._head.append(data)
                self._head_sizes[stream] = size + len(data)
            else:
                self._keep_end(stream, data)
        if not self._left_out:
            self._write(b"".join(written))

    def _keep_end(self, stream: int, data: bytes) -> None:
        self._tail.append((stream, data))
        self._tail_sizes[stream] = self._tail_sizes.get(stream, 0) + len(data)
        while self._tail_sizes[stream] > self._tail_limit:
            place, oldest = next((i, d) for i, (s, d) in enumerate(self._tail) if s == stream)
            over = self._tail_sizes[stream] - self._tail_limit
            if len(oldest) <= over:
                del self._tail[place]
            else:
                self._tail[place] = (stream, oldest[over:])
            gone = min(len(oldest), over)
            self._tail_sizes[stream] -= gone
            self._left_out[stream] = self._left_out.get(stream, 0) + gone

    def finish(self) -> None:
        """Write the file again when something in its middle has to go."""
        if not self._left_out:
            return
        parts = list(self._head)
        if parts and not parts[-1].endswith(b"\n"):
            parts.append(b"\n")
        for stream, gone in sorted(self._left_out.items()):
            parts.append(f"[... {gone} bytes of {STREAMS.get(stream, stream)} left out ...]\n".encode())
        parts += [data for _, data in self._tail]
        fresh = self._path.with_name(f".{self._path.name}.new")
        fresh.write_bytes(b"".join(parts))
        fresh.replace(self._path)

    def _write(self, data: bytes) -> None:
        # Opened for each write: thousands of running tasks must not hold thousands of files open.
        if self._fresh:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._fresh = False
        with self._path.open("ab") as file:
            file.write(data)


def last_lines(path: Path, count: int, most: int = 16_384) -> list[str]:
    """Return the last lines of a log, reading at most `most` bytes of it; empty when it is gone."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - most))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return text.splitlines()[-count:]


def prune(state: Path, keep: str = "", total: int = TOTAL) -> list[str]:
    """Remove the oldest runs' logs until all together fit into `total` bytes; return the runs removed.

    The run named `keep` stays, whatever its size.
    """
    runs = state / "runs"
    found = []
    for folder in runs.iterdir() if runs.is_dir() else ():
        try:
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            found.append((folder.stat().st_mtime, folder, size))
        except OSError:  # another majordomo is pruning the same folder
            continue
    removed = []
    excess = sum(size for _, _, size in found) - total
    for _, folder, size in sorted(found):
        if excess <= 0:
            break
        if folder.name != keep:
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder.name)
            excess -= size
    return removed
