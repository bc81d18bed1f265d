"""`majordomo status -i` on a terminal: redrawn in place, ended by Ctrl-C, the cursor given back."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import time
from pathlib import Path

from .front_end import MAJORDOMO, environment


def test_status_is_redrawn_until_ctrl_c(tmp_path: Path) -> None:
    env = {**environment(tmp_path / "home"), "TERM": "xterm-256color"}
    for name in ("CI", "NO_COLOR"):
        env.pop(name, None)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*MAJORDOMO, "status", "-i", "0.2"], cwd=tmp_path, env=env, stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        text = read(ours, lambda seen: seen.count("Ctrl-C ends it") >= 3)
        assert text.count("Ctrl-C ends it") >= 3
        assert "no farm is configured" in text
        assert "\x1b[?25l" in text
        process.send_signal(signal.SIGINT)
        text += read(ours, lambda seen: False)
        assert process.wait(20) == 130
        assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l"), "the cursor is back"
        assert "Traceback" not in text
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(ours)


def read(terminal: int, enough: object, patience_s: float = 30.0) -> str:
    """Return what appears until it is enough, or the program has ended."""
    text, deadline = "", time.monotonic() + patience_s
    while not enough(text) and time.monotonic() < deadline:  # type: ignore[operator]
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                text += os.read(terminal, 65536).decode(errors="replace")
            except OSError:
                break
    return text
