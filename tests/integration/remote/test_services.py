"""Commands that are kept running, by a keeper and by (a stand-in for) systemd."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from computefarm.remote.far.keeper import read_state
from computefarm.remote.far.processes import identity, same
from computefarm.remote.far.services import ServiceError, Services
from computefarm.remote.units import unit_text

WORK = "import signal,sys,time; signal.signal(signal.SIGUSR1, lambda *_: sys.exit(0)); print('up', flush=True); time.sleep(600)"
"""A command that ends when it is drained."""

SYSTEMCTL = """\
#!/bin/sh
# What systemctl --user is asked for, and a memory of what is active.
echo "$@" >> "$FAKE/calls"
shift
case "$1" in
  enable) shift 2; for unit; do touch "$FAKE/$unit"; done ;;
  disable) shift 2; for unit; do rm -f "$FAKE/$unit"; done ;;
  kill) for last; do :; done; rm -f "$FAKE/$last" ;;
  is-active) [ -e "$FAKE/$2" ] && echo active || echo inactive ;;
esac
"""
LOGINCTL = """\
#!/bin/sh
echo "loginctl $@" >> "$FAKE/calls"
case "$*" in
  *enable-linger*) [ -e "$FAKE/may-linger" ] && touch "$FAKE/lingers"; exit 0 ;;
  *) [ -e "$FAKE/lingers" ] && echo Linger=yes || echo Linger=no ;;
esac
"""


def wait(true: Callable[[], object], what: str, patience_s: float = 15) -> None:
    until = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < until, f"no {what} within {patience_s} s"
        time.sleep(0.02)


def service(name: str, code: str = WORK, **more: Any) -> dict[str, Any]:
    argv = [sys.executable, "-c", code]
    return {"name": name, "argv": argv, "unit": unit_text(name, argv, {}), "drains": True, **more}


def told(*services: dict[str, Any], how: str = "keeper") -> dict[str, Any]:
    return {
        "services": list(services),
        "environ": {"MINE": "yes"},
        "how": how,
        "python": sys.executable,
        "nice": 0,
    }


class Kept:
    """Services under a keeper, and what its files say."""

    def __init__(self, folder: Path) -> None:
        self.services = Services(str(folder / "hosting"), "test.one")
        self.state_file = folder / "hosting/test.one.state.json"

    def start(self, *services: dict[str, Any]) -> dict[str, Any]:
        return self.services.start(told(*services))

    @property
    def keeper(self) -> tuple[int, str]:
        pid, mark = read_state(self.state_file).get("keeper", (0, ""))
        return pid, mark

    def child(self, name: str) -> tuple[int, str]:
        pid, mark = read_state(self.state_file).get("children", {}).get(name, (0, ""))
        return pid, mark


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path)
    yield made
    made.services.stop()


def test_services_run_until_they_are_stopped(kept: Kept) -> None:
    answer = kept.start(service("a"), service("b"))
    keeper, a, b = kept.keeper, kept.child("a"), kept.child("b")

    assert answer["how"] == "keeper"
    assert "computefarm.remote.far.keeper" in answer["again"]
    assert all(same(*one) for one in (keeper, a, b))
    assert [one["running"] for one in kept.services.state()["services"]] == [True, True]

    assert kept.services.stop() is True
    assert not any(same(*one) for one in (keeper, a, b))
    assert kept.services.stop() is False
    assert kept.services.state()["services"] == []


def test_what_fails_is_started_again(kept: Kept) -> None:
    kept.start(service("a"))
    first = kept.child("a")

    os.kill(first[0], signal.SIGKILL)

    wait(lambda: same(*kept.child("a")) and kept.child("a") != first, "new process")
    (state,) = kept.services.state()["services"]
    assert state["restarts"] == 1
    assert any("a ended with exit -9; again in 1 s" in line for line in kept.services.state()["lines"])


@pytest.mark.parametrize(("code", "again"), [(0, False), (143, False), (3, False), (1, True), (6, True)])
def test_who_ended_on_purpose_is_left_in_peace(kept: Kept, code: int, again: bool) -> None:
    kept.start(service("a", f"import os,sys; sys.exit({code})"), service("b"))

    wait(lambda: read_state(kept.state_file)["ended"].get("a") == code, "end")
    assert (read_state(kept.state_file)["restarts"]["a"] > 0) is again


def test_drained_services_finish_and_stay_ended(kept: Kept) -> None:
    kept.start(service("a"), service("b", drains=False))
    wait(lambda: "up" in kept.services.log.read_text(), "handler")
    a, b = kept.child("a"), kept.child("b")

    assert kept.services.drain(15) is True

    assert not same(*a)
    wait(lambda: read_state(kept.state_file)["ended"].get("a") == 0, "word of its end")
    assert same(*b)


def test_draining_gives_up_in_time(kept: Kept) -> None:
    kept.start(
        service(
            "a",
            "import signal,time; signal.signal(signal.SIGUSR1, lambda *_: None); print('up', flush=True); time.sleep(600)",
        )
    )
    wait(lambda: "up" in kept.services.log.read_text(), "handler")

    assert kept.services.drain(0.3) is False


def test_a_killed_keeper_leaves_nothing_that_runs_twice(kept: Kept) -> None:
    kept.start(service("a"))
    orphan = kept.child("a")
    os.kill(kept.keeper[0], signal.SIGKILL)

    kept.start(service("a"))

    assert not same(*orphan)
    assert same(*kept.child("a"))


def test_a_keeper_that_is_started_by_itself_ends_what_a_killed_one_left(kept: Kept) -> None:
    """As after a crontab's @reboot, or by hand."""
    answer = kept.start(service("a"))
    orphan, keeper = kept.child("a"), kept.keeper
    os.kill(keeper[0], signal.SIGKILL)
    wait(lambda: not same(*keeper), "end")

    os.system(f"({answer['again']}) &")

    wait(lambda: same(*kept.child("a")) and kept.child("a") != orphan, "new process", 30)
    assert not same(*orphan)


