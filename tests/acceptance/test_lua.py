"""The Lua example: a real program, built on this machine and on a farm that shares no files."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SAYS = "Lua 5.4: 148933 primes below 2000000"


def ran(history: dict[str, Any]) -> set[str]:
    return {
        task["task"] for task in history["tasks"] if task["outcome"] == "succeeded" and not task["cached"]
    }


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.fixture(params=["embedded", "two workers"])
def place(request: pytest.FixtureRequest, machine: Any, farm: Callable[..., Any]) -> Any:
    """Where majordomo runs: alone, or with a TaskManager and two workers whose homes share nothing."""
    return machine if request.param == "embedded" else farm(2, "gcc").here


def test_built_rebuilt_and_taken_from_the_cache(place: Any, lua: Path) -> None:
    assert SAYS in place.majordomo("run", cwd=lua)
    first = place.json("history", cwd=lua)
    compiled = {name for name in ran(first) if name.startswith("compile:")}
    assert len(compiled) == 33
    assert {"archive", "link", "primes"} <= ran(first)
    assert (first["exit"], first["folder"]) == (0, str(lua))

    place.majordomo("run", cwd=lua)
    assert ran(place.json("history", cwd=lua)) == set()

    # A comment in a header: what includes it is compiled again, the objects come out equal, and that is all.
    edit(lua / "lua54/lopcodes.h", "#ifndef", "/* touched */\n#ifndef")
    place.majordomo("run", cwd=lua)
    includers = {"lcode", "ldebug", "ldo", "lopcodes", "lparser", "lvm"}
    assert ran(place.json("history", cwd=lua)) == {
        "includes:lopcodes.h",
        *(f"compile:{name}" for name in includers),
    }

    shutil.rmtree(lua / "build")
    place.majordomo("run", cwd=lua)
    again = place.json("history", cwd=lua)
    assert not {name for name in ran(again) if name.startswith(("compile:", "archive", "link"))}
    cached = {task["task"] for task in again["tasks"] if task["cached"]}
    assert compiled <= cached
    assert SAYS in subprocess.run(["build/lua", "primes.lua"], cwd=lua, capture_output=True, text=True).stdout


def test_a_syntax_error_blocks_only_what_depends_on_it(place: Any, lua: Path) -> None:
    edit(lua / "lua54/lapi.c", "int lua_absindex", "intt lua_absindex")
    text = place.majordomo("run", "-c", cwd=lua, code=1)

    assert "FAILED compile:lapi on " in text
    assert "lua54/lapi.c:169:9: error:" in text
    history = place.json("history", cwd=lua)
    outcomes = {task["task"]: task["outcome"] for task in history["tasks"]}
    assert history["exit"] == 1
    assert {name for name, outcome in outcomes.items() if outcome == "failed"} == {"compile:lapi"}
    assert {name for name, outcome in outcomes.items() if outcome == "blocked"} == {
        "archive",
        "link",
        "primes",
    }
    assert len({name for name in ran(history) if name.startswith("compile:")}) == 32
    [failed] = [task for task in history["tasks"] if task["task"] == "compile:lapi"]
    assert (failed["exit_code"], bool(failed["host"])) == (1, True)

    edit(lua / "lua54/lapi.c", "intt lua_absindex", "int lua_absindex")
    assert SAYS in place.majordomo("run", cwd=lua)
    assert ran(place.json("history", cwd=lua)) == {
        "includes:lapi.c",
        "compile:lapi",
        "archive",
        "link",
        "primes",
    }


def test_killing_a_worker_in_the_middle_costs_time_only(farm: Callable[..., Any], lua: Path) -> None:
    place = farm(2, "gcc")
    edit(lua / "dodo.py", '"actions": [f"{GCC} -c', '"actions": ["sleep 0.3", f"{GCC} -c')
    with (lua / "run.log").open("wb") as log:
        run = subprocess.Popen(
            ["majordomo", "run"],
            cwd=lua,
            env=place.here.environ,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + 60
        while len(list(lua.glob("build/*.o"))) < 4:
            assert run.poll() is None, (lua / "run.log").read_text()
            assert time.monotonic() < until, (lua / "run.log").read_text() + place.logs()
            time.sleep(0.02)
        os.kill(place.workers[0].pid, signal.SIGKILL)
        assert run.wait(120) == 0, (lua / "run.log").read_text()
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()

    assert SAYS in (lua / "run.log").read_text()
    history = place.here.json("history", cwd=lua)
    lost = [one for task in history["tasks"] for one in task["attempts"] if one["outcome"] == "lost"]
    assert len(lost) == 1
    assert {task["attempt"] for task in history["tasks"] if len(task["attempts"]) > 1} == {2}


def test_plain_doit_builds_it_too(machine: Any, lua: Path) -> None:
    done = machine.call("doit", "-n", "2", cwd=lua)

    assert done.returncode == 0, done.stderr
    assert SAYS in done.stdout
