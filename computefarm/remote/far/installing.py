"""Makes the folder with the program: a virtual environment, and in it the wheel that was sent."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import io
import json
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

MARK = "installed.json"
"""In the virtual environment; written last, so that half an installation is never taken for one."""

NEEDS_BYTES = 300 * 1024**2
PIP_S = 900.0
TAIL = 12
NO_INDEX = (
    "Failed to establish a new connection",
    "Temporary failure in name resolution",
    "Network is unreachable",
    "Connection refused",
    "timed out",
    "Could not find a version",
    "No matching distribution",
)


class InstallError(Exception):
    """An installation that failed and was taken away again; for people.

    `kind` is `disk`, `permission`, `venv`, `index` or `pip`.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def install(told: dict[str, Any], stream: BinaryIO) -> dict[str, Any]:
    """Install what comes in `stream`, unless it is there; return `{"kept": bool}`.

    `told`: `venv` (its path), `python`, `digest`, `files` (name and size of each file in the stream: the
    wheel first, then other wheels and perhaps `pip.zip`).
    """
    venv = Path(told["venv"])
    venv.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with alone(venv.parent):
        if installed(venv) == told["digest"]:
            return {"kept": True}
        free = shutil.disk_usage(venv.parent).free
        if free < NEEDS_BYTES:
            needed = f"about {NEEDS_BYTES // 1024**2} are needed"
            raise InstallError("disk", f"only {free // 1024**2} MiB are free in {venv.parent}; {needed}")
        shutil.rmtree(venv, ignore_errors=True)
        try:
            with tempfile.TemporaryDirectory(dir=venv.parent, prefix=".wheels-") as folder:
                files = [receive(Path(folder), name, size, stream) for name, size in told["files"]]
                make(venv, told["python"], files)
                put_wheels(venv, [path for path in files if path.suffix == ".whl"])
            (venv / MARK).write_text(json.dumps({"digest": told["digest"]}))
        except BaseException:
            shutil.rmtree(venv, ignore_errors=True)
            raise
    return {"kept": False}


def installed(venv: Path) -> str:
    """Return the digest of what is completely installed there; empty when nothing is."""
    try:
        return str(json.loads((venv / MARK).read_bytes())["digest"])
    except (OSError, ValueError, KeyError):
        return ""


def receive(folder: Path, name: str, size: int, stream: BinaryIO) -> Path:
    """Write the next `size` bytes of the stream to a file."""
    path = folder / Path(name).name
    with path.open("wb") as file:
        while size:
            data = stream.read(min(size, 1 << 20))
            if not data:
                raise InstallError("pip", f"the connection ended in the middle of {name}")
            file.write(data)
            size -= len(data)
    return path


def make(venv: Path, python: str, files: list[Path]) -> None:
    """Make the virtual environment with pip in it, whatever this system's Python brings along."""
    if importlib.util.find_spec("venv") is None:
        raise InstallError("venv", f"{python} has no module venv")
    whole = importlib.util.find_spec("ensurepip") is not None
    sent = [path for path in files if path.name == "pip.zip"]
    if not whole and not sent:
        raise InstallError(
            "venv", f"{python} has no module ensurepip, so it cannot make virtual environments"
        )
    call([python, "-m", "venv", *([] if whole else ["--without-pip"]), str(venv)], "venv")
    if not whole:
        # Debian keeps ensurepip in a package of its own; pip itself is plain Python and travelled with us.
        (site,) = venv.glob("lib/python3*/site-packages")
        zipfile.ZipFile(io.BytesIO(sent[0].read_bytes())).extractall(site)


def put_wheels(venv: Path, wheels: list[Path]) -> None:
    """Install the first wheel, its dependencies from the others or the machine's package index."""
    main, *others = wheels
    words = ["install", "--no-input", "--disable-pip-version-check", "--no-warn-script-location", "--quiet"]
    words += ["--retries", "1", "--timeout", "20"]
    if others:
        words += ["--find-links", str(main.parent)]
    python = str(venv / "bin" / "python")
    call([python, "-m", "pip", *words, str(main)], "pip")
    # What was installed must also run here: a wheel for another C library would be noticed only now.
    call([python, "-c", "import computefarm, zmq, msgspec, psutil, yaml, doit"], "pip")


def call(command: list[str], kind: str) -> None:
    """Run a command; raise with the end of what it said when it fails."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PIP_S
    )
    if done.returncode == 0:
        return
    said = done.stdout.decode(errors="replace").strip()
    if "No space left on device" in said:
        kind = "disk"
    elif kind == "pip" and any(text in said for text in NO_INDEX):
        kind = "index"
    raise InstallError(kind, "\n".join(said.splitlines()[-TAIL:]))


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep others from installing in `folder` at the same time."""
    lock = os.open(folder / ".installing", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def sweep(folder: Path, keep: set[str]) -> list[str]:
    """Remove the virtual environments that nobody uses; return their names."""
    gone = []
    for path in sorted(folder.glob("venv-*")):
        if str(path) not in keep and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
            gone.append(path.name)
    return gone
