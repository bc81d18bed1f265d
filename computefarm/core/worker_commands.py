"""What a worker's core asks its shell to do."""

from __future__ import annotations

import msgspec

from computefarm.messages import Digest, Run, TaskKey, ToManager


class Say(msgspec.Struct, frozen=True):
    """Send `message` to the manager."""

    message: ToManager


class Start(msgspec.Struct, frozen=True):
    """Begin this attempt now; report with `begun`, then `ended` or `decline`."""

    run: Run


class Stop(msgspec.Struct, frozen=True):
    """End this attempt's processes; report with `ended` all the same."""

    key: TaskKey
    attempt: int
    reason: str


class Recall(msgspec.Struct, frozen=True):
    """Give this attempt back with `decline` if its first command has not been started; else let it run."""

    key: TaskKey
    attempt: int
    reason: str


class Upload(msgspec.Struct, frozen=True):
    """Send these output blobs on the bulk connection."""

    digests: tuple[Digest, ...]


class Reconnect(msgspec.Struct, frozen=True):
    """Give up this connection, make a new one and say `Hello` on it."""

    reason: str


class LetGo(msgspec.Struct, frozen=True):
    """These attempts' results are given up: the manager has been away for too long."""

    attempts: tuple[tuple[TaskKey, int], ...]
    reason: str


class Quit(msgspec.Struct, frozen=True):
    """The worker's life is over."""

    reason: str
    code: str = ""
    """The `Disconnect` code when the manager refused us; empty for a normal end."""


WorkerCommand = Say | Start | Stop | Recall | Upload | Reconnect | LetGo | Quit
