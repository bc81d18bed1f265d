"""Keeps commands running without an init system: starts them again when they fail, at growing intervals.

    python -m computefarm.remote.far.keeper SPEC.json

TERM ends it and them; USR1 goes to those that can be drained. SPEC.state.json tells what runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .processes import end, identity, same

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
STEADY_S = 60.0
"""After so long a run the next failure counts as the first."""
PATIENCE_S = 20.0
"""For a command to end by itself."""
FINAL = (3,)
"""A wrong command line stays wrong."""
CLEAN = (0, 143, -signal.SIGTERM)
"""Ended because somebody asked for it."""


class Kept:
    """One command."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.name: str = told["name"]
        self.argv: list[str] = told["argv"]
        self.drains = bool(told.get("drains"))
        self.always = bool(told.get("always"))
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self.mark = ""
        self.pause_s = FIRST_PAUSE_S
        self.restarts = 0
        self.due: float | None = 0.0
        """When to start it, on the monotonic clock; None while it runs or when it has ended for good."""
        self.ended: int | None = None

    def start(self, environ: dict[str, str], now: float) -> None:
        """Start it."""
        # A session of its own: what it leaves behind can be found by its group.
        self.process = subprocess.Popen(
            self.argv, stdin=subprocess.DEVNULL, env=environ, start_new_session=True
        )
        self.mark, self.started, self.due = identity(self.process.pid), now, None

    def reap(self, now: float) -> str:
        """Take note of its end and decide when it starts again; return what to log, or nothing."""
        code = self.process.poll() if self.process is not None else None
        if code is None:
            return ""
        self.process, self.ended = None, code
        if not self.always and (code in CLEAN or code in FINAL):
            return f"{self.name} ended with exit {code}; it is not started again"
        if now - self.started >= STEADY_S:
            self.pause_s = FIRST_PAUSE_S
        self.due = now + self.pause_s
        text = f"{self.name} ended with exit {code}; again in {self.pause_s:.0f} s"
        self.pause_s = min(2 * self.pause_s, LONGEST_PAUSE_S)
        self.restarts += 1
        return text


class Keeper:
    """All commands of one specification."""

    def __init__(self, path: Path) -> None:
        spec = json.loads(path.read_bytes())
        self._state = path.with_suffix(".state.json")
        self._lock = path.with_suffix(".lock")
        self._environ = {**os.environ, **spec.get("environ", {})}
        self._kept = [Kept(told) for told in spec["services"]]
        self._asked: list[int] = []
        if spec.get("nice"):
            os.nice(spec["nice"])

    def run(self) -> int:
        """Keep them until told to end, or until all have ended for good."""
        with self._alone() as alone:
            if not alone:
                self._say("another keeper has these commands already")
                return 0
            self._end_orphans()
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
                signal.signal(number, lambda number, _: self._asked.append(number))
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            try:
                return self._watch()
            finally:
                self._end_all()

    def _watch(self) -> int:
        while True:
            changed = False
            for kept in self._kept:
                if text := kept.reap(time.monotonic()):
                    self._say(text)
                    changed = True
                if kept.process is None and kept.due is not None and kept.due <= time.monotonic():
                    self._start(kept)
                    changed = True
            if changed:
                self._write()
            while self._asked:
                if self._asked.pop(0) != signal.SIGUSR1:
                    return 0
                self._drain()
            if all(kept.process is None and kept.due is None for kept in self._kept):
                return 0
            self._wait()

    def _wait(self) -> None:
        """Sleep a little; a child's end or a signal to us is seen within half a second."""
        dues = [kept.due - time.monotonic() for kept in self._kept if kept.due is not None]
        time.sleep(max(0.02, min([0.5, *dues])))

    def _start(self, kept: Kept) -> None:
        try:
            kept.start(self._environ, time.monotonic())
        except OSError as error:
            kept.due = time.monotonic() + LONGEST_PAUSE_S
            self._say(f"{kept.name} cannot be started: {error}; again in {LONGEST_PAUSE_S:.0f} s")

    def _drain(self) -> None:
        for kept in self._kept:
            if kept.drains:
                if kept.process is not None:
                    kept.process.send_signal(signal.SIGUSR1)
                # One that waits for its next start has nothing to finish.
                kept.due = None

    def _end_all(self) -> None:
        for kept in self._kept:
            if kept.process is not None:
                kept.process.terminate()
        for kept in self._kept:
            if kept.process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    kept.process.wait(PATIENCE_S)
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(kept.process.pid, signal.SIGKILL)
                kept.process.wait()
        with contextlib.suppress(FileNotFoundError):
            self._state.unlink()

    def _end_orphans(self) -> None:
        """End what a killed keeper left running: two of a kind must not be."""
        for name, (pid, mark) in read_state(self._state).get("children", {}).items():
            if same(pid, mark):
                self._say(f"ending {name}, process {pid}, which an earlier keeper left")
                end(pid, mark, PATIENCE_S)

    def _write(self) -> None:
        children = {k.name: (k.process.pid, k.mark) for k in self._kept if k.process is not None}
        told = {
            "keeper": (os.getpid(), identity(os.getpid())),
            "children": children,
            "unstarted": [k.name for k in self._kept if not k.mark],
            "restarts": {k.name: k.restarts for k in self._kept},
            "ended": {k.name: k.ended for k in self._kept if k.process is None},
        }
        temporary = self._state.with_suffix(".new")
        temporary.write_text(json.dumps(told))
        temporary.replace(self._state)

    @contextlib.contextmanager
    def _alone(self) -> Any:
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
        finally:
            os.close(descriptor)

    @staticmethod
    def _say(text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} KEEPER {text}", flush=True)


def read_state(path: Path) -> dict[str, Any]:
    """Return what a keeper last wrote; nothing when there is none or it is damaged."""
    try:
        told = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


if __name__ == "__main__":
    sys.exit(Keeper(Path(sys.argv[1])).run())
