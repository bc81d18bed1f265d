"""What a run prints where there is no terminal: fifty tasks, one failure, warnings; as from cron."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DODO = """\
from pathlib import Path
from computefarm import needs

def task_compile():
    for source in sorted(Path("src").glob("*.c")):
        made = f"build/{source.stem}.o"
        yield {
            "name": source.stem,
            "actions": [f"gcc -Wall -c {source} -o {made}"],
            "file_dep": [str(source)],
            "targets": [made],
            "meta": needs("gcc"),
        }

def task_flood():
    return {
        "actions": ["for i in $(seq 10000); do echo src/a.c:$i:3: error: number $i; done; exit 3"],
        "meta": needs("gcc", cache=False),
    }
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("NOT TESTED: gcc is not installed")
    (tmp_path / "src").mkdir()
    for number in range(48):
        (tmp_path / "src" / f"f{number:02}.c").write_text(f"int f{number}(void) {{ return {number}; }}\n")
    (tmp_path / "src" / "bad.c").write_text("int bad(void) { return nothing; }\n")
    (tmp_path / "src" / "warn.c").write_text("int warn(void) { int unused; return 1; }\n")
    (tmp_path / "dodo.py").write_text(DODO)
    return tmp_path


def bare(project: Path) -> dict[str, str]:
    """Return cron's environment: no TERM, no DISPLAY, no language."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "HOME": str(project), "CF_HOME": str(project / "h")}


def test_from_cron_every_task_is_one_line_and_a_failure_is_a_block(project: Path) -> None:
    done = subprocess.run(
        ["majordomo", "run", "-c", "compile"], cwd=project, env=bare(project), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert "\x1b" not in done.stdout
    assert sorted(line for line in lines if line.startswith(".  ")) == sorted(
        [".  compile:bad", ".  compile:warn", *(f".  compile:f{number:02}" for number in range(48))]
    )
    start = next(i for i, line in enumerate(lines) if line.startswith("!! FAILED compile:bad on "))
    assert re.match(r"   src/bad\.c:1:\d+: error: .nothing. undeclared", lines[start + 1]), lines[start : start + 3]
    path = next(line for line in lines[start:] if line.startswith("   full log: ")).partition(": ")[2]
    assert "undeclared" in Path(path).read_text()
    assert any(line == ">> compile:warn: 1 warning" for line in lines)
    assert "2 warnings in 2 tasks: majordomo logs --level warning" in lines
    assert lines[-1].startswith("logs: ")


def test_a_failure_of_ten_thousand_lines_is_a_page(project: Path) -> None:
    done = subprocess.run(
        ["majordomo", "run", "flood"], cwd=project, env=bare(project), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert "   src/a.c:1:3: error: number 1" in lines
    assert any("more errors: majordomo logs flood --level error" in line for line in lines)
    assert "   | src/a.c:10000:3: error: number 10000" in lines
    assert len(lines) < 40


def test_on_a_terminal_a_failure_stays_whole_above_the_display(project: Path) -> None:
    ours, theirs = pty.openpty()
    environ = {**bare(project), "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    process = subprocess.Popen(
        ["majordomo", "run", "-c", "-n", "2"], cwd=project, env=environ, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    text = b""
    try:
        while data := os.read(ours, 65536):
            text += data
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(ours)
    assert process.wait(60) == 1, text.decode()
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text.decode()).replace("\r", "")
    block = re.search(r"!! FAILED flood on .*?   full log: \S+/flood\.log\n", plain, re.DOTALL)
    assert block is not None, plain[-3000:]
    assert "tasks:" not in block[0], "the display does not come in between"
    assert plain.rstrip().splitlines()[-1].startswith("logs: ")