def test_two_keepers_of_one_thing_are_one(kept: Kept) -> None:
    answer = kept.start(service("a"))
    child = kept.child("a")

    assert os.system(answer["again"]) == 0

    assert kept.child("a") == child
    assert "another keeper" in kept.services.log.read_text()


def test_a_command_that_does_not_exist_is_an_error(kept: Kept) -> None:
    broken = {**service("a"), "argv": ["/no/such/program"]}

    with pytest.raises(ServiceError, match="cannot be started"):
        kept.services.start(told(broken))


def test_the_environment_is_theirs(kept: Kept, tmp_path: Path) -> None:
    out = tmp_path / "out"
    kept.start(
        service("a", f"import os,time; open({str(out)!r}, 'w').write(os.environ['MINE']); time.sleep(600)")
    )

    wait(lambda: out.exists() and out.read_text() == "yes", "file")


def test_a_number_that_another_process_has_now_is_not_ours() -> None:
    assert same(os.getpid(), identity(os.getpid()))
    assert not same(os.getpid(), "1")
    assert not same(0, "")
    assert identity(2**22 + 1) == ""


# --- systemd ------------------------------------------------------------------------------------------


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for systemd's two commands; return the folder with its memory."""
    tools, memory = tmp_path / "bin", tmp_path / "memory"
    tools.mkdir()
    memory.mkdir()
    for name, text in (("systemctl", SYSTEMCTL), ("loginctl", LOGINCTL)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(memory))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return memory


def test_units_are_written_started_drained_and_taken_away(systemd: Path, tmp_path: Path) -> None:
    (systemd / "lingers").touch()
    services = Services(str(tmp_path / "hosting"), "test")
    unit = tmp_path / ".config/systemd/user/a.service"

    answer = services.start(told(service("a"), how="auto"))

    assert (answer["how"], answer["notes"]) == ("systemd", [])
    assert f"StandardOutput=append:{services.log}" in unit.read_text()
    assert services.state()["services"][0]["running"] is True
    assert services.drain(5) is True
    assert services.stop() is True
    assert not unit.exists()
    calls = (systemd / "calls").read_text()
    assert "--user enable --now a.service" in calls
    assert "--user kill --kill-who=main --signal=SIGUSR1 a.service" in calls
    assert "--user disable --now a.service" in calls


def test_lingering_is_enabled_where_that_is_allowed(systemd: Path, tmp_path: Path) -> None:
    (systemd / "may-linger").touch()
    services = Services(str(tmp_path / "hosting"), "test")

    answer = services.start(told(service("a"), how="auto"))

    assert answer["how"] == "systemd"
    assert "lingering" in answer["notes"][0]
    services.stop()


def test_where_systemd_would_end_them_at_logout_a_keeper_takes_them(systemd: Path, tmp_path: Path) -> None:
    services = Services(str(tmp_path / "hosting"), "test")

    answer = services.start(told(service("a"), how="auto"))
    try:
        assert answer["how"] == "keeper"
        assert "sudo loginctl enable-linger" in answer["notes"][0]
        assert json.loads(services.spec.read_text())["how"] == "keeper"
    finally:
        services.stop()
