"""`majordomo host` against real sshds on loopback: each "machine" has a home folder of its own and nothing shared."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SSHD = "/usr/sbin/sshd"
DODO = """\
from computefarm import needs


def task_where():
    return {
        "actions": ["echo done > where.txt"],
        "targets": ["where.txt"],
        "meta": needs("shell", cache=False),
    }
"""


def unusable() -> str:
    """Say why there can be no sshd here; empty when there can."""
    if not Path(SSHD).exists() or shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
        return "openssh-server or openssh-client is not installed"
    return "" if os.geteuid() == 0 else "sshd with another home folder needs root"


pytestmark = pytest.mark.skipif(bool(unusable()), reason=f"NOT TESTED: {unusable()}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class FarMachine:
    """An sshd whose logins have a home folder of their own."""

    def __init__(self, folder: Path, name: str, cache: Path, **environ: str) -> None:
        self.folder = folder / name
        self.name = name
        self.home = self.folder / "home"
        self.home.mkdir(parents=True)
        self.port = free_port()
        for key in ("host_key", "user_key"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / key], check=True
            )
        self.environ = {"HOME": str(self.home), "CF_HOME": "", "PIP_CACHE_DIR": str(cache), **environ}
        self.extra = ""
        self.authorized = self.folder / "authorized"
        shutil.copy(self.folder / "user_key.pub", self.authorized)
        self.known = self.folder / "known_hosts"
        self.trust("host_key")
        self.config = self.folder / "ssh_config"
        self.config.write_text(
            f"Host {name}\n HostName 127.0.0.1\n Port {self.port}\n User root\n IdentityFile {self.folder}/user_key\n"
            f" IdentitiesOnly yes\n UserKnownHostsFile {self.known}\n HostKeyAlias {name}\n"
        )
        self.sshd: subprocess.Popen[bytes] | None = None

    def trust(self, key: str) -> None:
        """Let the client know the machine by a key."""
        public = (self.folder / f"{key}.pub").read_text().split()
        self.known.write_text(f"{self.name} {public[0]} {public[1]}\n")

    def start(self) -> FarMachine:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        variables = " ".join(f"{key}={value}" for key, value in self.environ.items())
        (self.folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.folder}/host_key\n"
            f"AuthorizedKeysFile {self.authorized}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
            f"KbdInteractiveAuthentication no\nPidFile none\nSetEnv {variables}\n{self.extra}"
        )
        with (self.folder / "sshd.log").open("ab") as log:
            self.sshd = subprocess.Popen([SSHD, "-D", "-e", "-f", self.folder / "sshd_config"], stderr=log)
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return self
            time.sleep(0.02)
        pytest.fail((self.folder / "sshd.log").read_text())

    def stop(self) -> None:
        if self.sshd is not None:
            self.sshd.terminate()
            self.sshd.wait(10)
            self.sshd = None

    @property
    def state(self) -> Path:
        return self.home / ".local/state/computefarm/hosting"

    @property
    def venvs(self) -> list[Path]:
        return sorted((self.home / ".local/share/computefarm").glob("venv-*"))

    def key(self) -> str:
        """Return its public key."""
        return (self.home / ".config/computefarm/farms/default/keys/worker.key").read_text().split()[0]

    def services(self) -> dict[str, Any]:
        """Return what the keeper there says it runs."""
        path = self.state / "computefarm-default.state.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def end(self) -> None:
        """End what a failed test left running there."""
        told = self.services()
        for pid, _ in (told.get("keeper", (0, "")), *told.get("children", {}).values()):
            if pid and alive(pid):
                os.kill(pid, signal.SIGKILL)
        self.stop()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait(true: Callable[[], object], what: str, told: Callable[[], str], patience_s: float = 30) -> None:
    """Ask again and again until it is true; fail with what is told."""
    until = time.monotonic() + patience_s
    while not true():
        if time.monotonic() > until:
            pytest.fail(f"no {what} within {patience_s:.0f} s\n{told()}")
        time.sleep(0.1)


class Boss:
    """The manager's machine."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        home.mkdir(parents=True)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("CF_", "CHIAPOS_"))}
        path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
        self.environ = {**kept, "CF_HOME": str(home), "CI": "true", "PATH": path}

    def call(self, *command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            command, cwd=cwd or self.home, env=self.environ, capture_output=True, text=True, timeout=280
        )

    def start(self) -> Boss:
        log = self.home / "manager.log"
        command = ["cf-taskmanager", "start", "--listen", f"tcp://127.0.0.1:{self.port}"]
        with log.open("wb") as out:
            self.manager = subprocess.Popen(command, env=self.environ, stdout=out, stderr=out)
        wait((self.home / "config/farms/default/access.json").exists, "manager", log.read_text)
        return self

    def stop(self) -> None:
        self.manager.terminate()
        self.manager.wait(20)

    def host(self, *words: str, code: int = 0) -> str:
        """Run `majordomo host`; return all that it printed."""
        done = self.call("majordomo", "host", *words)
        text = done.stdout + done.stderr
        assert done.returncode == code, f"exit {done.returncode}, not {code}:\n{text}"
        assert "Traceback" not in text
        return text

    def json(self, *words: str, code: int = 0) -> Any:
        done = self.call("majordomo", "host", *words, "--json")
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    def row(self, name: str) -> dict[str, Any]:
        """Return a host's line of `host list`."""
        (row,) = (row for row in self.json("list")["hosts"] if row["host"] == name)
        return dict(row)

    def authorized(self) -> str:
        return self.call("cf-taskmanager", "keys").stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hosts")


@pytest.fixture(scope="module")
def boss(place: Path) -> Iterator[Boss]:
    boss = Boss(place / "boss").start()
    yield boss
    boss.stop()


@pytest.fixture(scope="module")
def nn02(place: Path, boss: Boss) -> Iterator[FarMachine]:
    """One machine that was added, for all tests that only look at it."""
    far = FarMachine(place, "nn02", place / "pip").start()
    boss.host("add", "nn02", "--ssh-config", str(far.config), "--slots", "1")
    yield far
    with contextlib.suppress(AssertionError):
        boss.host("remove", "nn02", "--force")
    far.end()


@pytest.fixture
def far(place: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., FarMachine]]:
    """Make machines that end with the test."""
    made: list[FarMachine] = []

    def make(extra: str = "", **environ: str) -> FarMachine:
        name = f"h{abs(hash(request.node.name)) % 10000}x{len(made)}"
        made.append(one := FarMachine(place, name, place / "pip", **environ))
        one.extra = extra
        return one.start()

    yield make
    for one in made:
        one.end()


# --- what works ---------------------------------------------------------------------------------------


def test_add_installs_enrols_and_starts(boss: Boss, nn02: FarMachine) -> None:
    row = boss.row("nn02")
    (venv,) = nn02.venvs
    key = next((nn02.home / ".config/computefarm/farms/default/keys").iterdir())

    assert row["state"] == "online"
    assert (row["slots"], row["workers"], row["via"]) == (1, 1, "port")
    assert "shell" in row["offers"]
    assert abs(row["clock_offset_s"]) < 0.5
    assert (venv / "bin/cf-worker").exists()
    assert key.name == "worker.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.read_text().split()[1] not in (boss.home / "config/farms/default/hosts.json").read_text()
    assert f"worker nn02 {key.read_text().split()[0]}" in boss.authorized()


def test_a_task_runs_there(boss: Boss, nn02: FarMachine, tmp_path: Path) -> None:
    (tmp_path / "dodo.py").write_text(DODO)

    ran = boss.call("majordomo", "run", "--wait-workers", "30s", cwd=tmp_path)

    assert ran.returncode == 0, ran.stderr
    (task,) = json.loads(boss.call("majordomo", "history", "--json", cwd=tmp_path).stdout)["tasks"]
    (worker,) = json.loads(boss.call("majordomo", "status", "--json").stdout)["workers"]
    assert (tmp_path / "where.txt").read_text() == "done\n"
    assert task["worker"] == worker["worker"]
    assert worker["host"] == boss.row("nn02")["id"]


def test_a_worker_that_dies_is_started_again(boss: Boss, nn02: FarMachine) -> None:
    name = "computefarm-default-worker"
    pid, _ = nn02.services()["children"][name]

    os.kill(pid, signal.SIGKILL)

    wait(
        lambda: (
            nn02.services()["children"].get(name, (pid,))[0] != pid and boss.row("nn02")["state"] == "online"
        ),
        "new worker",
        lambda: (nn02.state / "computefarm-default.log").read_text(),
    )
    assert nn02.services()["restarts"][name] == 1


def test_doctor_finds_all_well(boss: Boss, nn02: FarMachine) -> None:
    told = boss.json("doctor", "nn02")

    assert told["ok"] is True
    (host,) = told["hosts"]
    checks = {one["check"] for one in host["checks"]}
    assert {
        "ssh",
        "version",
        "clock",
        "disk",
        "port",
        "key",
        "worker",
        "monitor",
        "farm",
        "can shell",
    } <= checks


def test_adding_again_leaves_what_is_right_as_it_is(boss: Boss, nn02: FarMachine) -> None:
    boss.host("add", "nn02")
    before, key = nn02.services(), nn02.key()

    said = boss.host("add", "nn02")

    assert "is there already" in said
    assert nn02.services() == before
    assert nn02.key() == key


