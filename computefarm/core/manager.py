"""The task manager's heart: messages, facts and the passing of time in; commands out."""

from __future__ import annotations

from collections.abc import Container

from computefarm.messages import Digest, Explanation, Hello, Pool, Status, TaskKey, ToManager

from .commands import Command, Fact, PeerId


class TaskManager:
    """Decides what runs where; see `receive`, `learn` and `tick`."""

    def __init__(
        self,
        farm: str,
        version: str,
        epoch: str,
        blobs: Container[Digest],
        *,
        heartbeat_s: float = 2.0,
        now: float,
        settle_s: float | None = None,
        wall_offset: float = 0.0,
    ) -> None:
        raise NotImplementedError

    def connect(self, peer: PeerId, role: str, hello: Hello, now: float, *, owner: str = "") -> list[Command]:
        """Make `peer` known; the commands hold the `Welcome`, or a `Disconnect` and a `Drop`."""
        raise NotImplementedError

    def receive(self, peer: PeerId, message: ToManager, now: float) -> list[Command]:
        """Return what to do about one message of the control connection."""
        raise NotImplementedError

    def learn(self, fact: Fact, now: float) -> list[Command]:
        """Return what to do about something the shell found out."""
        raise NotImplementedError

    def tick(self, now: float) -> list[Command]:
        """Return what time alone makes necessary."""
        raise NotImplementedError

    def next_deadline(self) -> float | None:
        """Return when to call `tick`."""
        raise NotImplementedError

    def explain(self, session: str, task: str) -> Explanation:
        """Return what is known of a task, by name or number; an empty session means any."""
        raise NotImplementedError

    def status(self, now: float) -> Status:
        """Return the whole farm at this moment."""
        raise NotImplementedError

    def pools(self) -> tuple[Pool, ...]:
        """Return what live workers offer, counted together."""
        raise NotImplementedError

    def watchers(self, key: TaskKey, attempt: int) -> list[tuple[PeerId, str, int]]:
        """Return `(peer, session, task)` for everybody whose task this attempt runs."""
        raise NotImplementedError
