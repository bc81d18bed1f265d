"""The system's `ssh`: one connection that all steps share, and its complaints in words that help."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

import msgspec

from computefarm.errors import FarmError, Refused, Unreachable, UsageError

CONNECT_S = 15
"""For TCP and the greeting; the whole login may take three times as long."""

LOST = 255
"""The exit code with which ssh tells of its own failures."""

_TARGET = re.compile(
    r"(?:ssh://)?[^\s@:/-][^\s@:/]*(?:@[^\s@/-][^\s@/]*)?(?::\d+)?/?|[^\s@:/-][^\s@/]*", re.ASCII
)


class Target(msgspec.Struct, frozen=True):
    """How to log in to one machine."""

    where: str
    """`user@host`, `host` (as in the user's ssh configuration) or `ssh://user@host:port`."""
    config: str = ""
    """A configuration file in place of the user's own."""
    options: tuple[str, ...] = ()
    """As after `ssh -o`."""

    def arguments(self) -> list[str]:
        """Return the words between `ssh` and the host."""
        words = ["-F", self.config] if self.config else []
        for option in self.options:
            words += ["-o", option]
        return words

    def typed(self, program: str = "ssh", *more: str) -> str:
        """Return the command line that a person would type."""
        return shlex.join([*program.split(), *self.arguments(), self.where, *more])

    @property
    def host(self) -> str:
        """Return the host alone: `nn02` of `ssh://alice@nn02:22/`."""
        return self.where.removeprefix("ssh://").rstrip("/").rpartition("@")[2].partition(":")[0]


class Done(msgspec.Struct, frozen=True):
    """How a command there ended."""

    code: int
    out: str
    err: str


def check_target(target: Target) -> Target:
    """Return `target` with absolute paths if it names a machine; raise `UsageError` otherwise."""
    # A leading minus would be taken for an option: `-oProxyCommand=…` runs a command here.
    if _TARGET.fullmatch(target.where) is None:
        raise UsageError(f"not a machine to log in to: {target.where!r}", hint="majordomo host add user@host")
    if not target.config:
        return target
    path = Path(target.config).expanduser().absolute()
    if not path.is_file():
        raise UsageError(f"--ssh-config {target.config}: there is no such file")
    return msgspec.structs.replace(target, config=str(path))


class Connection:
    """A login that stays open, so that every further step costs milliseconds and asks for nothing."""

    def __init__(self, target: Target, program: str = "ssh") -> None:
        self.target = target
        self._program = program
        # The path of a unix socket has room for about 100 characters, so it is not under the user's home.
        self._folder = Path(tempfile.mkdtemp(prefix="cfssh-", dir="/tmp"))
        self._socket = self._folder / "s"
        self._master: subprocess.Popen[bytes] | None = None
        self.login_s = 0.0
        """How long logging in took."""

    def open(self) -> Self:
        """Log in; raise what tells the user how to get in otherwise."""
        began = time.monotonic()
        command = [
            self._program, "-M", "-N", "-T", "-S", str(self._socket),
            "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_S}", "-o", "ServerAliveInterval=15",
            "-o", "ServerAliveCountMax=4", "-o", "ControlPersist=no", "-o", "ClearAllForwardings=yes",
            *self.target.arguments(), self.target.where,
        ]  # fmt: skip
        with (self._folder / "errors").open("wb") as errors:
            try:
                self._master = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    # Ctrl-C is for us to handle: the clean-up there needs the connection.
                    start_new_session=True,
                )
            except FileNotFoundError as error:
                self.close()
                raise UsageError(
                    "there is no ssh on this machine", hint="sudo apt install openssh-client"
                ) from error
        while not self._socket.exists():
            if self._master.poll() is not None:
                raise self._failure(self._master.returncode)
            if time.monotonic() - began > 3 * CONNECT_S:
                raise self._failure(LOST, "it did not finish logging in")
            time.sleep(0.01)
        self.login_s = time.monotonic() - began
        return self

    def run(self, command: str, data: bytes = b"", timeout_s: float = 120.0) -> Done:
        """Run a shell command there with `data` as its input."""
        try:
            done = subprocess.run(self.line(command), input=data, capture_output=True, timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise Unreachable(
                f"{self.target.where} did not answer within {timeout_s:.0f} s",
                hint=self.target.typed("ssh", "true") + "    # does it still answer?",
            ) from error
        err = done.stderr.decode(errors="replace")
        if done.returncode == LOST or done.returncode < 0:
            raise Unreachable(
                f"the connection to {self.target.where} was lost; ssh says: {own_words(err)}",
                hint=self.target.typed("ssh", "true") + "    # does it answer? then the same command again",
            )
        return Done(code=done.returncode, out=done.stdout.decode(errors="replace"), err=err)

    def line(self, command: str) -> list[str]:
        """Return the argv that runs `command` through the open connection."""
        words = [self._program, "-T", "-S", str(self._socket), "-o", "BatchMode=yes"]
        words += ["-o", "ControlMaster=no"]
        return [*words, *self.target.arguments(), self.target.where, command]

    def close(self) -> None:
        """Log out."""
        if self._master is not None:
            self._master.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._master.wait(5)
            if self._master.poll() is None:
                self._master.kill()
                self._master.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _failure(self, code: int, text: str = "") -> FarmError:
        said = (self._folder / "errors").read_text(errors="replace")
        self.close()
        return explain(self.target, said or text or f"ssh ended with exit {code}")

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()


def tunnel_line(target: Target, port: int, host: str, to_port: int, program: str = "ssh") -> list[str]:
    """Return the ssh that lets processes there reach `host`:`to_port` of here at 127.0.0.1:`port`."""
    way = f"127.0.0.1:{port}:{f'[{host}]' if ':' in host else host}:{to_port}"
    path = shutil.which(program) or program
    return [
        path, "-N", "-T", "-S", "none", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes",
        "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3", "-o", f"ConnectTimeout={CONNECT_S}",
        "-o", "ControlMaster=no", *target.arguments(), "-R", way, target.where,
    ]  # fmt: skip


_NOISE = re.compile(r"Warning: Permanently added|^\*\*|^@@|^$|^Control socket|^mux_client|^debug1")


def own_words(said: str) -> str:
    """Return the line of ssh's that tells most: the last one that is not noise."""
    lines = [line.strip() for line in said.replace("\r", "").splitlines() if not _NOISE.search(line.strip())]
    return lines[-1] if lines else "it ended without a word"


def explain(target: Target, said: str) -> FarmError:
    """Return what to tell of a login that failed: ssh's own words, and the next command to type."""
    words = own_words(said)
    text = f"cannot log in to {target.where}: ssh says: {words}"
    if "IDENTIFICATION HAS CHANGED" in said:
        return Refused(
            f"{target.where} shows another host key than the last time: it was installed anew, or somebody "
            f"poses as it. ssh says: {words}",
            hint=f"ssh-keygen -R {shlex.quote(target.host)}    # only if you know why it changed; then: "
            + target.typed("ssh", "true"),
        )
    if "Host key verification failed" in said:
        return Refused(
            f"the host key of {target.where} is not known here yet. ssh says: {words}",
            hint=target.typed("ssh", "true") + "    # shows its fingerprint; accept it if it is right",
        )
    if "Permission denied" in said or "Too many authentication failures" in said:
        key = "" if _has_key() else "ssh-keygen -t ed25519 && "
        return Refused(
            f"{text}\n  a key is needed that works without typing a password",
            hint=f"{key}{target.typed('ssh-copy-id')}    # if your key has a passphrase: ssh-add",
        )
    if re.search(r"Bad configuration|command-line line|no argument after|Can't open user", said):
        return UsageError(text, hint="man ssh_config")
    if "resolve hostname" in said:
        return Unreachable(text, hint=f"getent hosts {shlex.quote(target.host)}    # is the name right?")
    if "Connection refused" in said:
        return Unreachable(text, hint="sudo apt install openssh-server    # there; or say -o Port=N")
    return Unreachable(text, hint=target.typed("ssh -v", "true"))


def _has_key() -> bool:
    return any(Path(os.path.expanduser("~/.ssh")).glob("id_*.pub"))
