"""What a user reads when a machine cannot get into a farm: what is wrong, and one command to type next."""

from __future__ import annotations

import contextlib
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

import pytest

MakeFarm = Callable[..., Any]
Until = Callable[..., None]

PROGRAMS = ["majordomo", "cf-worker", "cf-monitor"]
ROLE = {"majordomo": "client", "cf-worker": "worker", "cf-monitor": "monitor"}


class Guest:
    """A machine that has joined a farm as client and worker."""

    def __init__(self, place: Any) -> None:
        self.place = place
        self.machine = type(place.here)(place.folder / "guest")
        place.machines.append(self.machine)
        self.project = place.folder / "project"
        self.project.mkdir()
        (self.project / "dodo.py").write_text(
            "from computefarm import needs\n\n\ndef task_t():\n"
            "    return {'actions': ['echo hi'], 'meta': needs('shell', cache=False)}\n"
        )
        for role in ("client", "worker"):
            self.join(role)
        self.farm = self.place.here.home / "config/farms/default"

    def join(self, role: str) -> None:
        """Join with a new invitation."""
        invited = self.place.here.call("cf-taskmanager", "invite", "--role", role, cwd=self.place.folder)
        self.machine.majordomo("join", invited.stdout.strip(), cwd=self.project)

    def key(self, role: str) -> str:
        """Return the public half of a key of this machine."""
        [path] = self.machine.home.glob(f"config/farms/*/keys/{role}.key")
        return path.read_text().split()[0]

    def authorized(self, change: Callable[[str], str]) -> None:
        """Edit the manager's file as a user does."""
        path = self.farm / "authorized"
        path.write_text(change(path.read_text()))

    def fails(self, program: str, code: int, *texts: str, python: str = "") -> str:
        """Run a program until it has said all `texts`; majordomo ends by itself, with `code`."""
        command = {
            "majordomo": ["majordomo", "run"],
            "cf-worker": ["cf-worker", "--capability", "shell", "--no-monitor"],
            "cf-monitor": ["cf-monitor"],
        }[program]
        if python:
            module = {"majordomo": "majordomo", "cf-worker": "worker", "cf-monitor": "monitor"}[program]
            start = f"import sys; sys.argv[0] = {program!r}; {python}; from computefarm.cli.{module} import main; sys.exit(main())"
            command = [sys.executable, "-c", start, *command[1:]]
        log = self.place.folder / f"{program}.out"
        with log.open("wb") as out:
            process = subprocess.Popen(
                command,
                cwd=self.project,
                env=self.machine.environ,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        try:
            deadline = time.monotonic() + 30
            while not all(re.search(text, log.read_text()) for text in texts):
                if process.poll() is not None and program == "majordomo":
                    break
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            if program == "majordomo":
                assert process.wait(20) == code, log.read_text()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        said = log.read_text()
        for text in texts:
            assert re.search(text, said), said
        assert "Traceback" not in said
        return said


@pytest.fixture
def guest(farm: MakeFarm) -> Guest:
    return Guest(farm(1, "shell"))


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_manager_is_not_running(program: str, guest: Guest) -> None:
    guest.place.here.call("cf-taskmanager", "stop", cwd=guest.project)
    address = guest.place.address
    guest.fails(
        program,
        4,
        rf"no TaskManager answers at {address}: nothing listens there",
        r"cf-taskmanager start.* --daemon",
    )


@contextlib.contextmanager
def dropped(port: int) -> Iterator[None]:
    """Drop what comes to a port of this machine, as a firewall does."""
    if shutil.which("nft") is None or os.geteuid() != 0:
        pytest.skip("NOT TESTED: a blocked port needs nft and root")
    table = f"cf_test_{os.getpid()}"
    rules = f"add table inet {table}\nadd chain inet {table} c {{ type filter hook input priority 0; }}\n"
    rules += f"add rule inet {table} c tcp dport {port} drop\n"
    made = subprocess.run(["nft", "-f", "-"], input=rules, text=True, capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"NOT TESTED: a blocked port: {made.stderr}")
    try:
        yield
    finally:
        subprocess.run(["nft", "delete", "table", "inet", table], check=True)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_port_is_blocked(program: str, guest: Guest) -> None:
    address = guest.place.address
    port = int(address.rpartition(":")[2])
    with dropped(port):
        guest.fails(
            program, 4, rf"{address} does not answer at all: a firewall", rf"sudo ufw allow {port}/tcp"
        )


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_key_is_unknown(program: str, guest: Guest) -> None:
    key = guest.key("client" if program == "majordomo" else "worker")
    guest.authorized(
        lambda text: "".join(line for line in text.splitlines(True) if key not in line or "by=" in line)
    )
    role = ROLE[program]
    said = guest.fails(
        program,
        6,
        rf"does not know this machine's key, {key}",
        rf"cf-taskmanager allow {key} --role {role} --as [\w.@-]+",
    )
    command = re.search(r"cf-taskmanager (allow \S+ --role \w+ --as \S+)", said)
    assert command is not None
    done = guest.place.here.call("cf-taskmanager", *command[1].split(), cwd=guest.project)
    assert done.returncode == 0, done.stderr
    if program == "majordomo":
        guest.machine.majordomo("run", cwd=guest.project)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_farm_was_made_anew(program: str, guest: Guest, until: Until) -> None:
    here = guest.place.here
    here.call("cf-taskmanager", "stop", cwd=guest.project)
    shutil.rmtree(guest.farm)
    here.start("cf-taskmanager", "start", "--listen", guest.place.address)
    until(lambda: guest.place.status().get("address") == guest.place.address, "manager", guest.place.logs)
    guest.fails(
        program,
        6,
        r"is not the manager that this machine joined",
        r"cf-taskmanager invite --role \w+ .*join again",
    )
    if program == "majordomo":
        guest.join("client")
        guest.machine.majordomo("status", cwd=guest.project)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("how", ["revoked", "expired", "from elsewhere"])
def test_the_key_was_shut_out(program: str, how: str, guest: Guest) -> None:
    key = guest.key("client" if program == "majordomo" else "worker")
    if how == "revoked":
        done = guest.place.here.call("cf-taskmanager", "revoke", key, cwd=guest.project)
        assert re.search(r"revoked \w+ \S+: 0 live connections ended", done.stdout), done.stderr
    else:
        more = "expires=2001-01-01" if how == "expired" else "hosts=192.0.2.7"
        guest.authorized(lambda text: re.sub(rf"(?m)^(\w+ \S+ {key})$", rf"\1 {more}", text))
    guest.fails(
        program,
        6,
        r"does not know this machine's key any more: it was revoked, has expired, may not come from this address",
        rf"cf-taskmanager allow {key} --role {ROLE[program]} --as ",
    )
    until = time.monotonic() + 10
    while f"key {key}" not in guest.place.logs():
        assert time.monotonic() < until, guest.place.logs()
        time.sleep(0.1)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(("protocol", "older"), [(0, "this machine"), (2, "the manager's machine")])
def test_the_versions_do_not_fit(program: str, protocol: int, older: str, guest: Guest) -> None:
    guest.fails(
        program,
        6,
        rf"this farm speaks protocol 1 .*this machine {protocol} .*: {older} is the older",
        rf"pip install 'computefarm==\S+'    # on {older}",
        python=f"import computefarm.services.link as link; link.PROTOCOL = {protocol}",
    )


def test_the_key_is_another_role_s(guest: Guest) -> None:
    key = guest.key("client")
    guest.authorized(lambda text: re.sub(rf"(?m)^client (\S+ {key})", r"viewer \1", text))
    guest.fails("majordomo", 6, r"may not act as client")
    shutil.move(
        *(str(guest.machine.home / f"config/farms/default/keys/{role}.key") for role in ("client", "viewer"))
    )
    text = guest.machine.majordomo("run", cwd=guest.project, code=6)
    assert "this machine has no client key" in text
    assert "cf-taskmanager invite --role client" in text
    guest.machine.majordomo("status", cwd=guest.project)
    worker = guest.machine.call("cf-worker", "stop", cwd=guest.project)
    assert worker.returncode == 0


def test_a_viewer_looks_and_does_nothing_else(farm: MakeFarm, tmp_path: Path) -> None:
    place = farm(1, "shell")
    viewer = type(place.here)(place.folder / "viewer")
    line = place.here.call("cf-taskmanager", "invite", "--role", "viewer", cwd=place.folder).stdout.strip()
    viewer.majordomo("join", line, cwd=place.folder)
    assert "shell" in viewer.majordomo("status", cwd=place.folder)
    assert viewer.json("status", cwd=place.folder)["workers"]
    assert "shell" in viewer.majordomo("capabilities", cwd=place.folder)
    project = place.folder / "project"
    project.mkdir()
    (project / "dodo.py").write_text(
        "from computefarm import needs\n\n\ndef task_t():\n    return {'actions': ['echo'], 'meta': needs('shell')}\n"
    )
    place.here.majordomo("run", cwd=project)
    assert viewer.call("majordomo", "why", "t", cwd=project).returncode in (0, 3)
    text = viewer.majordomo("run", cwd=project, code=6)
    assert "no client key" in text


def test_keys_in_files_that_others_can_read(guest: Guest) -> None:
    [key] = guest.machine.home.glob("config/farms/*/keys/client.key")
    key.chmod(0o640)
    assert f"chmod 600 {key}" in guest.machine.majordomo("status", cwd=guest.project, code=6)
    key.chmod(0o600)
    key.parent.chmod(0o755)
    assert f"chmod 700 {key.parent}" in guest.machine.majordomo("status", cwd=guest.project, code=6)
    key.parent.chmod(0o700)
    access = key.parent.parent / "access.json"
    access.chmod(0o666)
    assert f"chmod 600 {access}" in guest.machine.majordomo("status", cwd=guest.project, code=6)
    access.chmod(0o600)
    table = guest.farm / "authorized"
    table.chmod(0o644)
    done = guest.place.here.call("cf-taskmanager", "keys", cwd=guest.project)
    assert (done.returncode, f"chmod 600 {table}" in done.stderr) == (6, True), done.stderr
    table.chmod(0o600)
    guest.machine.majordomo("status", cwd=guest.project)
