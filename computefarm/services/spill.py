"""All that a task printed, in a file on its worker, where it is more than is sent.

`<output>/<run>/<task>~<attempt>.txt` has the first half of what is kept; once that is full, more files
(`….end-1`, `….end-2`, …) take a quarter each, and only the last two of them stay.
A thread writes them, so that a slow disk holds nothing up but them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

from computefarm.errors import FarmError
from computefarm.logs.kept_output import end_path, kept_path, read_page
from computefarm.messages import OutputPage, ReadOutput

from .attempts import Execution

FROM = 1024 * 1024
"""Characters of output from which on all of it goes to a file."""

QUEUED = 16 * 1024 * 1024
"""Characters that wait to be written, at most; what comes faster is left out."""

SWEEP_S = 600.0
"""Between two looks for files that are old enough to go."""

FOLDER = "output"

log = logging.getLogger("computefarm.worker")


class SpillFile:
    """The files of one attempt; used by the writer's thread only."""

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        self._limit = max(4, limit)
        self._fd = -1
        self._size = 0
        self._room = self._limit // 2
        self._turn = 0

    def write(self, data: bytes) -> None:
        """Append; raise `OSError`."""
        view = memoryview(data)
        while view:
            if self._fd < 0 or self._size >= self._room:
                self._next()
            part = view[: self._room - self._size]
            written = os.write(self._fd, part)
            self._size += written
            view = view[written:]

    def _next(self) -> None:
        path = self._path
        if self._fd >= 0:
            self.close()
            self._room = self._limit // 4
            self._turn += 1
            path = end_path(self._path, self._turn)
            end_path(self._path, self._turn - 2).unlink(missing_ok=True)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._size = 0

    def close(self) -> None:
        """Close the file that is open."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Spill:
    """Keeps the whole output of talkative tasks, for a while."""

    def __init__(
        self, folder: Path, *, limit: int, hold_s: float, hostname: str, wall: Callable[[], float] = time.time
    ) -> None:
        """`limit` is the most bytes per attempt, `hold_s` how long they are kept."""
        self._folder = folder
        self._limit = limit
        self._hold_s = hold_s
        self._hostname = hostname
        self._wall = wall
        self._queue: queue.SimpleQueue[tuple[Path, str | None] | None] = queue.SimpleQueue()
        self._taken_in = self._done_with = 0
        self._whole: dict[int, list[str] | Path] = {}
        """By ticket: what was printed so far, or where it goes."""
        self._sizes: dict[int, int] = {}
        self._thread: threading.Thread | None = None
        self.lost = 0
        """Characters left out because the disk was too slow or full."""
        self._said = False
        self._sweep_at = 0.0

    # --- on the loop's thread ---

    def take(self, execution: Execution, text: str) -> None:
        """Take what a task has printed."""
        ticket = execution.ticket
        kept = self._whole.get(ticket)
        if isinstance(kept, Path):
            self._put(kept, text)
            return
        if kept is None:
            kept = self._whole[ticket] = []
            self._sizes[ticket] = 0
        kept.append(text)
        self._sizes[ticket] += len(text)
        if self._sizes[ticket] > FROM:
            run = execution.run
            path = kept_path(self._folder, run.session, run.name, run.attempt)
            self._whole[ticket] = path
            self._put(path, "".join(kept))

    def where(self, execution: Execution) -> str:
        """Return where all of an attempt's output is, for people; empty when it is not in a file."""
        kept = self._whole.get(execution.ticket)
        return f"; {self._hostname}:{kept} has more" if isinstance(kept, Path) else ""

    def finish(self, execution: Execution) -> None:
        """The attempt has ended."""
        self._sizes.pop(execution.ticket, None)
        kept = self._whole.pop(execution.ticket, None)
        if isinstance(kept, Path):
            self._queue.put((kept, None))

    def page(self, asked: ReadOutput) -> OutputPage:
        """Return the next page of an attempt's output, read from the disk; for any thread."""
        path = kept_path(self._folder, asked.run, asked.task, asked.attempt)
        try:
            page = read_page(path, asked.cursor)
        except FarmError as error:
            return OutputPage(asked.number, fault=f"{self._hostname}: {error}")
        return OutputPage(asked.number, page.data, page.cursor, page.left_out)

    def sweep(self, now: float) -> None:
        """Have old files removed, now and then."""
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_S
            if self._folder.is_dir():
                self._start()
                self._queue.put((self._folder, ""))

    def close(self) -> None:
        """Write what waits, and end the thread."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(5)
            self._thread = None

    def _put(self, path: Path, text: str) -> None:
        if self._taken_in - self._done_with > QUEUED:
            self.lost += len(text)
            return
        self._start()
        self._taken_in += len(text)
        self._queue.put((path, text))

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="cf-spill", daemon=True)
            self._thread.start()

    # --- the thread ---

    def _work(self) -> None:
        files: dict[Path, SpillFile] = {}
        while (item := self._queue.get()) is not None:
            path, text = item
            try:
                if path == self._folder:
                    self._remove_old(set(files))
                elif text is None:
                    if path in files:
                        files.pop(path).close()
                else:
                    file = files.get(path)
                    if file is None:
                        file = files[path] = SpillFile(path, self._limit)
                    file.write(text.encode("utf-8", "replace"))
                    self._said = False
            except OSError as error:
                self.lost += len(text or "")
                if not self._said:
                    self._said = True
                    log.warning("what a task prints is not kept whole: %s", error)
            self._done_with += len(text or "")
        for file in files.values():
            file.close()

    def _remove_old(self, writing: set[Path]) -> None:
        before = self._wall() - self._hold_s
        for run in self._folder.iterdir():
            for path in run.iterdir():
                begun = path.with_name(path.name.partition(".end-")[0])
                if begun not in writing and path.stat().st_mtime < before:
                    path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                run.rmdir()
