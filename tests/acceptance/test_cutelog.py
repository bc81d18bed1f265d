"""The real log window, on a display of its own: what arrives, what it shows, what it cannot harm."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from computefarm.logs.window.cutelog import HOST, NoWindow, Window, open_window, running
from computefarm.logs.window.forwarder import Forwarder

ROOT = Path(__file__).parents[2]
DRIVEN = Path(__file__).with_name("cutelog_driven.py")
PICTURE = ROOT / "docs" / "pictures" / "cutelog.png"


def until(condition: Callable[[], Any], patience_s: float = 30.0) -> Any:
    deadline = time.monotonic() + patience_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
    return value


@pytest.fixture(scope="session")
def gui_python() -> str:
    """The Python of an environment with cutelog, made once: its Qt does not belong into ours."""
    folder = ROOT / "build" / "gui"
    python = folder / "bin" / "python"
    if not (folder / "bin" / "cutelog").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        wanted = ["cutelog==2.2.0", "PyQt5", "setuptools<81"]
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "-q", *wanted]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"cutelog cannot be installed here: {done.stderr.strip()[-300:]}")
    return str(python)


@pytest.fixture(scope="session")
def display() -> Iterator[str]:
    if shutil.which("Xvfb") is None:
        pytest.skip("Xvfb is not installed (Debian: sudo apt install xvfb)")
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1200x640x24", "-nolisten", "tcp"]
    process = subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        number = pipe.readline().strip()
    assert number, "Xvfb did not start"
    yield f":{number}"
    process.terminate()
    process.wait()


class Driven:
    """A running window and the hand in it."""

    def __init__(self, folder: Path, window: Window) -> None:
        self.folder = folder
        self.window = window
        self._numbers = itertools.count()

    def do(self, what: str, **arguments: object) -> Any:
        stem = self.folder / str(next(self._numbers))
        part = stem.with_suffix(".new")
        part.write_text(json.dumps({"do": what, **arguments}))
        part.rename(stem.with_suffix(".ask"))
        answer = stem.with_suffix(".answer")
        until(answer.exists)
        return json.loads(answer.read_text())


def environment(display: str, folder: Path, program: str) -> dict[str, str]:
    """Return what a window needs and nothing of the user's own settings."""
    return {
        "PATH": os.environ["PATH"], "DISPLAY": display, "HOME": str(folder), "LANG": "C.UTF-8",
        "XDG_CONFIG_HOME": str(folder), "XDG_RUNTIME_DIR": str(folder), "CF_CUTELOG": program,
        "CF_TEST_CUTELOG": str(folder),
    }  # fmt: skip


@pytest.fixture
def surroundings(tmp_path: Path, display: str, gui_python: str) -> dict[str, str]:
    """The environment in which `CF_CUTELOG` is a cutelog with a hand in it."""
    program = tmp_path / "cutelog"
    program.write_text(f'#!/bin/sh\nexec {gui_python} {DRIVEN} "$@"\n')
    program.chmod(0o755)
    tmp_path.chmod(0o700)
    return environment(display, tmp_path, str(program))


@pytest.fixture
def driven(surroundings: dict[str, str], tmp_path: Path) -> Iterator[Driven]:
    window = open_window(surroundings, tmp_path / "log", reuse=False)
    yield Driven(tmp_path, window)
    window.close()


def record(number: int, *, level: str = "info", name: str = "farm.r1.nn02.gcc", **more: object) -> dict[str, object]:
    return {"created": 1_790_000_000 + number / 10, "level": level, "name": name, "msg": f"line {number}",
            "task": f"compile:{number}", "attempt": 1, "host": "nn02", "stream": 1, "seq": number, **more}  # fmt: skip


