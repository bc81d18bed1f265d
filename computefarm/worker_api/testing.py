"""Try one plug-in on one action, for plug-in authors.

    from computefarm.worker_api.testing import run

    def test_my_plugin(tmp_path):
        ended = run(MyPlugin(), Action(capability="mine", commands=("render scene",)), tmp_path)
        assert ended.exit_code == 0

No farm is involved: inputs are files the test has put into the directory.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import msgspec

from .contract import Action, CommandPlugin, TaskContext


class Ended(msgspec.Struct, frozen=True):
    """How the action ended."""

    exit_code: int
    """Of the command that ended it; negative is a signal, as in `subprocess`."""
    stdout: str
    stderr: str
    commands: tuple[tuple[str, ...], ...]
    """What the plug-in asked for."""


def run(
    plugin: CommandPlugin,
    action: Action,
    directory: Path,
    *,
    environ: Mapping[str, str] | None = None,
    timeout_s: float = 60.0,
) -> Ended:
    """Run `action` in `directory` as `plugin` says; the first failing command ends it.

    Raises `subprocess.TimeoutExpired` when one command takes longer than the action's limit or `timeout_s`.
    """
    surroundings = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(directory),
        "TMPDIR": str(directory),
        "LANG": "C.UTF-8",
        **dict(action.env),
        **(environ or {}),
    }
    commands = plugin.commands(action, TaskContext(directory=str(directory)))
    out, err, code = "", "", 0
    for command in commands:
        done = subprocess.run(
            command,
            cwd=directory,
            env=surroundings,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=action.timeout_s or timeout_s,
            check=False,
        )
        out, err, code = out + done.stdout, err + done.stderr, done.returncode
        if code != 0:
            break
    return Ended(exit_code=code, stdout=out, stderr=err, commands=commands)