def test_adding_again_with_other_wishes_replaces_the_worker(boss: Boss, nn02: FarMachine) -> None:
    before, key = nn02.services(), nn02.key()

    boss.host("add", "nn02", "--slots", "2", "--capability", "shell")

    row = boss.row("nn02")
    assert (row["slots"], row["offers"], row["workers"]) == (2, ["shell"], 1)
    assert nn02.services()["children"] != before["children"]
    assert nn02.key() == key
    assert len(nn02.venvs) == 1


def test_doctor_tells_what_is_wrong_and_what_to_type(boss: Boss, nn02: FarMachine) -> None:
    pid, _ = nn02.services()["keeper"]
    os.kill(pid, signal.SIGTERM)
    try:
        while alive(pid):
            time.sleep(0.05)

        told = boss.host("doctor", "nn02", code=1)
    finally:
        boss.host("add", "nn02")

    assert "FAIL  worker" in told
    assert "majordomo host add nn02" in told
    assert boss.host("doctor", "nn02").count("FAIL") == 0


def test_a_killed_keeper_does_not_make_two_workers(boss: Boss, nn02: FarMachine) -> None:
    before = nn02.services()
    os.kill(before["keeper"][0], signal.SIGKILL)

    boss.host("add", "nn02", "--slots", "1")

    assert not any(alive(pid) for pid, _ in before["children"].values())
    assert boss.row("nn02")["workers"] == 1


def test_a_revoked_host_gets_a_new_key_when_it_is_added_again(boss: Boss, nn02: FarMachine) -> None:
    old = nn02.key()
    boss.call("cf-taskmanager", "revoke", old)

    assert "not accepted" in boss.host("doctor", "nn02", code=1)
    boss.host("add", "nn02")

    assert nn02.key() != old
    assert boss.row("nn02")["state"] == "online"


def test_via_ssh_keeps_a_tunnel_and_remove_ends_everything(
    boss: Boss, far: Callable[..., FarMachine]
) -> None:
    there = far()
    boss.host("add", there.name, "--ssh-config", str(there.config), "--via-ssh", "--capability", "shell")
    tunnel = boss.home / f"state/hosting/tunnel-default-{there.name}.state.json"
    access = json.loads((there.home / ".config/computefarm/farms/default/access.json").read_text())
    (ssh, _) = json.loads(tunnel.read_text())["children"]["ssh"]

    row = boss.row(there.name)
    assert (row["via"], row["tunnel"], row["state"]) == ("ssh", True, "online")
    assert access["address"] == row["address"] != f"tcp://127.0.0.1:{boss.port}"

    os.kill(ssh, signal.SIGKILL)
    wait(
        lambda: not alive(ssh) and boss.call("majordomo", "host", "doctor", there.name).returncode == 0,
        "new tunnel",
        lambda: boss.call("majordomo", "host", "doctor", there.name).stdout,
    )

    running = [pid for pid, _ in (there.services()["keeper"], *there.services()["children"].values())]
    said = boss.host("remove", there.name)

    assert "the tunnel has ended" in said
    assert not tunnel.exists()
    assert not any(alive(pid) for pid in running)
    assert there.venvs == []
    assert not list((there.home / ".config").rglob("*.key"))
    assert f"worker {there.name} " not in boss.authorized().replace("revoked:worker", "revoked")
    assert there.name not in boss.host("list")


# --- machines that are gone ---------------------------------------------------------------------------


@pytest.mark.slow
def test_a_host_that_is_gone_is_shut_out_and_can_be_forgotten(
    boss: Boss, far: Callable[..., FarMachine]
) -> None:
    there = far()
    boss.host("add", there.name, "--ssh-config", str(there.config))
    there.stop()

    assert "FAIL  ssh" in boss.host("doctor", there.name, code=1)
    said = boss.host("remove", there.name, code=4)
    assert "its key is revoked" in said
    assert f"majordomo host remove {there.name} --force" in said
    assert boss.row(there.name)["target"] == there.name

    assert "left as it is there" in boss.host("remove", there.name, "--force")
    assert there.name not in boss.host("list")


# --- errors -------------------------------------------------------------------------------------------


def test_logins_that_fail_say_why_and_what_to_type(boss: Boss, far: Callable[..., FarMachine]) -> None:
    there = far()
    add = ("add", there.name, "--ssh-config", str(there.config))

    there.authorized.write_text("")
    said = boss.host(*add, code=6)
    assert "Permission denied" in said
    assert "ssh-copy-id" in said

    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", there.folder / "other"], check=True)
    there.trust("other")
    said = boss.host(*add, code=6)
    assert "another host key" in said
    assert "ssh-keygen -R" in said

    there.known.write_text("")
    said = boss.host(*add, code=6)
    assert "not known here yet" in said
    assert "fingerprint" in said

    there.stop()
    said = boss.host(*add, code=4)
    assert "Connection refused" in said

    assert "resolve" in boss.host("add", "no-such-host.invalid", code=4)
    assert there.name not in boss.host("list")


