"""How benchmarks start the commands: in homes of their own."""

from __future__ import annotations

import os
from pathlib import Path

import computefarm


def environment(home: Path) -> dict[str, str]:
    """Return an environment without anything of the user's own farm."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("CF_", "DOIT_", "PYTHON"))}
    # Compiled modules are kept, as an installation has them, but not in anybody's source tree.
    cache = {"PYTHONPYCACHEPREFIX": str(home / "pycache")}
    return {**env, **cache, "CF_HOME": str(home), "PYTHONPATH": str(Path(computefarm.__file__).parent.parent)}
