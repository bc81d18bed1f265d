"""Which keys are connected now: a small file beside `authorized`, for the commands that look."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

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
        self._written: object = None
        self._next = 0.0

    def attach(self, loop: Loop) -> None:
        """Say who is connected, which is nobody yet."""
        self._next = loop.clock() + LOOK_S
        self._write()

    def tick(self, now: float) -> None:
        """Look again."""
        if now < self._next:
            return
        self._next = now + LOOK_S
        self._write()

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

    def _write(self) -> None:
        said = {
            "process": os.getpid(),
            "reading": self._end.judged,
            "keys": {spell(key): count for key, count in self._end.connections().items()},
            "ended": {spell(key): count for key, count in self._end.ended.items()},
        }
        if said == self._written:
            return
        self._written = said
        # Not synced: it is about this moment.
        part = self._path.with_name(f".{FILE}.{os.getpid()}")
        with contextlib.suppress(OSError):
            part.write_text(json.dumps(said))
            part.replace(self._path)


class Connections(msgspec.Struct, frozen=True):
    """What the file says; nothing when no manager runs."""

    reading: int | None = None
    """Which reading of the authorized file the manager goes by; None when none runs."""
    keys: Mapping[PublicKey, int] = {}
    ended: Mapping[PublicKey, int] = {}
    """Connections that the manager has ended because their key was shut out."""


def read_connections(folder: Path) -> Connections:
    """Return how many connections each key has to the manager of this folder's farm."""
    try:
        said = json.loads((folder / FILE).read_text())
        os.kill(int(said["process"]), 0)
        keys, ended = (
            {read_key(key): int(count) for key, count in said[part].items()} for part in ("keys", "ended")
        )
        return Connections(int(said["reading"]), keys, ended)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return Connections()
