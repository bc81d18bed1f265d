"""Start majordomo as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def majordomo(folder: Path, *arguments: str, code: int = 0) -> str:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("CF_", "DOIT_"))}
    env["CF_HOME"] = str(folder.parent / "home")
    command = [sys.executable, "-m", "computefarm.cli.majordomo", *arguments]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr
