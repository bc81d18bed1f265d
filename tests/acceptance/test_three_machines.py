"""Three machines that share nothing but a network, set up as docs/how-to/three-machines.md says, word by word.

In the page, `<!-- machines -->` before a block has its `MACHINE$` lines run there. Each other line is what the command
above it prints, in order, where `…` stands for anything. A shortened invitation, `cf1:…`, stands for the last one
that was printed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import ROOT, Machine, wait_for
from .machines import PORT, NetMachine, Network, network

PAGE = ROOT / "docs/how-to/three-machines.md"
BLOCK = re.compile(r"^<!-- machines -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(\w+)\$ +(.*)")
INVITATION = re.compile(r"\bcf1:\S+")
LOOKS = ("majordomo status", "majordomo host doctor")
"""Commands that are asked again until they say what the page says: a worker takes a second to come up."""


class Page:
    """Runs the page's commands, each machine with a shell of its own."""

    def __init__(self, net: Network) -> None:
        self.net = net
        self.folders = {name: machine.folder for name, machine in net.machines.items()}
        self.invitation = ""

    def run(self, text: str) -> None:
        """Run all blocks of a page, in order."""
        for block in BLOCK.finditer(text):
            commands: list[tuple[str, str, list[str]]] = []
            for line in block[1].splitlines():
                if found := COMMAND.fullmatch(line):
                    commands.append((found[1], found[2], []))
                else:
                    commands[-1][2].append(line)
            for name, command, expected in commands:
                self._do(self.net[name], INVITATION.sub(self.invitation, command), expected)

    def _do(self, machine: NetMachine, line: str, expected: list[str]) -> None:
        if line.endswith("&"):
            machine.start("sh", "-c", f"cd {self.folders[machine.name]}; exec {line[:-1]}")
            log = max(machine.folder.glob("sh.*.log"), key=lambda path: int(path.name.split(".")[1]))
            wait_for(lambda: not lacking(log.read_text(), expected), "the words of the page", machine.logs)
            return
        until = time.monotonic() + (20 if line.startswith(LOOKS) else 0)
        while True:
            code, printed = self._call(machine, line)
            missing = lacking(printed, expected)
            if (code == 0 and not missing) or time.monotonic() >= until:
                break
            time.sleep(0.3)
        assert code == 0, f"{machine.name}$ {line}\nexit {code}:\n{printed}\n{self.net.logs()}"
        assert not missing, (
            f"{machine.name}$ {line}\nprinted no {missing!r} here:\n{printed}\n{self.net.logs()}"
        )
        if found := INVITATION.search(printed):
            self.invitation = found[0]

    def _call(self, machine: NetMachine, line: str) -> tuple[int, str]:
        where = machine.folder / ".where"
        script = f"exec 2>&1; {line}\ncode=$?; pwd > {where}; exit $code"
        done = machine.call("bash", "-c", script, cwd=self.folders[machine.name])
        if where.exists():
            self.folders[machine.name] = Path(where.read_text().strip())
        return done.returncode, done.stdout


def lacking(printed: str, expected: list[str]) -> str:
    """Return the first line that was not printed after those before it, or the empty string."""
    for line in expected:
        found = re.search(".*".join(map(re.escape, line.strip().split("…"))), printed)
        if found is None:
            return line
        printed = printed[found.end() :]
    return ""


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory, lua_with_sources: Path) -> Iterator[Network]:
    """The page's farm, as it is at its end."""
    with network(tmp_path_factory.mktemp("n"), "boss", "desk1", "desk2", home_variable=False) as net:
        copy_lua(lua_with_sources, net["desk2"].folder / "examples/lua")
        try:
            Page(net).run(PAGE.read_text())
            yield net
        finally:
            net["boss"].call("cf-taskmanager", "stop")


