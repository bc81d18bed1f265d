"""A warm process without its worker: started, asked, and looked at."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from computefarm.worker_api.resident import Ask, Frames, Ready, Told, frame, pack, read_told

PROGRAM = "computefarm.workers.recompute.resident"


class WarmProcess:
    """One process that answers requests."""

    def __init__(self, cache: Path, *, kernels: str = "", path: str = "") -> None:
        """Start it; `kernels` are those that it loads, `path` is searched for more of them."""
        ours, theirs = socket.socketpair()
        reading, self._lifeline = os.pipe()
        paths = os.pathsep.join(filter(None, (path, os.environ.get("PYTHONPATH", ""))))
        environ = {**os.environ, "CF_RECOMPUTE_KERNELS": kernels, "PYTHONPATH": paths}
        began = time.monotonic()
        given = (theirs.fileno(), reading)
        self.popen = subprocess.Popen(
            [sys.executable, "-m", PROGRAM, "--device", "cpu", "--cache", str(cache), *map(str, given)],
            pass_fds=given,
            env=environ,
        )
        theirs.close()
        os.close(reading)
        self._socket = ours
        self._frames = Frames()
        self._asked = 0
        ready = self._hear()
        assert isinstance(ready, Ready)
        self.ready = ready
        self.took = time.monotonic() - began

    def ask(self, raw: Mapping[str, Any], *, budget_s: float = 600.0) -> Told:
        """Return the answer to one request."""
        self.begin(raw, budget_s=budget_s)
        return self.answer()

    def begin(self, raw: Mapping[str, Any], *, budget_s: float = 600.0) -> None:
        """Ask, and do not wait."""
        self._asked += 1
        self._socket.sendall(frame(Ask(self._asked, str(raw["kernel"]), pack(raw), budget_s)))

    def answer(self) -> Told:
        """Wait for the next answer."""
        told = self._hear()
        assert isinstance(told, Told)
        return told

    def _hear(self) -> Ready | Told:
        while True:
            data = self._socket.recv(1 << 16)
            assert data, f"the process ended with {self.popen.wait(10)}"
            for body in self._frames.feed(data):
                return read_told(body)

    @property
    def peak(self) -> int:
        """Return the most bytes of main memory that it ever had, shared ones included."""
        text = Path(f"/proc/{self.popen.pid}/status").read_text()
        return int(text.split("VmHWM:")[1].split()[0]) * 1024

    @property
    def cpu_s(self) -> float:
        """Return the processor time that it has used."""
        fields = Path(f"/proc/{self.popen.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End it."""
        self._socket.close()
        os.close(self._lifeline)
        self.popen.wait(10)
