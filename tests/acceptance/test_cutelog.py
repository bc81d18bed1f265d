"""The real log window, on a display of its own: what arrives, what it shows, what it cannot harm."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
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


def test_it_listens_on_loopback_only_and_shows_tree_levels_and_records(driven: Driven) -> None:
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


def _photograph(driven: Driven, display: str) -> None:
    """Check that there is a picture; keep it for the docs when asked to."""
    program = shutil.which("import")
    if program is None:
        print("no screenshot was taken: ImageMagick is not installed (Debian: sudo apt install imagemagick)")
        return
    for _ in range(20):  # a window manager would do it at once; without one Qt takes some turns to paint
        driven.do("size", width=1200, height=640)
    picture = driven.folder / "cutelog.png"
    command = [program, "-window", "root", "+dither", "-colors", "32", f"PNG8:{picture}"]

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


# --- the real command ---

DODO = '''
from pathlib import Path
from computefarm import needs

def task_compile():
    for source in sorted(Path("src").glob("*.c")):
        made = f"build/{source.stem}.o"
        yield {
            "name": source.stem,
            "actions": [f"gcc -Wall -Iinclude -c {source} -o {made}"],
            "file_dep": [str(source)],
            "targets": [made],
            "meta": needs("gcc", inputs=["include/*.h"]),
        }

def task_plot():
    return {"actions": ["echo plotting; sleep 0.2; echo plot written to build/load.svg"], "meta": needs("shell")}

def task_chatter():
    return {
        "actions": ["i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo line $i of much talk; sleep 0.01; done"],
        "meta": needs("shell", cache=False),
    }
'''

SOURCES = {
    "include/shape.h": "int area(int width, int height);\n",
    "src/area.c": '#include "shape.h"\nint area(int width, int height) { return width * height; }\n',
    "src/circle.c": '#include "shape.h"\nint circle(int r) { int unused; return area(r, r) * 3; }\n',
    "src/square.c": '#include "shape.h"\nint square(int s) {\n    int area_of_it = area(s, s)\n    return area_of_it;\n}\n',
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small C project with one warning and one error."""
    if shutil.which("gcc") is None:
        pytest.skip("NOT TESTED: gcc is not installed")
    folder = tmp_path / "project"
    for name, text in {**SOURCES, "dodo.py": DODO}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


