"""Cables that are pulled, packets that are lost, lines that are slow or long: rows 8 to 13."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import Farm, wait_for
from tests.acceptance.machines import PORT, NetMachine, Network, network

from .conftest import Build, attempts

MakeBuild = Callable[..., Build]
MakeFarm = Callable[..., Farm]
Files = dict[str, str]

HEARTBEAT_S = 1.0
LEASE_S = 3 * HEARTBEAT_S
HERE = Path(__file__).parent


class NetFarm:
    """A manager on `boss`, a worker each on `desk1` and `desk2`, and majordomo on `laptop`."""

    def __init__(self, net: Network, heartbeat_s: float) -> None:
        self.net = net
        boss = net["boss"]
        boss.environ["CF_HEARTBEAT"] = f"{heartbeat_s}s"
        boss.start("cf-taskmanager", "start", "--listen", f"tcp://{boss.address}:{PORT}")
        wait_for(lambda: boss.call("cf-taskmanager", "status").returncode == 0, "the manager", net.logs)
        for name in ("desk1", "desk2"):
            line = self._invite("worker")
            net[name].start("cf-worker", "--capability", "shell", "--slots", "1", "--join", line)
        joined = net["laptop"].call("majordomo", "join", self._invite("client"))
        assert joined.returncode == 0, joined.stderr
        self.wait_for_workers(2)

    def _invite(self, role: str) -> str:
        done = self.net["boss"].call("cf-taskmanager", "invite", "--role", role)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @property
    def laptop(self) -> NetMachine:
        """The machine with majordomo."""
        return self.net["laptop"]

    def workers(self) -> list[str]:
        """Return the machines whose workers the manager takes for alive."""
        boss = self.net["boss"]
        return [worker["worker"].split("-")[0] for worker in boss.json("status", cwd=boss.folder)["workers"]]

    def wait_for_workers(self, count: int) -> None:
        """Wait until so many workers are there."""
        wait_for(lambda: len(self.workers()) == count, f"{count} workers", self.net.logs, 60)

    def build(self, make: MakeBuild, name: str, **more: float | str) -> Build:
        """Make a build on the laptop."""
        return make(name, folder=self.laptop.folder, **more)


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetFarm]:
    """One farm for all tests here: each mends what it has broken."""
    with network(tmp_path_factory.mktemp("n"), "boss", "desk1", "desk2", "laptop") as net:
        yield NetFarm(net, HEARTBEAT_S)


@pytest.fixture(autouse=True)
def mended(farm: NetFarm) -> Iterator[None]:
    """Leave the network whole."""
    yield
    for machine in farm.net.machines.values():
        machine.mend()
        machine.end_detours()
    farm.wait_for_workers(2)


def pull_the_cable(farm: NetFarm, work: Build, who: str, how_long_s: float) -> None:
    """Run the build and cut one machine off for a while in the middle of it."""
    work.start(farm.laptop)
    work.wait_for(5, farm.net.logs)
    farm.net[who].cut()
    time.sleep(how_long_s)
    farm.net[who].mend()
    work.finish(farm.net.logs)


@pytest.mark.parametrize("who", ["desk1", "laptop"])
def test_08_a_cut_shorter_than_a_lease(who: str, farm: NetFarm, build: MakeBuild, undisturbed: Files) -> None:
    work = farm.build(build, f"short-{who}", pause_s=0.25)
    pull_the_cable(farm, work, who, LEASE_S / 2)
    assert work.files() == undisturbed
    assert set(work.begun().values()) == {1}, "nothing was run again"


def test_09_a_cut_longer_than_a_lease(farm: NetFarm, build: MakeBuild, undisturbed: Files) -> None:
    work = farm.build(build, "long", pause_s=0.5)
    pull_the_cable(farm, work, "desk1", LEASE_S * 1.7)
    assert work.files() == undisturbed
    again = [name for name, times in work.begun().items() if times > 1]
    assert 1 <= len(again) <= 2, "what ran there and what had been sent ahead"
    assert max(work.begun().values()) == 2, "given away once"


@pytest.mark.slow
def test_09_a_cut_of_a_minute(farm: NetFarm, build: MakeBuild, undisturbed: Files) -> None:
    work = farm.build(build, "minute", pause_s=3)
    pull_the_cable(farm, work, "desk1", 60)
    assert work.files() == undisturbed


@pytest.mark.parametrize("direction", ["sent", "received"])
def test_10_one_way_loss(direction: str, farm: NetFarm, build: MakeBuild, undisturbed: Files) -> None:
    """Half a connection is none: the worker's tasks go to the other one."""
    work = farm.build(build, f"one-way-{direction}", pause_s=0.4)
    work.start(farm.laptop)
    work.wait_for(5, farm.net.logs)
    farm.net["desk1"].lose(100, sent=direction == "sent", received=direction == "received")
    wait_for(lambda: farm.workers() == ["desk2"], "loss of desk1", farm.net.logs, 4 * LEASE_S)
    farm.net["desk1"].mend()
    work.finish(farm.net.logs)
    assert work.files() == undisturbed
    assert max(work.begun().values()) <= 2


