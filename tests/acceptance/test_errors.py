"""What a user sees of a run: plain lines of a failing build, a live display on a terminal, the cursor back."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

FAILING = """
    def task_good():
        return {"actions": ["echo fine > good"], "targets": ["good"], "meta": needs("shell")}

    def task_bad():
        return {
            "actions": ["for i in $(seq 40); do echo line $i; done; echo 'bad.c:3:1: error: no' >&2; exit 7"],
            "targets": ["bad"], "meta": needs("shell"),
        }

    def task_after():
        return {"actions": ["true"], "file_dep": ["bad"], "targets": ["x"], "meta": needs("shell")}
"""
SLOW = """
    def task_slow():
        for n in range(3):
            yield {"name": str(n), "actions": ["sleep 30"], "meta": needs("shell", cache=False)}
"""
ESCAPE = "\x1b"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def dodo(project: Path, text: str) -> None:
    (project / "dodo.py").write_text("from computefarm import needs\n" + textwrap.dedent(text))


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, *command: str, cwd: Path, env: dict[str, str]) -> None:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(theirs)
        self._ours = ours
        self.text = ""

    def read(self, until: str = "", patience_s: float = 30) -> str:
        """Read until the text holds `until`, or to the end."""
        deadline = time.monotonic() + patience_s
        while not (until and until in self.text) and time.monotonic() < deadline:
            if select.select([self._ours], [], [], 0.2)[0]:
                try:
                    data = os.read(self._ours, 65536)
                except OSError:
                    break
                if not data:
                    break
                self.text += data.decode(errors="replace")
        return self.text

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._ours, keys)

    def close(self) -> None:
        """End it."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._ours)


def terminal_environ(machine: Any, **more: str) -> dict[str, str]:
    kept = {k: v for k, v in machine.environ.items() if k not in ("CI", "NO_COLOR", "TERM", "CF_PROGRESS")}
    return {**kept, "TERM": "xterm-256color", **more}


def test_a_failing_build_in_plain_lines(machine: Any, project: Path) -> None:
    dodo(project, FAILING)
    text = machine.majordomo("run", "-c", cwd=project, code=1)
    assert ESCAPE not in text
    assert "\r" not in text
    lines = text.splitlines()
    [at] = [n for n, line in enumerate(lines) if line.startswith("!! FAILED bad on ")]
    assert "7" in lines[at]
    below = "\n".join(lines[at:])
    assert "bad.c:3:1: error: no" in below
    assert "line 40" in below
    assert "line 1\n" not in below, "only the last lines are repeated"
    log = next(Path(word) for word in below.split() if word.startswith(str(machine.home)) and "bad" in word)
    assert "line 1\n" in log.read_text()
    assert "1 failed, 1 blocked" in text
    assert "failed: bad" in text
    assert "blocked: after" in text
    assert "Traceback" not in text


@pytest.mark.parametrize("quiet", [{"CI": "true"}, {"TERM": "dumb"}])
def test_no_display_where_it_would_be_noise(quiet: dict[str, str], machine: Any, project: Path) -> None:
    dodo(project, FAILING)
    terminal = Terminal("majordomo", "run", "-c", cwd=project, env=terminal_environ(machine, **quiet))
    try:
        text = terminal.read()
        assert terminal.process.wait(20) == 1
    finally:
        terminal.close()
    assert "!! FAILED bad" in text
    assert "\x1b[?25l" not in text
    assert not re.search(r"\x1b\[\d*[AK]", text), "no cursor movement"
    if "TERM" in quiet:
        assert ESCAPE not in text


def test_no_color_keeps_the_display_and_drops_the_colours(machine: Any, project: Path) -> None:
    dodo(project, FAILING)
    terminal = Terminal("majordomo", "run", "-c", cwd=project, env=terminal_environ(machine, NO_COLOR="1"))
    try:
        text = terminal.read()
        assert terminal.process.wait(20) == 1
    finally:
        terminal.close()
    assert not re.search(r"\x1b\[[\d;]*3[0-7]m|\x1b\[38;", text), "no colour"
    assert "FAILED bad" in text


def test_ctrl_c_on_a_terminal_gives_the_cursor_back(machine: Any, project: Path) -> None:
    dodo(project, SLOW)
    terminal = Terminal("majordomo", "run", "-n", "2", cwd=project, env=terminal_environ(machine))
    try:
        assert "slow:0" in terminal.read("slow:0")
        assert "\x1b[?25l" in terminal.text, "a live display hides the cursor"
        time.sleep(0.5)  # a few frames
        terminal.type(b"\x03")
        text = terminal.read()
        assert terminal.process.wait(20) == 130
    finally:
        terminal.close()
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l")
    assert "Traceback" not in text
    assert "interrupted" in text