class Session:
    """Starts majordomo in a project; whatever window it opens has a hand in it, and ends with the test."""

    def __init__(self, folder: Path, surroundings: dict[str, str], project: Path) -> None:
        self.folder = folder
        self.project = project
        kept = {k: v for k, v in os.environ.items() if not k.startswith("CF_") and k not in surroundings}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environ = {**kept, **surroundings, "PATH": path, "CF_HOME": str(folder / "h"), "CI": "true"}

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["majordomo", *words], cwd=self.project, env=self.environ, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def finish(self, process: subprocess.Popen[str]) -> str:
        """Wait for the end; return what was printed."""
        return process.communicate(timeout=120)[0]

    def windows(self) -> list[psutil.Process]:
        """Return the windows of this test: they outlive the run."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            if str(DRIVEN) in (process.info["cmdline"] or []):
                with contextlib.suppress(psutil.Error):
                    if process.environ().get("CF_TEST_CUTELOG") == str(self.folder):
                        found.append(process)
        return found

    def window(self) -> psutil.Process:
        return until(self.windows)[0]

    def driven(self) -> Driven:
        """Return a hand in the window that is open."""
        return Driven(self.folder, Window(0))

    def log(self, task: str) -> str:
        """Return what is in the files of the last run of a task."""
        found = sorted((self.folder / "h" / "state" / "runs").glob(f"*/logs/{task}.log"))
        return found[-1].read_text() if found else ""


@pytest.fixture
def session(surroundings: dict[str, str], tmp_path: Path, project: Path) -> Iterator[Session]:
    made = Session(tmp_path, surroundings, project)
    yield made
    for process in made.windows():
        process.kill()


def test_a_run_shows_itself_in_the_window_which_stays_open(session: Session, display: str) -> None:
    text = session.finish(process := session.start("run", "-c", "--gui", "compile", "plot"))
    assert process.returncode == 1, text
    assert re.search(r"^   src/square.c:\d+:\d+: error: expected", text, re.MULTILINE)
    assert "3 warnings in 2 tasks: majordomo logs --level warning" in text
    assert "the log window stays open" in text

    driven = session.driven()
    rows = until(lambda: (rows := driven.do("rows")) and any("ended, exit code 1" in row[2] for row in rows) and rows)
    rows = [row for row in rows if row[1]]  # not what cutelog says of the connection itself
    assert ["INFO", "plot written to build/load.svg"] in [[row[0], row[2]] for row in rows]
    (run,) = {row[1].split(".")[1] for row in rows}
    host = rows[0][1].split(".")[2]
    assert set(driven.do("tree")) >= {f"farm.{run}.{host}.gcc", f"farm.{run}.{host}.shell", f"farm.{run}.{host}.run"}
    warnings = [row for row in rows if row[0] == "WARNING"]
    assert {row[1] for row in warnings} == {f"farm.{run}.{host}.gcc"}
    assert sum("[-Wunused-variable]" in row[2] for row in warnings) == 2
    assert any(row[0] == "ERROR" and row[2].startswith("expected ") for row in rows)
    assert any(row[0] == "ERROR" and row[2].startswith("compile:square failed") for row in rows)

    assert driven.do("click_level", level="INFO")
    shown = [row for row in driven.do("rows") if row[1]]
    assert shown == [row for row in rows if row[0] != "INFO"]
    assert driven.do("click_level", level="INFO")
    _photograph(driven, display)


def test_a_frozen_window_costs_the_run_no_time_and_the_files_no_line(session: Session) -> None:
    began = time.monotonic()
    session.finish(session.start("run", "chatter"))
    alone = time.monotonic() - began

    process = session.start("run", "--gui", "chatter")
    window = session.window()
    driven = session.driven()
    until(lambda: driven.do("rows"))
    window.suspend()
    try:
        text = session.finish(process)
    finally:
        window.resume()
    assert process.returncode == 0, text
    taken = float(re.search(r"wall ([\d.]+) s", text)[1])  # type: ignore[index]
    print(f"alone {alone:.2f} s; run with a frozen window {taken:.2f} s")
    assert taken < alone + 1.0
    assert session.log("chatter").splitlines() == [f"line {n} of much talk" for n in range(1, 301)]
    until(lambda: any(row[2] == "line 300 of much talk" for row in driven.do("rows")))


def test_a_window_that_is_killed_ends_no_run(session: Session) -> None:
    process = session.start("run", "--gui", "chatter")
    window = session.window()
    driven = session.driven()
    until(lambda: len(driven.do("rows")) > 3)
    window.kill()
    text = session.finish(process)
    assert process.returncode == 0, text
    assert "Traceback" not in text
    assert "stays open" not in text
    assert "the log window was closed before the end" in text
    assert session.log("chatter").splitlines() == [f"line {n} of much talk" for n in range(1, 301)]


def test_without_a_window_the_run_says_so_in_one_line_and_goes_on(session: Session) -> None:
    whole = session.environ
    for changed, words in (
        ({"CF_CUTELOG": "/nonexistent"}, "pip install 'computefarm[gui]'"),
        ({"DISPLAY": ""}, "there is no display here"),
    ):
        session.environ = {**whole, **changed}
        text = session.finish(process := session.start("run", "-a", "--gui", "plot"))
        assert process.returncode == 0, text
        assert len([line for line in text.splitlines() if line.startswith("majordomo: --gui: ") and words in line]) == 1
        assert "going on with the console" in text
        assert "1 task: 1 run" in text


def test_the_lines_of_a_past_run_in_the_window(session: Session) -> None:
    session.finish(session.start("run", "-c", "compile", "chatter"))
    process = session.start("logs", "--gui", "--level", "warning")
    text = session.finish(process)
    assert process.returncode == 0, text
    assert "the log window stays open" in text
    driven = session.driven()
    rows = until(lambda: [row for row in driven.do("rows") if row[1]])
    assert {row[0] for row in rows} == {"WARNING", "ERROR"}
    assert session.window().is_running()


def test_lines_are_followed_in_the_window_until_it_is_closed(session: Session) -> None:
    run = session.start("run", "chatter")
    until(lambda: session.log("chatter"))
    viewer = session.start("logs", "-f", "--gui")
    window = session.window()
    driven = session.driven()
    until(lambda: len([row for row in driven.do("rows") if row[1]]) > 5)
    window.terminate()
    text = session.finish(viewer)
    assert viewer.returncode == 0, text
    text = session.finish(run)
    assert run.returncode == 0, text


def test_ctrl_c_ends_the_run_and_not_the_window(session: Session) -> None:
    process = session.start("run", "--gui", "chatter")
    window = session.window()
    driven = session.driven()
    until(lambda: driven.do("rows"))
    process.send_signal(signal.SIGINT)
    text = session.finish(process)
    assert process.returncode == 130, text
    assert "the log window stays open" in text
    assert window.is_running()
    until(lambda: any("ended, exit code 130" in row[2] for row in driven.do("rows")))