def test_11_a_slow_line_that_loses_packets(farm: NetFarm, build: MakeBuild, undisturbed: Files) -> None:
    """10 Mbit/s and 10 % loss, with 3 MB to carry: slower, and no worker is taken for dead."""
    work = farm.build(build, "lossy", pause_s=0.05)
    big = os.urandom(3_000_000)
    (work.folder / "src/big").write_bytes(big)
    work.add("""
def task_big():
    return {
        "actions": ["cat src/big src/big > build-big"], "file_dep": ["src/big"], "targets": ["build-big"],
        "meta": needs("shell", cache=False),
    }
""")
    for name in ("desk1", "desk2"):
        farm.net[name].throttle("10mbit")
        farm.net[name].lose(10)
    work.start(farm.laptop)
    work.finish(farm.net.logs, patience_s=120)
    assert work.files() == undisturbed
    built = hashlib.sha256((work.folder / "build-big").read_bytes()).digest()
    assert built == hashlib.sha256(big + big).digest()
    assert set(work.begun().values()) == {1}, "heartbeats did not wait behind the bulk"


@pytest.fixture
def far_away(farm: NetFarm) -> NetFarm:
    """The farm with both workers 200 ms away, each way."""
    boss = farm.net["boss"].address
    for name in ("desk1", "desk2"):
        desk = farm.net[name]
        proxy = [sys.executable, str(HERE / "delay.py"), "9999", f"{boss}:{PORT}", "0.2"]
        desk.detour(boss, 9999, *proxy)
        # What is connected already goes straight on: the workers have to dial again.
        desk.cut()
    wait_for(lambda: not farm.workers(), "loss of both workers", farm.net.logs, 30)
    for name in ("desk1", "desk2"):
        farm.net[name].plug_in()
    farm.wait_for_workers(2)
    return farm


def test_12_a_long_line(far_away: NetFarm, build: MakeBuild, undisturbed: Files) -> None:
    work = far_away.build(build, "far", pause_s=0.02)
    work.start(far_away.laptop)
    work.finish(far_away.net.logs)
    assert work.files() == undisturbed
    assert set(work.begun().values()) == {1}


@pytest.mark.slow
def test_12_a_long_line_is_kept_busy(far_away: NetFarm, build: MakeBuild, undisturbed: Files) -> None:
    """A worker does not wait 0.4 s for each of the short tasks that it could have had ahead."""
    work = far_away.build(build, "busy", pause_s=0.02)
    work.start(far_away.laptop)
    work.wait_for(1, far_away.net.logs)
    began = time.monotonic()
    work.finish(far_away.net.logs)
    took_s = time.monotonic() - began
    one_by_one_s = 25 * (0.4 + 0.02) / 2
    assert took_s < one_by_one_s, f"{took_s:.1f} s, and one by one it would be {one_by_one_s:.1f}"


def test_13_everything_is_said_twice(own_farm: MakeFarm, build: MakeBuild, undisturbed: Files) -> None:
    """Messages of a worker and of majordomo are repeated, at once and out of order."""
    place = own_farm(1)
    invited = place.here.call("cf-taskmanager", "invite", "--role", "worker", cwd=place.folder)
    stutter = [sys.executable, str(HERE / "stutter.py")]
    place.machines[1].start(
        *stutter, "cf-worker", "--capability", "shell", "--slots", "1", "--join", invited.stdout.strip()
    )
    wait_for(lambda: len(place.status()["workers"]) == 2, "the stutterer", place.logs)
    work = build(pause_s=0.1)
    done = place.here.call(*stutter, "majordomo", "run", cwd=work.folder)
    assert done.returncode == 0, done.stdout + done.stderr + place.logs()
    assert work.files() == undisturbed
    assert set(work.begun().values()) == {1}
    ran = {one["worker"] for tries in attempts(place.here, work).values() for one in tries}
    assert len(ran) == 2
