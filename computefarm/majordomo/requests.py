"""What other processes of this user ask of a run on this machine: small files in the state folder.

A run looks for requests twice a second and answers each with a file beside it.
So a run can be cancelled that has no farm, and one whose farm does not answer.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from computefarm.home import hostname, private_folder, write_secret

FOLDER = "requests"
"""Name inside the state folder."""

ASKED, ANSWERED = ".ask", ".answer"


class Request(msgspec.Struct, frozen=True):
    """Cancel these tasks, or the whole run."""

    run: str
    tasks: tuple[str, ...] = ()
    """Names of tasks or groups; all when empty."""
    by: str = ""
    """Who asks, for people."""


class Reply(msgspec.Struct, frozen=True):
    """What became of a request."""

    cancelled: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    """Names that no unfinished task has."""
    refused: tuple[str, ...] = ()
    """Tasks that run in the run's own process, and end only with it."""
    unfinished: tuple[str, ...] = ()
    """What runs or waits, when something was unknown or refused."""


class Inbox:
    """The requests to one run."""

    def __init__(self, state: Path | None, run: str) -> None:
        """`state` is the state folder; None for a run that nobody can ask anything."""
        self._folder = state / FOLDER if state is not None else None
        self._run = run

    def take(self) -> list[tuple[str, Request]]:
        """Return new requests with the names to answer them under; what cannot be read is removed."""
        if self._folder is None:
            return []
        try:
            names = os.listdir(self._folder)
        except OSError:
            return []  # nobody has ever asked anything
        found = []
        for name in names:
            if name.startswith(f"{self._run}.") and name.endswith(ASKED):
                path = self._folder / name
                with contextlib.suppress(OSError, msgspec.MsgspecError):
                    found.append(
                        (name.removesuffix(ASKED), msgspec.json.decode(path.read_bytes(), type=Request))
                    )
                with contextlib.suppress(OSError):
                    path.unlink()
        return found

    def answer(self, name: str, reply: Reply) -> None:
        """Answer the request of this name; who asked may have gone."""
        if self._folder is not None:
            with contextlib.suppress(Exception):  # a full disk must not end the run that is being cancelled
                write_secret(self._folder / f"{name}{ANSWERED}", msgspec.json.encode(reply))


def ask(
    state: Path, request: Request, *, going: Callable[[], bool], patience_s: float, late: Callable[[], None]
) -> Reply | None:
    """Hand a request to a run and wait for its answer; None when it gives none.

    `going` says whether the run's process is still there; `late` is called once, half-way through the wait.
    """
    folder = private_folder(state / FOLDER)
    name = f"{request.run}.{secrets.token_hex(4)}"
    asked, answered = folder / f"{name}{ASKED}", folder / f"{name}{ANSWERED}"
    write_secret(asked, msgspec.json.encode(request))
    begun, told = time.monotonic(), False
    try:
        while True:
            there = going()
            with contextlib.suppress(FileNotFoundError):
                return msgspec.json.decode(answered.read_bytes(), type=Reply)
            waited = time.monotonic() - begun
            if not there or waited >= patience_s:
                return None
            if not told and waited >= patience_s / 2:
                told = True
                late()
            time.sleep(0.02)
    finally:
        for path in (asked, answered):
            path.unlink(missing_ok=True)


def somebody() -> str:
    """Return who this process works for, as people say it: `user@machine`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid {os.geteuid()}"
    return f"{user}@{hostname()}"