def copy_lua(source: Path, folder: Path) -> Path:
    """Put a fresh copy of the example there, downloaded but not built."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("build"))
    return folder


def built(folder: Path) -> dict[str, str]:
    """Return the digests of what was built."""
    files = sorted(path for path in (folder / "build").iterdir() if path.is_file())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def ran(machine: NetMachine, folder: Path) -> dict[str, str]:
    """Return which tasks of the last run were really run by a worker, and the worker's machine."""
    done = machine.call("majordomo", "history", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    tasks = json.loads(done.stdout)["tasks"]
    return {
        task["task"]: task["worker"].split("-")[0]
        for task in tasks
        if task["outcome"] == "succeeded" and task["worker"] and not task["cached"]
    }


@pytest.fixture(scope="module")
def local_files(lua_with_sources: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the digests of a build without any farm."""
    folder = tmp_path_factory.mktemp("local")
    lua = copy_lua(lua_with_sources, folder / "lua")
    Machine(folder / "home").majordomo("run", "--farm", "local", cwd=lua)
    return built(lua)


def test_both_desks_built_it_and_every_byte_is_right(farm: Network, local_files: dict[str, str]) -> None:
    desk = farm["desk2"]
    lua = desk.folder / "examples/lua"
    assert built(lua) == local_files
    first = desk.call("majordomo", "history", "--json", "--run", first_run(desk, lua), cwd=lua)
    hosts = {task["worker"].split("-")[0] for task in json.loads(first.stdout)["tasks"] if task["worker"]}
    assert hosts == {"desk1", "desk2"}


def first_run(desk: NetMachine, lua: Path) -> str:
    """Return the run that built everything: the page's second one had nothing to do."""
    runs = sorted(path.name for path in (desk.folder / ".local/state/computefarm/runs").iterdir())
    return runs[0]


def test_a_second_run_has_nothing_to_do(farm: Network) -> None:
    desk = farm["desk2"]
    lua = desk.folder / "examples/lua"
    done = desk.call("majordomo", "run", cwd=lua)
    assert done.returncode == 0, done.stderr
    assert ran(desk, lua) == {}


def test_one_port_on_one_machine(farm: Network) -> None:
    ports = {name: listening(machine) for name, machine in farm.machines.items()}
    assert ports == {"boss": [f"10.77.0.1:{PORT}"], "desk1": [], "desk2": []}


def listening(machine: NetMachine) -> list[str]:
    """Return where something listens for TCP in a machine's network."""
    return [line.split()[3] for line in machine.call("ss", "-lntH").stdout.splitlines()]


def test_the_machines_have_names_and_files_of_their_own(farm: Network) -> None:
    boss = farm["boss"]
    status = json.loads(boss.call("majordomo", "status", "--json").stdout)
    assert sorted(worker["worker"].split("-")[0] for worker in status["workers"]) == ["desk1", "desk2"]
    assert len({worker["host"] for worker in status["workers"]}) == 2
    assert boss.call("ls", str(farm["desk1"].folder)).returncode != 0


def test_a_key_that_is_revoked_in_the_middle_costs_time_only(
    farm: Network, lua_with_sources: Path, local_files: dict[str, str]
) -> None:
    boss, desk = farm["boss"], farm["desk2"]
    lua = copy_lua(lua_with_sources, desk.folder / "again")
    dodo = (lua / "dodo.py").read_text()
    (lua / "dodo.py").write_text(
        dodo.replace('"actions": [f"{GCC} -c', '"actions": ["sleep 0.2", f"{GCC} -c')
    )
    with (lua / "run.log").open("wb") as log:
        run = subprocess.Popen(
            desk.inside("majordomo", "run", cwd=lua),
            env=desk.environ,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        said = (lua / "run.log").read_text
        wait_for(lambda: len(list(lua.glob("build/*.o"))) >= 4 or run.poll() is not None, "objects", said)
        key = key_of(boss, "worker", "desk1")
        done = boss.call("cf-taskmanager", "revoke", key)
        assert (done.returncode, "desk1" in done.stdout) == (0, True), done.stderr
        assert run.poll() is None
        wait_for(lambda: run.poll() is not None, "end of the run", lambda: said() + farm.logs(), 90)
        assert run.returncode == 0, said() + farm.logs()
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
    assert built(lua) == local_files
    status = json.loads(boss.call("majordomo", "status", "--json").stdout)
    assert [worker["worker"].split("-")[0] for worker in status["workers"]] == ["desk2"]
    assert "refused" in (boss.folder / ".local/state/computefarm/logs/cf-taskmanager-default.log").read_text()


def key_of(boss: NetMachine, role: str, name: str) -> str:
    """Return a key from the list of those who may connect."""
    for line in boss.call("cf-taskmanager", "keys").stdout.splitlines():
        words = line.split()
        if words[:2] == [role, name]:
            return words[2]
    pytest.fail(f"no {role} key of {name}")


def test_a_port_that_is_blocked(farm: Network, tmp_path: Path) -> None:
    """A firewall on the manager's machine: everybody gets a text that ends in the line to type there."""
    boss, desk = farm["boss"], farm["desk1"]
    line = boss.call("cf-taskmanager", "invite", "--role", "client").stdout.strip()
    boss.lose(100, sent=False)
    try:
        joined = desk.call("majordomo", "join", line)
        looked = farm["desk2"].call("majordomo", "status")
    finally:
        boss.mend()
    assert joined.returncode == 4, joined.stdout + joined.stderr
    assert looked.returncode == 4, looked.stdout + looked.stderr
    for text in (joined.stderr, looked.stderr):
        assert f"10.77.0.1:{PORT}" in text
        assert "Traceback" not in text
    assert str(PORT) in joined.stderr.partition("\n")[2], joined.stderr
    assert desk.call("majordomo", "join", line).returncode == 0, "the invitation is not burnt"
