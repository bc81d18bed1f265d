"""What a farm does when something is missing, goes away, comes back or has been done before."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

MakeFarm = Callable[..., Any]
MakeProject = Callable[..., Any]
Until = Callable[..., None]

SETTLED_S = 6.5
"""After so long a manager no longer waits for workers of before."""


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def record(machine: Any, project: Any) -> dict[str, Any]:
    """Return the last run's record of the one task."""
    [task] = machine.json("history", cwd=project.folder)["tasks"]
    return dict(task)


# --- the manager is away ------------------------------------------------------------------------------


def test_a_manager_that_is_gone(farm: MakeFarm, project: MakeProject, until: Until) -> None:
    place, work = farm(1, "shell"), project()
    run = work.start(place.here)
    until(lambda: work.times() == 1, "running task", place.logs)
    manager = place.here.started[0]
    manager.send_signal(signal.SIGKILL)
    manager.wait()

    assert run.wait(30) == 4, work.said()
    assert "TaskManager" in work.said()
    work.open()
    text = place.here.majordomo("run", cwd=work.folder, code=4)
    assert place.address in text
    assert "cf-taskmanager start" in text
    assert "--farm local" in text
    assert place.here.majordomo("status", cwd=work.folder, code=4).count("--farm local") == 1
    place.here.majordomo("run", "--farm", "local", cwd=work.folder)
    assert (work.folder / "out.txt").read_text() == "done\n"


def test_a_manager_that_comes_back_elsewhere(farm: MakeFarm, project: MakeProject, until: Until) -> None:
    place, work = farm(0), project()
    place.here.start("cf-worker", "--capability", "shell", "--slots", "1")
    until(lambda: len(place.status()["workers"]) == 1, "worker", place.logs)
    run = work.start(place.here)
    until(lambda: work.times() == 1, "running task", place.logs)

    manager = place.here.started[0]
    manager.terminate()
    assert manager.wait(20) == 0
    place.address = free_address()
    place.here.start("cf-taskmanager", "start", "--listen", place.address)

    def complete() -> bool:
        status = place.status()
        return (
            status.get("address") == place.address
            and len(status["workers"]) == 1
            and any(host["online"] and host["last_report_s"] is not None for host in status["hosts"])
        )

    until(complete, "worker and monitor at the new address", place.logs)
    work.open()
    until(lambda: run.poll() is not None, "end of the run", lambda: place.logs() + work.said())
    assert run.poll() == 0, work.said()
    assert work.times() == 1, "the journal knew the attempt, and its worker went on with it"
    until(lambda: not work.living(), "end of the attempt", place.logs)


# --- nothing offers it --------------------------------------------------------------------------------


def test_nothing_offers_it(farm: MakeFarm, project: MakeProject, until: Until) -> None:
    place, work = farm(1, "gcc"), project(needs='needs("gcc>=99")')
    [worker] = place.status()["workers"]
    until(lambda: place.status()["uptime_s"] > SETTLED_S, "settled farm", place.logs)
    began = time.monotonic()
    text = place.here.majordomo("run", cwd=work.folder, code=5)
    took_s = time.monotonic() - began

    version = worker["capabilities"]["gcc"]["version"]
    assert f"no worker offers gcc>=99 ({worker['worker']}: gcc {version}" in text
    assert took_s < 5
    assert place.here.json("history", cwd=work.folder)["exit"] == 5


def test_waiting_for_a_worker_on_purpose(farm: MakeFarm, project: MakeProject, until: Until) -> None:
    place, work = farm(0, "shell"), project()
    work.open()
    until(lambda: place.status()["uptime_s"] > SETTLED_S, "settled farm", place.logs)
    run = work.start(place.here, "--wait-workers", "10m")
    until(lambda: "no worker offers shell" in work.said(), "word of what is missing", work.said)
    until(lambda: "waiting for up to 600 s" in work.said(), "word of the wait", work.said)

    [waiting] = place.here.json("why", "work", cwd=work.folder)["waiting"] or [{"reason": "nobody"}]
    assert waiting["reason"]
    assert run.poll() is None
    place.add_worker()
    assert run.wait(30) == 0, work.said()


def test_what_vanished_is_waited_for(farm: MakeFarm, project: MakeProject, until: Until) -> None:
    place, work = farm(1, "shell"), project()
    work.open()
    until(lambda: place.status()["uptime_s"] > SETTLED_S, "settled farm", place.logs)
    os.kill(place.workers[0].pid, signal.SIGKILL)
    until(lambda: not place.status()["workers"], "loss of the worker", place.logs)
    run = work.start(place.here)
    until(lambda: "waiting for up to 60 s" in work.said(), "word of the wait", work.said)
    assert run.poll() is None
    place.add_worker()
    assert run.wait(30) == 0, work.said()


# --- refused ------------------------------------------------------------------------------------------


