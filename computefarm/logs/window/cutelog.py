"""Find cutelog, start it so that only this machine can talk to it, or use one that runs already.

Started without options cutelog listens on all interfaces and unpickles what comes in;
that is why we start it ourselves, on loopback, and send it nothing but JSON.
It is never imported: it lives in its own process, with its own Qt.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec

from computefarm.errors import FarmError

if TYPE_CHECKING:
    import psutil

HOST = "127.0.0.1"
START_S = 20.0
"""How long the window may take to come up."""

GET_IT = "pip install 'computefarm[gui]'"


class NoWindow(FarmError):
    """There can be no log window here; the console and the files are there all the same."""


class Window(msgspec.Struct):
    """A cutelog that listens on loopback."""

    port: int
    process: psutil.Process | None = None
    """No child of ours, so that it outlives us. None when it ran before us: then it is not ours to end."""
    log: str = ""
    """File with what it prints."""

    def alive(self) -> bool:
        """Return whether it still runs; one that is not ours is taken to."""
        return self.process is None or _runs(self.process)

    def close(self) -> None:
        """End it if it is ours."""
        import psutil

        if self.process is None:
            return
        for end in (self.process.terminate, self.process.kill):
            with contextlib.suppress(psutil.Error):
                end()
            deadline = time.monotonic() + 3
            while self.alive() and time.monotonic() < deadline:
                time.sleep(0.02)


def _runs(process: psutil.Process) -> bool:
    import psutil

    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def find_program(environ: Mapping[str, str]) -> str:
    """Return the path of cutelog; raise `NoWindow` saying how to get it.

    `CF_CUTELOG` names it; else it is looked for beside this Python, then on the PATH.
    """
    named = environ.get("CF_CUTELOG", "")
    if named:
        found = shutil.which(named, path=environ.get("PATH"))
        if found is None:
            raise NoWindow(f"CF_CUTELOG={named}: there is no such program", hint=GET_IT)
        return found
    beside = Path(sys.executable).with_name("cutelog")
    if os.access(beside, os.X_OK):
        return str(beside)
    found = shutil.which("cutelog", path=environ.get("PATH"))
    if found is None:
        raise NoWindow("cutelog, the log window, is not installed", hint=GET_IT)
    return found


def check_display(environ: Mapping[str, str], platform: str = sys.platform) -> None:
    """Raise `NoWindow` where a window cannot be shown."""
    if platform == "darwin" or environ.get("QT_QPA_PLATFORM"):
        return
    if not environ.get("DISPLAY") and not environ.get("WAYLAND_DISPLAY"):
        raise NoWindow(
            "there is no display here (DISPLAY and WAYLAND_DISPLAY are not set)",
            hint="majordomo logs -f    # the same lines on this terminal",
        )


def check(environ: Mapping[str, str]) -> str:
    """Return the program to start; raise `NoWindow` where it is clear beforehand that there can be none."""
    program = find_program(environ)
    check_display(environ)
    return program


def running(uid: int | None = None) -> int | None:
    """Return the port of a cutelog of this user that listens on loopback only; None when there is none."""
    import psutil

    owner = os.getuid() if uid is None else uid
    for process in psutil.process_iter():
        try:
            if process.uids().real != owner or not _is_cutelog(process.cmdline()):
                continue
            # net_connections since psutil 6; connections before.
            ask = getattr(process, "net_connections", None) or process.connections
            for connection in ask(kind="tcp4"):
                if connection.status == psutil.CONN_LISTEN and connection.laddr.ip == HOST:
                    return int(connection.laddr.port)
        except psutil.Error:
            continue
    return None


def _is_cutelog(command: list[str]) -> bool:
    program = [Path(word).name for word in command[:2]]
    return "cutelog" in program or command[1:3] == ["-m", "cutelog"]


def open_window(environ: Mapping[str, str], folder: Path, *, reuse: bool = True) -> Window:
    """Return a window that listens: one that runs already, else a new one; raise `NoWindow`.

    What cutelog prints goes to a file in `folder`.
    """
    if reuse and (port := running()) is not None:
        return Window(port)
    program = check(environ)
    port = _free_port()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "cutelog.log"
    with path.open("wb") as log:
        window = Window(port, _start(program, port, environ, log), str(path))
    try:
        _until_listening(window)
    except NoWindow:
        window.close()
        raise
    return window


def _start(
    program: str, port: int, environ: Mapping[str, str], log: IO[bytes]
) -> psutil.Process:
    address = ("--listen_host", HOST, "--listen_port", str(port))
    import psutil

    command = [program, *address, "--single_tab_mode_default", "true"]
    try:
        # No child, and a session of its own: what ends a run with all its processes does not end the window.
        done = subprocess.run(
            ["/bin/sh", "-c", '"$@" >&2 & echo $!', "sh", *command],
            env=dict(environ), start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, check=True,
        )  # fmt: skip
        return psutil.Process(int(done.stdout))
    except psutil.NoSuchProcess as error:
        raise NoWindow(f"cutelog ended at once: {_last_words(log.name)}", hint=f"see {log.name}") from error
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise NoWindow(f"{program} cannot be started: {error}", hint=GET_IT) from error


def _free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _until_listening(window: Window) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if not window.alive():
            raise NoWindow(f"cutelog ended at once: {_last_words(window.log)}", hint=f"see {window.log}")
        if running_on(window):
            return
        time.sleep(0.05)
    raise NoWindow(f"cutelog did not come up within {START_S:.0f} s", hint=f"see {window.log}")


def running_on(window: Window) -> bool:
    """Return whether our own window listens; asked of the system, because a connection would open a tab."""
    import psutil

    if window.process is None:
        return True
    try:
        family = [psutil.Process(window.process.pid)]
        family += family[0].children(recursive=True)
        for process in family:
            ask = getattr(process, "net_connections", None) or process.connections
            if any(c.status == psutil.CONN_LISTEN and c.laddr.port == window.port for c in ask(kind="tcp4")):
                return True
    except psutil.AccessDenied:  # macOS: then it is tried
        with contextlib.suppress(OSError), socket.create_connection((HOST, window.port), timeout=1.0):
            return True
    except psutil.Error:
        pass
    return False


def _last_words(path: str) -> str:
    with contextlib.suppress(OSError):
        lines = Path(path).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        # Qt says what matters first, and lists its plug-ins last.
        for line in lines:
            if "not" in line.lower() or "error" in line.lower():
                return line.strip()
        if lines:
            return lines[-1].strip()
    return "it said nothing"
