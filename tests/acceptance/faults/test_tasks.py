"""Tasks that fail, are killed, fill the disk or lie about their files: rows 1, 2, 15, 19 and 20."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.acceptance.conftest import Farm, wait_for

from .conftest import PARTS, Build, attempts

MakeBuild = Callable[..., Build]
MakeFarm = Callable[..., Farm]
Files = dict[str, str]


def record(place: Farm, work: Build, name: str) -> dict[str, Any]:
    """Return the last run's record of a task."""
    [found] = [task for task in place.here.json("history", cwd=work.folder)["tasks"] if task["task"] == name]
    return dict(found)


def fails_then_heals(
    place: Farm, work: Build, undisturbed: Files, command: str
) -> tuple[str, dict[str, Any]]:
    """Run the build with one task that fails, then without; return what was said and recorded of it."""
    dodo = (work.folder / "dodo.py").read_text()
    work.add(f"""
def task_bad():
    return {{"actions": [{f"echo bad >> {work.log}; {command}"!r}], "meta": needs("shell", cache=False)}}
""")
    text = place.here.majordomo("run", "-c", cwd=work.folder, code=1)
    told = record(place, work, "bad")
    assert (told["outcome"], told["attempts"][-1]["outcome"]) == ("failed", "failed")
    assert work.begun()["bad"] == 1, "never tried again unless asked to"
    (work.folder / "dodo.py").write_text(dodo)
    place.here.majordomo("run", cwd=work.folder)
    assert work.files() == undisturbed
    assert set(work.begun().values()) == {1}
    return text, told


def test_01_a_command_that_fails(standing_farm: Farm, build: MakeBuild, undisturbed: Files) -> None:
    command = "for i in 1 2 3; do echo line $i; done; echo the reason >&2; exit 3"
    text, told = fails_then_heals(standing_farm, build(pause_s=0), undisturbed, command)
    assert told["exit_code"] == 3
    [line] = [line for line in text.splitlines() if line.startswith("!! FAILED bad on ")]
    assert told["worker"].split(".")[0].rpartition("-")[0] in line, "the host is named"
    assert "3" in line
    assert "the reason" in text.partition(line)[2]


def test_01_a_command_that_may_be_tried_again(
    standing_farm: Farm, build: MakeBuild, undisturbed: Files, tmp_path: Path
) -> None:
    work, mark = build(pause_s=0), tmp_path / "mark"
    work.add(f"""
def task_moody():
    action = "echo moody >> LOG; test -e {mark} || {{ touch {mark}; exit 3; }}"
    return {{"actions": [action], "meta": needs("shell", cache=False, retries=1)}}
""")
    standing_farm.here.majordomo("run", cwd=work.folder)
    assert work.files() == undisturbed
    assert work.begun()["moody"] == 2
    assert len(attempts(standing_farm.here, work)["moody"]) == 2


def test_02_a_command_that_is_killed(standing_farm: Farm, build: MakeBuild, undisturbed: Files) -> None:
    text, told = fails_then_heals(standing_farm, build(pause_s=0), undisturbed, "kill -9 $$")
    [line] = [line for line in text.splitlines() if line.startswith("!! FAILED bad on ")]
    assert "SIGKILL" in line or "signal 9" in line, line
    assert "SIGKILL" in json.dumps(told) or "signal 9" in json.dumps(told)


def test_15_a_worker_s_disk_is_full(
    own_farm: MakeFarm, build: MakeBuild, undisturbed: Files, small_disk: Callable[[Path, str], Path]
) -> None:
    """The tasks need 3 MB of room each, and one of the two workers has 2."""
    place = own_farm(0)
    small_disk(place.folder / "worker1/cache", "2m")
    place.add_worker()
    place.add_worker()
    wait_for(lambda: len(place.status()["workers"]) == 2, "both workers", place.logs)
    [poor] = [
        worker["worker"]
        for worker in place.status()["workers"]
        if str(place_pid(place, 0)) in worker["worker"]
    ]
    work = build(pause_s=0.05, extra="head -c 3000000 /dev/zero > room; rm room;")
    work.start(place.here)
    work.finish(place.logs)
    assert work.files() == undisturbed
    tries = [one for tries in attempts(place.here, work).values() for one in tries if one["worker"] == poor]
    assert {one["outcome"] for one in tries} <= {"lost", "failed"}
    assert 0 < len(tries) < PARTS / 2, "it was given no more work"
    assert "disk full" in json.dumps(tries)
    [state] = [worker["state"] for worker in place.status()["workers"] if worker["worker"] == poor] or [
        "gone"
    ]
    assert state in ("draining", "held", "quarantined", "gone"), state


def place_pid(place: Farm, number: int) -> int:
    """Return the process of one of the workers added so far."""
    return [machine.started[0].pid for machine in place.machines[1:]][number]


def test_19_an_input_that_changes_during_the_run(
    standing_farm: Farm, build: MakeBuild, undisturbed: Files
) -> None:
    work = build(pause_s=0.3)
    source = work.folder / "src/05.txt"
    right = source.read_bytes()
    work.start(standing_farm.here)
    wait_for(lambda: work.begun()["05"] == 1, "task 05", standing_farm.logs)
    source.write_bytes(b"something else\n")
    work.finish(standing_farm.logs)
    assert work.files() == undisturbed, "the task uses what was sent"

    standing_farm.here.majordomo("run", cwd=work.folder)
    assert (work.folder / "build/05").read_bytes() == b"something else\n"
    assert work.begun()["05"] == 2
    source.write_bytes(right)
    standing_farm.here.majordomo("run", cwd=work.folder)
    assert work.files() == undisturbed
    assert {name for name, times in work.begun().items() if times > 1} == {"05", "sum"}


LIES = """
def task_missing():
    return {"actions": ["echo x > build/other"], "targets": ["build/missing"], "meta": needs("shell")}

def task_half():
    return {
        "actions": ["echo half > build/first; exit 1"], "targets": ["build/first", "build/second"],
        "meta": needs("shell"),
    }

def task_link():
    return {"actions": ["ln -s /etc/passwd build/link"], "targets": ["build/link"], "meta": needs("shell")}
"""


def test_20_outputs_that_are_missing_partial_or_elsewhere(
    standing_farm: Farm, build: MakeBuild, undisturbed: Files
) -> None:
    work = build(pause_s=0)
    work.add(LIES)
    text = standing_farm.here.majordomo("run", "-c", cwd=work.folder, code=1)
    assert work.files() == undisturbed, "nothing half-written"
    for name, target in (("missing", "build/missing"), ("half", ""), ("link", "build/link")):
        assert f"FAILED {name} on " in text
        assert target in text.partition(f"FAILED {name} on ")[2].partition("!!")[0]
        assert record(standing_farm, work, name)["outcome"] == "failed"