def test_it_listens_on_loopback_only_and_shows_tree_levels_and_records(driven: Driven, display: str) -> None:
    assert driven.window.process is not None
    process = psutil.Process(driven.window.process.pid)
    listening = [
        connection.laddr
        for each in [process, *process.children(recursive=True)]
        for connection in each.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert [(address.ip, address.port) for address in listening] == [(HOST, driven.window.port)]

    forwarder = Forwarder(HOST, driven.window.port, alive=driven.window.alive)
    texts = {
        "farm.r1.nn02.gcc": [
            ("info", "compiled lvm.c", {}),
            ("warning", "unused variable 'z' [-Wunused-variable]", {"file": "src/lvm.c", "line": 36, "column": 7}),
            ("error", "expected ';' before '}' token", {"file": "src/lapi.c", "line": 112, "column": 3}),
        ],
        "farm.r1.nn03.latex": [("warning", "Reference `fig:load' on page 3 undefined", {"file": "book.tex", "line": 80})],
        "farm.r1.nn03.shell": [("info", "plot written to build/load.svg", {})],
    }
    number = 0
    for _ in range(4):
        for name, lines in texts.items():
            for level, text, more in lines:
                forwarder.put(record(number, level=level, name=name, host=name.split(".")[2]) | {"msg": text} | more)
                number += 1
    shown = until(lambda: (rows := driven.do("rows")) and len(rows) == number and rows)
    assert {row[0] for row in shown} == {"INFO", "WARNING", "ERROR"}
    assert driven.do("tabs") == 1
    assert set(driven.do("tree")) >= {"farm.r1.nn02.gcc", "farm.r1.nn03.latex", "farm.r1.nn03.shell", "farm.r1.nn02"}

    assert driven.do("click_level", level="INFO")
    assert {row[0] for row in driven.do("rows")} == {"WARNING", "ERROR"}
    assert driven.do("click_level", level="INFO")
    assert len(driven.do("rows")) == number
    forwarder.close()
    _photograph(driven, display)


def _photograph(driven: Driven, display: str) -> None:
    """Check that there is a picture; keep it for the docs when asked to."""
    program = shutil.which("import")
    if program is None:
        print("no screenshot was taken: ImageMagick is not installed (Debian: sudo apt install imagemagick)")
        return
    driven.do("size", width=1200, height=640)
    picture = driven.folder / "cutelog.png"
    command = [program, "-window", "root", "+dither", "-colors", "48", str(picture)]

    def taken() -> bool:
        subprocess.run(command, env={**os.environ, "DISPLAY": display}, check=True)
        return picture.stat().st_size > 8_000  # a blank screen is some hundred bytes

    until(taken)
    if os.environ.get("CF_KEEP_PICTURES"):
        PICTURE.parent.mkdir(exist_ok=True)
        shutil.copyfile(picture, PICTURE)


def test_freezing_stalls_nobody_and_the_gap_is_shown(driven: Driven) -> None:
    assert driven.window.process is not None
    forwarder = Forwarder(HOST, driven.window.port, capacity=200, alive=driven.window.alive)
    forwarder.put(record(0))
    until(lambda: len(driven.do("rows")) == 1)
    driven.window.process.send_signal(signal.SIGSTOP)
    slowest = 0.0
    try:
        for number in range(1, 60_000):
            before = time.perf_counter()
            forwarder.put(record(number))
            slowest = max(slowest, time.perf_counter() - before)
        until(lambda: forwarder.dropped > 0)
    finally:
        driven.window.process.send_signal(signal.SIGCONT)
    print(f"slowest put {slowest * 1e3:.1f} ms; {forwarder.dropped} given up")
    rows = until(lambda: (rows := driven.do("rows")) and any(row[2] == "line 59999" for row in rows) and rows)
    gaps = [row[2] for row in rows if "not shown" in (row[2] or "")]
    assert sum(int(gap.split()[0]) for gap in gaps) == forwarder.dropped
    forwarder.close()


def test_closing_it_ends_the_forwarding_and_nothing_else(driven: Driven) -> None:
    forwarder = Forwarder(HOST, driven.window.port, alive=driven.window.alive)
    forwarder.put(record(0))
    until(lambda: len(driven.do("rows")) == 1)
    driven.window.close()
    until(lambda: forwarder.put(record(1)) or forwarder.ended.is_set())
    forwarder.close()


def test_one_that_runs_already_is_used_if_it_is_on_loopback(
    display: str, gui_python: str, tmp_path: Path
) -> None:
    program = str(Path(gui_python).with_name("cutelog"))
    tmp_path.chmod(0o700)
    env = environment(display, tmp_path, program)
    if running() is not None:
        pytest.skip("this user has a cutelog open")
    first = open_window(env, tmp_path / "log")
    try:
        second = open_window(env, tmp_path / "log")
        assert (second.port, second.process) == (first.port, None)
        second.close()
        assert first.alive()
    finally:
        first.close()
    assert running() is None


def test_what_is_missing_is_said_with_what_to_type(surroundings: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(NoWindow) as caught:
        open_window({**surroundings, "DISPLAY": ""}, tmp_path, reuse=False)
    assert "no display" in str(caught.value)
    assert "majordomo logs -f" in (caught.value.hint or "")
    with pytest.raises(NoWindow) as caught:
        open_window({**surroundings, "CF_CUTELOG": "/nonexistent"}, tmp_path, reuse=False)
    assert "pip install 'computefarm[gui]'" in (caught.value.hint or "")
    with pytest.raises(NoWindow) as caught:
        open_window({**surroundings, "DISPLAY": ":4711"}, tmp_path, reuse=False)
    assert "display" in str(caught.value)


def test_a_display_that_refuses_leaves_no_process(surroundings: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(NoWindow):
        open_window({**surroundings, "DISPLAY": ":4711"}, tmp_path, reuse=False)
    assert not [p for p in psutil.Process().children(recursive=True) if str(DRIVEN) in p.cmdline()]