def test_invitations_and_keys(farm: MakeFarm, machine: Any, project: MakeProject, until: Until) -> None:
    place, work = farm(1, "shell"), project()
    work.open()
    line = place.here.call("cf-taskmanager", "invite", "--role", "client", cwd=place.folder).stdout.strip()

    for changed in (line[:-4] + ("AAAA" if line[-4:] != "AAAA" else "BBBB"), line[:20]):
        done = machine.call("majordomo", "join", changed, cwd=work.folder)
        assert done.returncode == 6, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        assert "invit" in done.stderr
    machine.majordomo("join", line, cwd=work.folder)
    machine.majordomo("run", cwd=work.folder)

    other = machine.call("env", f"CF_HOME={machine.home}-2", "majordomo", "join", line, cwd=work.folder)
    assert other.returncode == 6, other.stderr
    assert "was used already" in other.stderr
    assert "cf-taskmanager invite" in other.stderr
    worker = machine.call("cf-worker", "--capability", "shell", "--join", line[:-1], cwd=work.folder)
    assert (worker.returncode, "Traceback" in worker.stderr) == (6, False), worker.stderr

    [key_file] = machine.home.glob("config/farms/*/keys/client.key")
    key = key_file.read_text().split()[0]
    assert (
        f"client {socket.gethostname()} {key}"
        in place.here.call("cf-taskmanager", "keys", cwd=place.folder).stdout
    )
    revoked = place.here.call("cf-taskmanager", "revoke", key, cwd=place.folder)
    assert revoked.returncode == 0, revoked.stderr
    text = machine.majordomo("run", "-a", cwd=work.folder, code=6)
    assert "does not know this machine's key" in text
    assert "cf-taskmanager allow" in text


def test_two_runs_in_one_folder(machine: Any, project: MakeProject, until: Until) -> None:
    work = project()
    run = work.start(machine)
    until(lambda: work.times() == 1, "running task", work.said)
    text = machine.majordomo("run", cwd=work.folder, code=6)

    assert f"(pid {run.pid})" in text
    assert str(work.folder) in text
    work.open()
    assert run.wait(30) == 0, work.said()
    machine.majordomo("run", cwd=work.folder)


# --- done before --------------------------------------------------------------------------------------


def test_identical_actions_run_once(farm: MakeFarm, project: MakeProject, until: Until) -> None:
    place, one, two = farm(2, "shell"), project("one"), project("two")
    first, second = one.start(place.here), two.start(place.here)

    def both() -> bool:
        tasks = place.status()["tasks"]
        return bool(tasks["waiting"] + tasks["running"] == 2)

    until(both, "tasks of both folders", place.logs)
    until(lambda: one.times() == 1, "running task", place.logs)
    for work in (one, two):
        assert (
            place.here.json("why", "work", "--dir", str(work.folder), cwd=place.folder)["state"] == "running"
        )
    one.open()
    assert (first.wait(30), second.wait(30)) == (0, 0), one.said() + two.said()
    assert one.times() == 1
    assert (one.folder / "out.txt").read_text() == (two.folder / "out.txt").read_text() == "done\n"


def test_the_result_cache(farm: MakeFarm, project: MakeProject) -> None:
    place, one, two = farm(1, "shell"), project("one"), project("two")
    one.open()
    place.here.majordomo("run", cwd=one.folder)
    place.here.majordomo("run", cwd=two.folder)
    assert one.times() == 1
    assert record(place.here, two)["cached"] is True
    assert (two.folder / "out.txt").read_text() == "done\n"

    place.here.majordomo("run", "-a", cwd=two.folder)
    assert one.times() == 2
    assert record(place.here, two)["cached"] is False

    uncached = project("three", needs='needs("shell", cache=False)')
    place.here.majordomo("run", cwd=uncached.folder)
    assert one.times() == 3
    shutil.rmtree(two.folder)
    again = project("two", needs='needs("shell", cache=False)')
    place.here.majordomo("run", cwd=again.folder)
    assert one.times() == 4
    assert record(place.here, again)["cached"] is False


def test_failures_are_not_cached(farm: MakeFarm, project: MakeProject) -> None:
    place = farm(1, "shell")
    one, two = (project(name, last="exit 7") for name in ("one", "two"))
    one.open()
    for count, work in enumerate((one, two, two), 1):
        text = place.here.majordomo("run", cwd=work.folder, code=1)
        assert "FAILED work" in text
        assert work.times() == count
        told = record(place.here, work)
        assert (told["outcome"], told["exit_code"], told["cached"]) == ("failed", 7, False)


# --- looking ------------------------------------------------------------------------------------------


def test_status_and_why_while_it_happens(farm: MakeFarm, project: MakeProject, until: Until) -> None:
    place, busy = farm(1, "shell"), project("busy")
    waits = project("waits", needs='needs("shell", cache=False)', last="echo other > out2.txt")
    first = busy.start(place.here)
    until(lambda: busy.times() == 1, "running task", place.logs)
    second = waits.start(place.here)
    until(lambda: place.status()["tasks"] == {"waiting": 1, "running": 1}, "one of each", place.logs)

    status = place.status()
    [worker] = status["workers"]
    assert (worker["slots"], worker["running"], worker["state"]) == (1, 1, "busy")
    assert status["farm"] == "default"
    until(lambda: place.status()["hosts"][0]["last_report_s"] is not None, "load report", place.logs)
    [host] = place.status()["hosts"]
    assert host["online"] is True
    assert host["cpus"] >= 1
    assert host["memory_total"] > host["memory_available"] > 0

    why = place.here.json("why", "work", cwd=busy.folder)
    assert why["state"] == "running"
    assert [(one["attempt"], one["outcome"]) for one in why["attempts"]] == [(1, "running")]
    why = place.here.json("why", "work", cwd=waits.folder)
    busy.open()
    assert (first.wait(30), second.wait(30)) == (0, 0), busy.said() + waits.said()
    assert why["state"] in ("waiting", "running")
    assert why["waiting"] or "waits at the worker for a slot" in why["attempts"][0]["reason"], why
    assert place.here.json("why", "work", cwd=waits.folder)["state"] == "succeeded"
