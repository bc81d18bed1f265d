"""What a manager keeps, and what time it is: rows 16 to 18."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.clocks import lie
from tests.acceptance.conftest import Farm, wait_for

from .conftest import PARTS, Build

MakeBuild = Callable[..., Build]
MakeFarm = Callable[..., Farm]
Files = dict[str, str]
MountSmallDisk = Callable[[Path, str], Path]

JOURNAL = "state/journal/default"


def restart(place: Farm, code: int | None = None) -> str:
    """Start the manager again at its old address; return what it said when it ends at once with `code`."""
    if code is None:
        place.manager = place.here.start("cf-taskmanager", "start", "--listen", place.address)
        wait_for(lambda: len(place.status().get("workers", ())) == len(place.workers), "the farm", place.logs)
        return place.here.logs()
    done = place.here.call("cf-taskmanager", "start", "--listen", place.address, cwd=place.folder, timeout=20)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def kill_the_manager(place: Farm) -> None:
    place.manager.send_signal(signal.SIGKILL)
    place.manager.wait()


# --- the disk -----------------------------------------------------------------------------------------


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Fill a disk, and fill it again whenever a byte of it becomes free."""
    filler = disk / "filler"
    script = f"while sleep 0.02; do cat /dev/zero >> {filler}; done"
    filling = subprocess.Popen(["sh", "-c", script], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: shutil.disk_usage(disk).free == 0, "full disk", str)
        yield
    finally:
        filling.kill()
        filling.wait()
        filler.unlink()


def test_16_the_journal_s_disk_is_full(
    own_farm: MakeFarm, build: MakeBuild, undisturbed: Files, small_disk: MountSmallDisk, tmp_path: Path
) -> None:
    """Nothing new is accepted, that is said, what was accepted goes on, and space heals it."""
    disk = small_disk(tmp_path / "farm0/here" / JOURNAL, "1m")
    place, one, two = own_farm(2), build("one", pause_s=0.3), build("two", pause_s=0)
    one.start(place.here)
    one.wait_for(4, place.logs)
    with full(disk):
        two.start(place.here)
        wait_for(
            lambda: "nothing new is accepted" in two.said(), "word of it", lambda: two.said() + place.logs()
        )
        wait_for(lambda: len(one.files()) == PARTS, "results of what had been accepted", place.logs)
        assert not two.ended, two.said()
        assert "sum" not in one.begun() + two.begun(), "submitted when the fault was known"
        assert len(place.status()["workers"]) == 2, "it goes on serving"
    one.finish(place.logs)
    two.finish(place.logs)
    assert one.files() == two.files() == undisturbed
    assert set(one.begun().values()) == set(two.begun().values()) == {1}
    assert place.manager.poll() is None


# --- the journal --------------------------------------------------------------------------------------


def interrupted(place: Farm, work: Build) -> Path:
    """Kill the manager in the middle of a run; return the journal's file that was being written."""
    work.start(place.here)
    work.wait_for(PARTS // 3, place.logs)
    kill_the_manager(place)
    files = [
        path for path in (place.here.home / JOURNAL).rglob("*") if path.is_file() and path.stat().st_size
    ]
    return max(files, key=lambda path: (path.stat().st_mtime_ns, path.name))


@pytest.mark.parametrize("torn_off", [pytest.param(1, marks=pytest.mark.slow), 37])
def test_17_a_journal_with_a_torn_end(
    torn_off: int, own_farm: MakeFarm, build: MakeBuild, undisturbed: Files
) -> None:
    """A record that was being written is dropped, which is said; the run goes on by itself."""
    place, work = own_farm(2), build(pause_s=0.3)
    path = interrupted(place, work)
    data = path.read_bytes()
    path.write_bytes(data[:-torn_off])
    said = restart(place)
    assert "journal" in said.lower()
    work.finish(place.logs)
    assert work.files() == undisturbed


def test_17_a_journal_that_is_damaged_in_the_middle(
    own_farm: MakeFarm, build: MakeBuild, undisturbed: Files
) -> None:
    """The manager does not start with half the truth; `fsck` explains it and mends what can be mended."""
    place, work = own_farm(2), build(pause_s=0.3)
    path = interrupted(place, work)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)

    said = restart(place, code=2)
    assert "cf-taskmanager fsck" in said
    assert "Traceback" not in said
    looked = place.here.call("cf-taskmanager", "fsck", cwd=place.folder)
    assert looked.returncode != 0, looked.stdout
    assert str(path) in looked.stdout + looked.stderr or path.name in looked.stdout + looked.stderr
    mended = place.here.call("cf-taskmanager", "fsck", "--repair", cwd=place.folder)
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert place.here.call("cf-taskmanager", "fsck", cwd=place.folder).returncode == 0
    restart(place)
    if work.ended:  # it may have lost patience meanwhile: then the user runs it again
        work.start(place.here)
    work.finish(place.logs)
    assert work.files() == undisturbed


# --- the clock ----------------------------------------------------------------------------------------


def test_18_clocks_that_differ_and_jump(
    own_farm: MakeFarm, build: MakeBuild, undisturbed: Files, wrong_clock: Path, tmp_path: Path
) -> None:
    """One worker an hour ahead, one behind, and the manager's clock jumps: no lease ends, no time is nonsense."""
    for name, offset in (("manager", "+0"), ("worker1", "+3600"), ("worker2", "-3600")):
        (tmp_path / name).write_text(offset + "\n")
    place = own_farm(0, **lie(wrong_clock, tmp_path / "manager"))
    for name in lie(wrong_clock, tmp_path / "manager"):
        del place.here.environ[name]  # majordomo's own clock is right
    for number in (1, 2):
        line = place.here.call(
            "cf-taskmanager", "invite", "--role", "worker", cwd=place.folder
        ).stdout.strip()
        add_worker(place, line, lie(wrong_clock, tmp_path / f"worker{number}"))
    wait_for(lambda: len(place.status()["workers"]) == 2, "both workers", place.logs)
    work = build(pause_s=0.2)
    began = time.time()
    work.start(place.here)
    for tasks, offset in ((5, "+3600"), (10, "-3600"), (15, "+0")):
        work.wait_for(tasks, place.logs)
        (tmp_path / "manager").write_text(offset + "\n")
    work.finish(place.logs)
    ended = time.time()
    assert work.files() == undisturbed
    assert set(work.begun().values()) == {1}, "no lease has ended"

    told = place.here.json("history", cwd=work.folder)
    for task in told["tasks"]:
        assert 0 <= task["queued_s"] < ended - began, task
        assert 0 < task["run_s"] < ended - began, task
    logged = place.here.call("majordomo", "logs", "--json", cwd=work.folder).stdout.splitlines()
    times = [json.loads(line)["created"] for line in logged]
    assert all(began - 2 < at < ended + 2 for at in times), (began, times)


def add_worker(place: Farm, line: str, environ: dict[str, str]) -> None:
    """Start a worker with a clock of its own."""
    machine = type(place.here)(place.folder / f"worker{len(place.machines)}")
    place.machines.append(machine)
    machine.environ |= environ
    process = machine.start("cf-worker", "--capability", "shell", "--slots", "1", "--join", line)
    place.workers.append(process)
