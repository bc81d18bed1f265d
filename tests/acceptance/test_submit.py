"""`majordomo submit`: a command on the farm behaves as if it ran here."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

MakeFarm = Callable[..., Any]
Until = Callable[..., None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "work"
    made.mkdir()
    return made


@pytest.fixture(params=["farm", "embedded"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A machine with a farm, and one without."""
    if request.param == "embedded":
        return request.getfixturevalue("machine")
    return request.getfixturevalue("farm")(1, "shell").here


def submit(place: Any, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    done = place.call("majordomo", "submit", "--capability", "shell", *words, cwd=folder)
    assert "Traceback" not in done.stderr, done.stderr
    return done  # type: ignore[no-any-return]


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a submit beside the test; it ends with the test."""
    made: list[subprocess.Popen[str]] = []

    def start(place: Any, folder: Path, *words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["majordomo", "submit", "--capability", "shell", *words],
            cwd=folder, env=place.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        made.append(process)
        return process

    yield start
    for process in made:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_output_exit_code_and_files(place: Any, folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "a.txt").write_text("a\n")
    (folder / "b.txt").write_text("b\n")
    (folder / "other.txt").write_text("not sent\n")
    script = "find . -type f | sort; cat data/a.txt b.txt > out/both.txt; echo $WORD >&2; exit 0"

    done = submit(
        place, folder, "--input", "data", "--input", "b.txt", "--output", "out/both.txt", "-e", "WORD=hello",
        "--timeout", "1m", "--", script,
    )  # fmt: skip

    assert (done.returncode, done.stdout, done.stderr) == (0, "./b.txt\n./data/a.txt\n", "hello\n")
    assert (folder / "out" / "both.txt").read_text() == "a\nb\n"
    assert not list(folder.glob("out/.*")), "outputs arrive under their own names, whole"

    assert submit(place, folder, "--", "exit 42").returncode == 42
    assert submit(place, folder, "--", "printf", "%s|", "a b", "", "--x=1").stdout == "a b||--x=1|"
    killed = submit(place, folder, "--", "kill -KILL $$")
    assert (killed.returncode, "killed by " in killed.stderr) == (137, True)
    absent = submit(place, folder, "--output", "made.txt", "--", "true")
    assert (absent.returncode, "declared target" in absent.stderr, "made.txt" in absent.stderr) == (
        1,
        True,
        True,
    )
    late = submit(place, folder, "--timeout", "500ms", "--", "sleep 30")
    assert (late.returncode, "timeout" in late.stderr) == (1, True)
    undeclared = submit(place, folder, "--", "cat other.txt")
    assert undeclared.returncode == 1
    assert "add --input other.txt" in undeclared.stderr


def test_it_runs_each_time(place: Any, folder: Path, tmp_path: Path) -> None:
    for count in (1, 2):
        submit(place, folder, "--", f"echo x >> {tmp_path}/ran")
        assert (tmp_path / "ran").read_text().count("x") == count


def test_a_short_command_s_last_word_is_heard(farm: MakeFarm, folder: Path, until: Until) -> None:
    made = farm(1, "shell")
    for _ in range(6):
        assert submit(made.here, folder, "--", "true").returncode == 0
        assert made.here.call("majordomo", "status", cwd=folder).returncode == 0
    until(lambda: made.logs().count("is gone: the run is over") == 6, "six goodbyes", made.logs, 3)
    # Who only asks is not worth a line.
    assert made.logs().count(" is gone: ") == 6


def test_a_wrong_command_line_sends_nothing(place: Any, folder: Path) -> None:
    for words, said in (
        (("--input", "/etc/passwd", "--", "true"), "absolute path"),
        (("--input", "../x", "--", "true"), "is not below"),
        (("--output", "../x", "--", "true"), "is not below"),
        (("--input", "gone", "--", "true"), "there is no such file"),
        ((), "no command was given"),
        (("--nonsense", "--", "true"), "nonsense"),
        (("--cpus", "many", "--", "true"), "cpus"),
        (("--cpus", "0", "--", "true"), "--cpus 0: expected a whole number, at least 1"),
        (("--timeout", "soon", "--", "true"), "--timeout soon: expected a duration such as '10m'"),
        (("--memory", "lots", "--", "true"), "--memory 2GiB"),
    ):
        done = submit(place, folder, *words)
        assert done.returncode == 3, (words, done.stderr)
        assert said in done.stderr


def test_output_comes_while_it_runs(
    place: Any, folder: Path, tmp_path: Path, started: Callable[..., subprocess.Popen[str]]
) -> None:
    gate = tmp_path / "gate"
    process = started(
        place, folder, "--", f"echo first; while [ ! -e {gate} ]; do sleep 0.05; done; echo last"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "first\n"
    assert process.poll() is None
    gate.touch()
    assert process.communicate(timeout=20)[0] == "last\n"
    assert process.returncode == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_ends_the_command(
    number: signal.Signals, code: int, place: Any, folder: Path, tmp_path: Path,
    started: Callable[..., subprocess.Popen[str]], until: Until,
) -> None:  # fmt: skip
    pids = tmp_path / "pids"
    stubborn = (
        f"trap '' INT TERM; setsid sleep 1000 & echo $! >> {pids}; echo $$ >> {pids}; echo up; sleep 1000"
    )
    process = started(place, folder, "--", stubborn)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    began = time.monotonic()
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    took_s = time.monotonic() - began

    assert process.returncode == code, said
    assert took_s < 3, f"{took_s:.1f} s"
    until(lambda: not any(alive(int(pid)) for pid in pids.read_text().split()), "end of all processes", str)
    assert time.monotonic() - began < 3


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_nobody_offers_it_and_nobody_answers(
    farm: MakeFarm, machine: Any, folder: Path, until: Until
) -> None:
    here = machine.call("majordomo", "submit", "--capability", "nosuch", "--", "true", cwd=folder)
    assert here.returncode == 5, here.stderr
    assert "nosuch" in here.stderr

    place = farm(1, "shell")
    until(lambda: place.status()["uptime_s"] > 6.5, "settled farm", place.logs)
    began = time.monotonic()
    there = place.here.call("majordomo", "submit", "--capability", "gcc>=99", "--", "true", cwd=folder)
    assert there.returncode == 5, there.stderr
    assert time.monotonic() - began < 5
    assert "no worker offers gcc>=99" in there.stderr

    place.manager.kill()
    place.manager.wait(20)
    gone = place.here.call("majordomo", "submit", "--capability", "shell", "--", "true", cwd=folder)
    assert gone.returncode == 4, gone.stderr
    assert "--farm local" in gone.stderr
    local = place.here.call(
        "majordomo", "submit", "--farm", "local", "--capability", "shell", "--", "echo here", cwd=folder
    )
    assert (local.returncode, local.stdout) == (0, "here\n")
