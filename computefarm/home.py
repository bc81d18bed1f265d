"""Where ComputeFarm keeps its files, who may read them, and which machine this is."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import msgspec

from computefarm.errors import FarmError, Refused, SettingsError

APPLICATION = "computefarm"
MACHINE_ID_FILES = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))


class Home(msgspec.Struct, frozen=True):
    """The three folders of one user on one machine (or of one `CF_HOME`)."""

    config: Path
    """What the user decided: farms, keys, `config.toml`, own capabilities."""
    state: Path
    """What must survive a restart: journal, history, logs."""
    cache: Path
    """What can be fetched or made again."""

    @classmethod
    def find(cls, environ: Mapping[str, str]) -> Self:
        """Return the folders that `environ` names; nothing is created.

        `CF_HOME=DIR` puts all three under `DIR`; otherwise the XDG layout holds on every Unix.
        """
        if base := environ.get("CF_HOME", ""):
            root = Path(os.path.abspath(Path(base).expanduser()))
            return cls(config=root / "config", state=root / "state", cache=root / "cache")
        return cls(
            config=_xdg(environ, "XDG_CONFIG_HOME", ".config"),
            state=_xdg(environ, "XDG_STATE_HOME", ".local/state"),
            cache=_xdg(environ, "XDG_CACHE_HOME", ".cache"),
        )


def _xdg(environ: Mapping[str, str], variable: str, default: str) -> Path:
    base = environ.get(variable, "")
    # The XDG specification: a relative path is invalid and to be ignored.
    if base.startswith("/"):
        return Path(base) / APPLICATION
    user = environ.get("HOME", "") or os.path.expanduser("~")
    if not user.startswith("/"):
        raise SettingsError("this user has no home folder", hint="set CF_HOME to a folder of your own")
    return Path(user) / default / APPLICATION


def private_folder(path: Path) -> Path:
    """Make `path` a folder that only its owner may enter (0700), parents included, and return it.

    An existing folder of ours is narrowed; one of somebody else is refused.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = path.stat()
        if facts.st_uid != os.geteuid():
            raise Refused(
                f"{path} belongs to another user (uid {facts.st_uid})",
                hint=f"sudo chown {os.geteuid()} {path}",
            )
        if stat.S_IMODE(facts.st_mode) & 0o077:
            path.chmod(0o700)
    except OSError as error:
        raise FarmError(f"cannot make the folder {path}: {error.strerror}") from error
    return path


def write_secret(path: Path, data: bytes) -> None:
    """Put `data` at `path` with mode 0600: all of it or nothing, and never readable by others in between."""
    write_file(path, data, mode=0o600)


def write_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Put `data` at `path` in one step; readers see the old content or the new one."""
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(file.fileno(), mode)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise FarmError(f"cannot write {path}: {error.strerror}") from error


def check_secret(path: Path) -> None:
    """Refuse a secret file or folder that others may read or change, or that another user owns."""
    try:
        facts = path.stat()
    except OSError as error:
        raise Refused(f"cannot read {path}: {error.strerror}") from error
    if facts.st_uid != os.geteuid():
        raise Refused(
            f"{path} belongs to another user (uid {facts.st_uid}), so its secret may not be ours alone",
            hint=f"sudo chown {os.geteuid()} {path}",
        )
    mode = stat.S_IMODE(facts.st_mode)
    if mode & 0o077:
        right = 0o700 if stat.S_ISDIR(facts.st_mode) else 0o600
        raise Refused(
            f"{path} has mode {mode:04o}: other users of this machine can get at the secret in it",
            hint=f"chmod {right:o} {path}",
        )


def hostname() -> str:
    """Return this machine's name, without its domain."""
    return socket.gethostname().split(".", 1)[0] or "localhost"


def host_id(home: Home) -> str:
    """Return 16 hex digits that name this machine together with this `home`, the same on every call."""
    text = f"{_machine_id(home)}\n{home.state}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _machine_id(home: Home) -> str:
    for path in MACHINE_ID_FILES:
        with contextlib.suppress(OSError):
            if text := path.read_text().strip():
                return text
    return _io_platform_uuid() or _random_id(home)


def _io_platform_uuid() -> str:
    """Return macOS's machine id, or the empty string elsewhere."""
    program = shutil.which("ioreg")
    if program is None:
        return ""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        answer = subprocess.run(
            [program, "-rd1", "-c", "IOPlatformExpertDevice"], capture_output=True, text=True, timeout=5
        )
        for line in answer.stdout.splitlines():
            if "IOPlatformUUID" in line:
                return line.rpartition("=")[2].strip().strip('"')
    return ""


def _random_id(home: Home) -> str:
    """Return an id kept in the state folder, for machines that have none of their own."""
    path = private_folder(home.state) / "machine-id"
    for _ in range(2):
        with contextlib.suppress(OSError):
            if text := path.read_text().strip():
                return text
        # Two processes may start at once: whoever links first decides for both.
        mine = path.with_name(f".machine-id.{os.getpid()}")
        write_file(mine, secrets.token_hex(16).encode() + b"\n")
        with contextlib.suppress(FileExistsError):
            os.link(mine, path)
        mine.unlink()
    return path.read_text().strip()
