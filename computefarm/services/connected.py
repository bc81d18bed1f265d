"""Which keys are connected now: a small file beside `authorized`, for the commands that look."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from computefarm.transport.keys import PublicKey, read_key, spell
from computefarm.transport.manager_end import ManagerEnd

from .loop import Loop

FILE = "connected.json"
LOOK_S = 1.0


class Connected:
    """Keeps the file true, at most a second behind; removes it in the end."""

    def __init__(self, end: ManagerEnd, folder: Path) -> None:
        self._end = end
        self._path = folder / FILE
        self._written: dict[PublicKey, int] | None = None
        self._next = 0.0

    def attach(self, loop: Loop) -> None:
        """Say who is connected, which is nobody yet."""
        self._next = loop.clock() + LOOK_S
        self._write({})

    def tick(self, now: float) -> None:
        """Look again."""
        if now < self._next:
            return
        self._next = now + LOOK_S
        found = self._end.connections()
        if found != self._written:
            self._write(found)

    def next_deadline(self) -> float | None:
        """Return when to look again."""
        return self._next

    def pace(self) -> float:
        """Nobody waits for this."""
        return 0.0

    def flush(self) -> None:
        """Nothing is sent."""

    def close(self) -> None:
        """Nobody is connected any more."""
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _write(self, found: dict[PublicKey, int]) -> None:
        self._written = found
        text = json.dumps({"process": os.getpid(), "keys": {spell(key): n for key, n in found.items()}})
        # Not synced: it is about this moment.
        part = self._path.with_name(f".{FILE}.{os.getpid()}")
        with contextlib.suppress(OSError):
            part.write_text(text)
            part.replace(self._path)


def read_connections(folder: Path) -> dict[PublicKey, int]:
    """Return how many connections each key has to the manager of this folder's farm; nothing when none runs."""
    try:
        said = json.loads((folder / FILE).read_text())
        os.kill(int(said["process"]), 0)
        return {read_key(key): int(count) for key, count in said["keys"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return {}
