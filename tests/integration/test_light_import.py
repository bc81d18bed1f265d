"""Dodo files import `needs` also under plain doit: it must not bring the farm along."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
before = set(sys.modules)
from computefarm import needs
needs("shell")
print(*sorted(set(sys.modules) - before))
"""


def test_needs_imports_nothing_but_itself() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.split() == ["computefarm", "computefarm.errors", "computefarm.needs"]
