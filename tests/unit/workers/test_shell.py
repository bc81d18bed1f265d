from __future__ import annotations

import pytest

from computefarm.messages import Action
from computefarm.worker_api.contract import CommandPlugin, TaskContext
from computefarm.worker_api.registry import find


@pytest.fixture
def shell() -> CommandPlugin:
    return find("shell")


def test_text_goes_to_the_shell_and_vectors_stay_as_they_are(shell: CommandPlugin) -> None:
    action = Action(capability="gcc", commands=("a; b", ("gcc", "-c", "a b.c")))

    assert shell.commands(action, TaskContext("/somewhere")) == (
        ("/bin/sh", "-e", "-c", "a; b"),
        ("gcc", "-c", "a b.c"),
    )


def test_no_commands_no_vectors(shell: CommandPlugin) -> None:
    assert shell.commands(Action(capability="shell", commands=()), TaskContext("/somewhere")) == ()
