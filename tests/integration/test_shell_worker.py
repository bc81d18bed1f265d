"""The shell plug-in as an author would try it, commands and all."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from computefarm.messages import Action
from computefarm.worker_api.registry import find
from computefarm.worker_api.testing import Ended, run


def shell(directory: Path, *commands: str | tuple[str, ...], **fields: object) -> Ended:
    action = Action(capability="shell", commands=commands, **fields)  # type: ignore[arg-type]
    return run(find("shell"), action, directory)


def test_commands_run_in_order_in_the_directory(tmp_path: Path) -> None:
    ended = shell(tmp_path, "echo one > file; pwd", ("cat", "file"))

    assert (ended.exit_code, ended.stdout) == (0, f"{tmp_path}\none\n")


def test_the_first_failing_line_ends_it(tmp_path: Path) -> None:
    ended = shell(tmp_path, "echo before; false; echo after", "echo never")

    assert (ended.exit_code, ended.stdout) == (1, "before\n")


def test_arguments_are_not_interpreted(tmp_path: Path) -> None:
    assert shell(tmp_path, ("printf", "%s", "$HOME; *")).stdout == "$HOME; *"


def test_the_environment_is_small_and_the_actions_own_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "of the user")

    ended = shell(tmp_path, 'echo "$A $HOME ${SECRET-unset}"', env=(("A", "b"),))

    assert ended.stdout == f"b {tmp_path} unset\n"


def test_signals_and_streams_are_kept_apart(tmp_path: Path) -> None:
    ended = shell(tmp_path, "echo out; echo err >&2; kill -TERM $$")

    assert (ended.exit_code, ended.stdout, ended.stderr) == (-15, "out\n", "err\n")


def test_time_is_limited(tmp_path: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        shell(tmp_path, ("sleep", "60"), timeout_s=0.1)