def test_a_machine_without_a_python_that_is_new_enough(boss: Boss, far: Callable[..., FarMachine]) -> None:
    there = far(PATH="")
    tools = there.folder / "bin"
    tools.mkdir()
    for name in ("sh", "bash", "id", "uname", "cat"):
        os.symlink(str(shutil.which(name)), tools / name)
    there.stop()
    there.environ["PATH"] = str(tools)
    there.start()
    add = ("add", there.name, "--ssh-config", str(there.config))

    said = boss.host(*add, code=3)
    assert "has no python3" in said
    assert "sudo apt install python3" in said

    (tools / "python3").write_text("#!/bin/sh\necho 3.9.2 /usr/bin/python3\n")
    (tools / "python3").chmod(0o755)
    said = boss.host(*add, code=3)
    assert "only Python 3.9.2" in said
    assert there.name not in boss.host("list")


def test_a_port_that_cannot_be_reached(boss: Boss, far: Callable[..., FarMachine]) -> None:
    there = far()

    closed = f"127.0.0.1:{free_port()}"
    said = boss.host("add", there.name, "--ssh-config", str(there.config), "--address", closed, code=4)

    assert "cannot reach the manager" in said
    assert "--via-ssh" in said
    assert there.venvs == []


def test_a_tunnel_that_sshd_forbids(boss: Boss, far: Callable[..., FarMachine]) -> None:
    there = far(extra="AllowTcpForwarding no\n")

    said = boss.host("add", there.name, "--ssh-config", str(there.config), "--via-ssh", code=4)

    assert "forwarding failed" in said
    assert not list((boss.home / "state/hosting").glob("*.state.json"))


@pytest.mark.slow
def test_without_an_index_wheels_travel_along(
    boss: Boss, far: Callable[..., FarMachine], place: Path
) -> None:
    there = far(PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_EXTRA_INDEX_URL="", PIP_NO_CACHE_DIR="1")
    add = ("add", there.name, "--ssh-config", str(there.config), "--capability", "shell")

    said = boss.host(*add, code=2)
    assert "pip on" in said
    assert "--wheels" in said
    assert there.venvs == []

    needs = next(line for line in said.splitlines() if "pip download" in line).partition("#")[0]
    done = subprocess.run(
        ["sh", "-c", needs.replace("--python-version", "--quiet --python-version")],
        cwd=place, env=boss.environ, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"NOT TESTED: pip download fails here: {done.stderr[-300:]}")
    boss.host(*add, "--wheels", str(place / "wheels"))
    assert boss.row(there.name)["state"] == "online"
    boss.host("remove", there.name)


def test_a_full_disk(boss: Boss, far: Callable[..., FarMachine]) -> None:
    there = far()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", there.home], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"NOT TESTED: no small file system can be mounted here: {mounted.stderr}")
    try:
        said = boss.host("add", there.name, "--ssh-config", str(there.config), code=2)
        assert "no room" in said
        assert "df -h" in said
        assert there.venvs == []
    finally:
        subprocess.run(["umount", there.home], check=True)


def test_an_update_that_fails_leaves_the_worker_as_it_was(boss: Boss, nn02: FarMachine) -> None:
    before = nn02.services()["children"]

    said = boss.host("add", "nn02", "--capability", "nonsense", code=5)

    assert "nonsense" in said
    assert "unrecognized arguments: --wrong" in boss.host("add", "nn02", "--", "--wrong", code=3)
    assert nn02.services()["children"] == before
    assert boss.row("nn02")["state"] == "online"


@pytest.mark.slow
def test_a_first_add_that_fails_leaves_nothing_that_runs_or_may_connect(
    boss: Boss, far: Callable[..., FarMachine]
) -> None:
    there = far()

    said = boss.host("add", there.name, "--ssh-config", str(there.config), "--capability", "nonsense", code=5)

    assert "nonsense" in said
    assert there.services() == {}
    assert not list((there.home / ".config").rglob("*.key"))
    assert f"worker {there.name} " not in boss.authorized().replace("revoked:worker", "revoked")
    assert there.name not in boss.host("list")


def test_wrong_command_lines(boss: Boss, tmp_path: Path) -> None:
    assert "majordomo host add" in boss.host(code=3)
    assert "majordomo host add" in boss.host("ad", "x", code=3)
    assert "name the machine" in boss.host("add", code=3)
    assert "not a machine" in boss.host("add", "--", "-oProxyCommand=touch /tmp/x", code=3)
    assert "takes no --slots" in boss.host("list", "--slots", "3", code=3)
    assert "no host 'nobody'" in boss.host("doctor", "nobody", code=3)
    assert "no host 'nobody'" in boss.host("remove", "nobody", code=3)
    done = Boss(tmp_path / "elsewhere").call("majordomo", "host", "list")
    assert done.returncode == 3
    assert "cf-taskmanager start" in done.stderr
