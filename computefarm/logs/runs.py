"""Which runs a farm's log tells of: whose they are, and where their lines begin."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from computefarm.errors import FarmError, UsageError
from computefarm.home import write_file

from .jsonl import START, Cursor
from .tasklog import safe_name

FACTS = "run.json"


class RunFacts(msgspec.Struct, frozen=True):
    """One run."""

    run: str
    owner: str
    label: str
    """What stands for it in the names of records, and the name of its folder: no two runs share one."""
    begins: Cursor = START
    started_at: float = 0.0


def label_of(run: str) -> str:
    """Return a run's name as a part of a record's name and of a path; `-` is no run's."""
    label = safe_name(run).removesuffix(".log").replace(".", "_")
    return label if label != "-" else "-~"


class Runs:
    """The runs of one farm, the newest last; used by several threads."""

    def __init__(self, folder: Path, keep: int, forgotten: Callable[[str], None]) -> None:
        """`keep` is how many are remembered; `forgotten` is told the label of one that is not any more."""
        self._folder = folder
        self._keep = keep
        self._forgotten = forgotten
        self._lock = threading.Lock()
        self._runs: dict[tuple[str, str], RunFacts] = {}
        found = []
        for path in folder.glob(f"*/{FACTS}"):
            with contextlib.suppress(OSError, msgspec.MsgspecError):
                found.append(msgspec.json.decode(path.read_bytes(), type=RunFacts))
        for facts in sorted(found, key=lambda facts: facts.started_at):
            self._runs[facts.run, facts.owner] = facts
        self._labels = {facts.label: facts for facts in self._runs.values()}

    def label(self, run: str, owner: str, begins: Cursor) -> str:
        """Return a run's label; a new run's lines begin at `begins`."""
        known = self._runs.get((run, owner))
        return known.label if known is not None else self._enter(run, owner, begins)

    def _enter(self, run: str, owner: str, begins: Cursor) -> str:
        label = label_of(run)
        if label in self._labels:
            # Another key's run of this name, or one whose name looks the same.
            digest = hashlib.sha256(f"{owner}\n{run}".encode("utf-8", "replace")).hexdigest()[:12]
            label = f"{label}~{digest}"
        facts = RunFacts(run, owner, label, begins, time.time())
        with self._lock:
            self._runs[run, owner] = self._labels[label] = facts
            over = list(self._runs.values())[: max(0, len(self._runs) - self._keep)]
            for old in over:
                del self._runs[old.run, old.owner]
                self._labels.pop(old.label, None)
        with contextlib.suppress(OSError, FarmError):
            path = self._folder / label / FACTS
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_file(path, msgspec.json.encode(facts))
        for old in over:
            self._forgotten(old.label)
        return label

    def find(self, wanted: str, owner: str | None) -> RunFacts:
        """Return the run that a name, its beginning or `last` means; only of `owner`'s, unless that is None.

        Raises `UsageError` when there is none, or more than one.
        """
        with self._lock:
            mine = [facts for facts in self._runs.values() if owner is None or facts.owner == owner]
        if mine and wanted == "last":
            return mine[-1]
        if not mine:
            raise UsageError("the farm's log has no run that this key may see")
        exact = [facts for facts in mine if facts.run == wanted]
        near = exact or [facts for facts in mine if facts.run.startswith(wanted)]
        if len(near) == 1:
            return near[0]
        newest = ", ".join(facts.run for facts in mine[-3:])
        which = "more than one run" if near else "no run"
        raise UsageError(f"the farm's log has {which} called {wanted!r}; the newest are: {newest}")

    def called(self, run: str) -> tuple[RunFacts, ...]:
        """Return the runs of this very name, of whatever key."""
        with self._lock:
            return tuple(facts for facts in self._runs.values() if facts.run == run)

    def of(self, owner: str) -> tuple[RunFacts, ...]:
        """Return all runs of a key."""
        with self._lock:
            return tuple(facts for facts in self._runs.values() if facts.owner == owner)
