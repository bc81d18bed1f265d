"""Whether the kernel has ended processes for want of memory: a counter that moves. Linux only."""

from __future__ import annotations

from pathlib import Path

SAMPLE_S = 1.0
"""Least time between two samples."""


class OomCounter:
    """Counts the processes that the kernel killed in this process's control group, or else on this machine.

    Where the system keeps no such count (not Linux), it never moves.
    """

    def __init__(self, root: Path = Path("/"), now: float = 0.0) -> None:
        self._file, self._word = _counter(root)
        self._older = self._newer = self._read()
        self._sampled_at = now

    def sample(self, now: float) -> None:
        """Remember the count of this moment; cheap to call often."""
        if now - self._sampled_at >= SAMPLE_S:
            self._sampled_at = now
            self._older, self._newer = self._newer, self._read()

    def moved(self) -> bool:
        """Tell whether the kernel has killed something since the last sample but one."""
        # The last sample alone may have been taken between the kill and the moment we hear of it.
        return self._read() > self._older

    def _read(self) -> int:
        if self._file is None:
            return 0
        return _count(self._file, self._word) or 0


def _counter(root: Path) -> tuple[Path | None, bytes]:
    """Return the file and the word of the count that is closest to this process."""
    for path in (*_of_control_group(root), root / "proc/vmstat"):
        if _count(path, b"oom_kill") is not None:
            return path, b"oom_kill"
    return None, b""


def _of_control_group(root: Path) -> list[Path]:
    """Return where the count of our own control group may be, of either version."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        if line.count(":") < 2:
            continue
        _, controllers, path = line.split(":", 2)
        inner = path.lstrip("/")
        # In a container the path is often the host's, while only our own group is mounted, as the top.
        if "memory" in controllers.split(","):
            top, name = root / "sys/fs/cgroup/memory", "memory.oom_control"
        elif controllers == "":
            top, name = root / "sys/fs/cgroup", "memory.events"
        else:
            continue
        found += [top / inner / name, top / name]
    return found


def _count(path: Path, word: bytes) -> int | None:
    try:
        with path.open("rb") as file:
            for line in file:
                name, _, value = line.partition(b" ")
                if name == word:
                    return int(value)
    except (OSError, ValueError):
        return None
    return None
