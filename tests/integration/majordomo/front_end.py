"""Start stock doit and majordomo as a user does, in folders and homes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

import computefarm

PACKAGE_ROOT = Path(computefarm.__file__).parent.parent

MAJORDOMO = (sys.executable, "-m", "computefarm.cli.majordomo")
DOIT = (sys.executable, "-m", "doit")
WITH_DOUBLE = (
    sys.executable,
    "-c",
    """
import sys
from computefarm.majordomo.app import MajorDomo
from computefarm.majordomo.command_run import Context, Run
from computefarm.testing.backend import FolderBackend

class Double(Context):
    def backend(self, **options):
        return FolderBackend(slots=options["slots"] or 2)

Run.context = Double()
sys.exit(MajorDomo().run(sys.argv[1:]))
""",
)
"""majordomo with a backend that needs neither a manager nor a probe."""


class Ran(msgspec.Struct):
    """What a command did."""

    code: int
    out: str
    err: str


def environment(home: Path, **more: str) -> dict[str, str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("CF_", "DOIT_"))}
    env |= {"CF_HOME": str(home), "PYTHONPATH": str(PACKAGE_ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return {**env, "PYTHONWARNINGS": "", **more}


def run(program: tuple[str, ...], *arguments: str, folder: Path, env: Mapping[str, str] | None = None) -> Ran:
    done = subprocess.run(
        [*program, *arguments],
        cwd=folder,
        env=dict(env) if env is not None else environment(folder.parent / "home"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    return Ran(done.returncode, done.stdout, done.stderr)
