"""Which processes of this machine are ComputeFarm's own, so that its load reports can leave them out.

Every long-lived ComputeFarm process registers itself in a folder that all of them know; their children, the
tasks among them, are found from there. Processes of other users register in folders of their own, and count.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tempfile
from pathlib import Path

from .processes import Process, children, identity, read_process


def registry_folder() -> Path:
    """Return the folder that holds one folder per user.

    `/tmp` wherever it can be written, because `TMPDIR` differs between sessions and between tasks.
    """
    shared = Path("/tmp")
    return shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())


class OwnProcesses:
    """The machine-wide list of ComputeFarm's processes."""

    def __init__(self, root: Path | None = None) -> None:
        self._root = root or registry_folder()
        self._mine = self._root / f"computefarm-{os.geteuid()}" / "pids"
        self._tree: dict[int, Process] = {}

    def register(self, pid: int | None = None) -> None:
        """Add this process, or `pid`; a folder that cannot be written costs accuracy, not the process."""
        pid = pid or os.getpid()
        started = identity(pid)
        if started is None:
            return
        with contextlib.suppress(OSError):
            for folder in (self._mine.parent, self._mine):
                folder.mkdir(mode=0o755, exist_ok=True)
            if _belongs(self._mine, os.geteuid()):
                temporary = self._mine / f".{pid}.{os.getpid()}"
                temporary.write_text(started, encoding="ascii")
                temporary.replace(self._mine / str(pid))

    def forget(self, pid: int | None = None) -> None:
        """Remove this process, or `pid`; harmless when it is not there."""
        with contextlib.suppress(OSError):
            (self._mine / str(pid or os.getpid())).unlink()

    def registered(self) -> list[int]:
        """Return the live registered processes of all users; entries of the dead are cleared away."""
        alive = []
        for folder in self._folders():
            try:
                entries = os.listdir(folder)
            except OSError:
                continue
            for name in entries:
                if name.isascii() and name.isdigit() and self._holds(folder / name):
                    alive.append(int(name))
        return alive

    def _folders(self) -> list[Path]:
        """Return each user's folder, if it truly is that user's."""
        found = []
        for folder in self._root.glob("computefarm-*/pids"):
            match = re.fullmatch(r"computefarm-(\d+)", folder.parent.name)
            if match and _belongs(folder, int(match[1])):
                found.append(folder)
        return found

    def _holds(self, entry: Path) -> bool:
        """Say whether an entry's process still runs (and is the one that was registered)."""
        written = _short_text(entry)
        now = identity(int(entry.name))
        if written is not None and now == written:
            return True
        # A container that shares this folder has other numbers for its processes: leave its entries alone.
        # So do we with other users' entries: nothing of theirs is ours to delete.
        here = _namespace(now or identity(os.getpid()) or "")
        if entry.parent == self._mine and written is not None and _namespace(written) == here:
            with contextlib.suppress(OSError):
                entry.unlink()
        return False

    def tree(self) -> dict[int, Process]:
        """Return the registered processes and all that descend from them, by pid.

        A process once seen here stays, even when its parent dies and it loses its place in the family.
        """
        found: dict[int, Process] = {}
        waiting = [*self.registered(), *self._tree]
        while waiting:
            pid = waiting.pop()
            if pid in found:
                continue
            process = read_process(pid)
            known = self._tree.get(pid)
            if process is None or (known is not None and known.started != process.started):
                continue
            found[pid] = process
            waiting += children(pid)
        self._tree = found
        return found


def _belongs(folder: Path, uid: int) -> bool:
    """Say whether `folder` and the one above it are real folders of this user: anybody may write to /tmp."""
    try:
        facts = [path.lstat() for path in (folder.parent, folder)]
    except OSError:
        return False
    return all(stat.S_ISDIR(one.st_mode) and one.st_uid == uid for one in facts)


def _short_text(path: Path) -> str | None:
    """Return a small file's text; another user's pipe or link cannot make us wait or look elsewhere."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return os.read(descriptor, 256).decode("ascii")
        finally:
            os.close(descriptor)
    except (OSError, UnicodeDecodeError):
        return None


def _namespace(text: str) -> str:
    return text.rpartition("@")[2]
