"""What both backends share: questions that are answered or never will be, and a last word in a hurry."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast

import pytest

from computefarm.backends.bridge import Bridge, ClientBackend
from computefarm.errors import Refused
from computefarm.messages import Answer
from computefarm.services.client import ClientService


class Client:
    """Records what it is told; calls are run when the test turns the loop."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.calls: list[Callable[[], None]] = []

    def ask(self, about: str, task: str, then: Callable[[Answer], None], session: str | None = None) -> None:
        self.said.append((about, task, session))
        if about == "status":
            then(Answer(1))

    def cancel(self, tasks: tuple[int, ...], reason: str) -> None:
        self.call(lambda: self.said.append(("cancelled", tasks, reason)))

    def call(self, function: Callable[[], None]) -> None:
        self.calls.append(function)

    def turn(self) -> None:
        """Run what was called before this turn, as the loop does."""
        calls, self.calls = self.calls, []
        for function in calls:
            function()
        self.said.append("flushed")


class Backend(ClientBackend):
    name = "test"

    def __init__(self) -> None:
        self.client = Client()
        self._client = cast(ClientService, self.client)
        self._bridge = Bridge(lambda event: None)


def test_an_answer_is_returned() -> None:
    backend = Backend()
    assert backend.question("status", session="r1") == Answer(1)
    assert backend.client.said == [("status", "", "r1")]


def test_who_waits_for_an_answer_hears_at_once_that_none_will_come() -> None:
    backend = Backend()
    waiting = threading.Timer(0.05, lambda: backend._bridge.broken(Refused("your key is not known")))
    waiting.start()
    with pytest.raises(Refused):
        backend.question("explain")
    waiting.join()
    with pytest.raises(Refused):
        backend.question("explain")
    assert not backend._bridge.waiting


def test_a_process_that_ends_at_once_waits_until_its_word_has_left() -> None:
    backend = Backend()
    leaving = threading.Thread(target=backend.abandon)
    leaving.start()
    while not backend.client.calls:
        pass
    while leaving.is_alive():
        backend.client.turn()
        leaving.join(0.01)
    said = backend.client.said
    assert said[0] == ("cancelled", (), "interrupted")
    assert "flushed" in said[1:]
