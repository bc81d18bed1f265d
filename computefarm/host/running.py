"""Which long-lived ComputeFarm processes of this CF_HOME run: one small file each in the state folder."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import msgspec

from computefarm.errors import Refused
from computefarm.home import Home, private_folder, write_file

from .processes import identity

FOLDER = "run"


class Entry(msgspec.Struct, frozen=True):
    """One process."""

    kind: str
    """`taskmanager`, `worker` or `monitor`."""
    name: str
    pid: int
    started: str
    """Tells the process from a later one with the same pid."""
    about: str = ""
    """For people: where it listens, what it offers."""

    @property
    def alive(self) -> bool:
        """Tell whether this very process still runs."""
        return identity(self.pid) == self.started


class Running:
    """The processes of one CF_HOME."""

    def __init__(self, home: Home) -> None:
        self._folder = home.state / FOLDER

    def claim(self, kind: str, name: str, about: str = "") -> Entry:
        """Enter this process; refuse when another one of this kind and name runs."""
        private_folder(self._folder)
        path = self._path(kind, name)
        # Created exclusively under its own name first, so that two that start together cannot both win.
        entry = Entry(kind, name, os.getpid(), identity(os.getpid()) or "", about)
        lock = path.with_suffix(".lock")
        with lock.open("w") as held:
            _lock(held.fileno())
            other = self._read(path)
            if other is not None and other.alive and other.pid != os.getpid():
                raise Refused(
                    f"a {kind} named {name!r} runs already here, as process {other.pid}",
                    hint=f"cf-{kind} stop    # or give this one another name: --name",
                )
            write_file(path, msgspec.json.encode(entry))
        return entry

    def release(self, kind: str, name: str) -> None:
        """Remove this process's entry."""
        path = self._path(kind, name)
        entry = self._read(path)
        if entry is not None and (entry.pid == os.getpid() or not entry.alive):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    def alive(self, kind: str) -> list[Entry]:
        """Return the running processes of a kind; entries of dead ones are removed."""
        found = []
        for path in sorted(self._folder.glob(f"{kind}-*.json")):
            entry = self._read(path)
            if entry is not None and entry.alive:
                found.append(entry)
            else:
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
        return found

    def _path(self, kind: str, name: str) -> Path:
        return self._folder / f"{kind}-{name}.json"

    def _read(self, path: Path) -> Entry | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=Entry)
        except (OSError, msgspec.MsgspecError):
            return None


def end(entry: Entry, number: int = signal.SIGTERM, patience_s: float = 15.0) -> bool:
    """Send a signal and wait until the process has ended; tell whether it has."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(entry.pid, number)
    deadline = time.monotonic() + patience_s
    while entry.alive:
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)
    return True


def _lock(descriptor: int) -> None:
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_EX)
