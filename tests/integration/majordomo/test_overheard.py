"""The embedded farm's own words, in a real run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CAPABILITY = """\
capability: vanishing
summary: A tool that is removed while it is used
worker: shell
probe: {version: {run: [mytool, --version], match: '([0-9.]+)'}}
fingerprint: [mytool]
"""

DODO = """\
from computefarm import needs

def task_use():
    return {"actions": ["mytool --version; rm %s; mytool"], "meta": needs("vanishing", cache=False)}
"""


@pytest.mark.parametrize("reporter", ["farm", "console"])
def test_it_comes_once_through_the_display_and_is_kept(tmp_path: Path, reporter: str) -> None:
    tool = tmp_path / "bin" / "mytool"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho 1.0\n")
    tool.chmod(0o755)
    (tmp_path / "capabilities").mkdir()
    (tmp_path / "capabilities" / "vanishing.yaml").write_text(CAPABILITY)
    (tmp_path / "dodo.py").write_text(DODO % tool)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CF_")}
    environ = {
        **kept, "CF_HOME": str(tmp_path / "h"), "CI": "true",
        "PATH": os.pathsep.join([str(tool.parent), str(Path(sys.executable).parent), kept["PATH"]]),
    }  # fmt: skip
    done = subprocess.run(
        ["majordomo", "run", "--reporter", reporter, "--wait-workers", "1"],
        cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode != 0, done.stdout + done.stderr
    told = [line for line in (done.stdout + done.stderr).splitlines() if "is no longer offered" in line and "probed again" in line]
    assert len(told) == 1, done.stdout + done.stderr
    assert told[0].removeprefix("majordomo: ").startswith("worker: vanishing is no longer offered")
    (log,) = (tmp_path / "h" / "state" / "runs").glob("*/farm.jsonl")
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert [record["level"] for record in records if "no longer offered" in record["msg"]] == ["error"]
