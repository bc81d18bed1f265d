"""Machines as network namespaces: own addresses, host names and files, one switch between them.

A network of N machines is N+1 namespaces: one for each machine and one for the switch, so that nothing of it shows
in the namespace of the tests. Each machine has a process that holds its host name and its mounts: of the network's
folder it sees its own part only, so that no file is shared by accident. Everything is named after the process of
the tests; what a killed test run left behind is removed by the next one.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .conftest import Machine, end

NEEDED = ("ip", "nft", "tc", "ss", "nsenter", "unshare", "mount")
PORT = 11989
PREFIX = "cfm"


def run(*command: str, check: bool = True) -> str:
    """Run a command of the system; return what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def lacking() -> str:
    """Return why there can be no machines here, or the empty string."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (apt-get install iproute2 nftables util-linux)"
    if os.geteuid() != 0:
        return "network namespaces need root"
    probe = f"{PREFIX}{os.getpid()}-probe"
    try:
        run("ip", "netns", "add", probe)
        run("ip", "-n", probe, "link", "add", "b0", "type", "bridge")
        run("ip", "-n", probe, "link", "add", "v0", "type", "veth", "peer", "name", "v1")
        run("unshare", "--uts", "--mount", "true")
    except RuntimeError as error:
        return str(error)
    finally:
        run("ip", "netns", "del", probe, check=False)
    return ""


def skip_without_means() -> None:
    """Skip the test, loudly, where namespaces cannot be made."""
    if reason := lacking():
        pytest.skip(f"NOT TESTED, no machines in network namespaces: {reason}")


class NetMachine(Machine):
    """One machine: commands run in its network, under its name, and see its files only."""

    def __init__(self, network: Network, name: str, address: str, home_variable: bool) -> None:
        self.name = name
        self.address = address
        self.network = network
        self.folder = network.folder / name
        self.folder.mkdir(parents=True)
        super().__init__(self.folder / "home")
        self.detours: list[subprocess.Popen[bytes]] = []
        self.environ |= {"HOME": str(self.folder), "TMPDIR": str(self.folder / "tmp"), "HOSTNAME": name}
        (self.folder / "tmp").mkdir()
        if not home_variable:
            del self.environ["CF_HOME"]
        self.space = f"{PREFIX}{os.getpid()}-{name}"
        self._holder = self._open()

    def _open(self) -> subprocess.Popen[bytes]:
        """Make the namespaces; return the process that keeps those without a name."""
        switch, port = self.network.switch, f"p-{self.name}"
        run("ip", "netns", "add", self.space)
        run(
            "ip",
            "-n",
            switch,
            "link",
            "add",
            port,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            self.space,
        )
        run("ip", "-n", switch, "link", "set", port, "master", "br0", "up")
        run("ip", "-n", self.space, "link", "set", "lo", "up")
        run("ip", "-n", self.space, "addr", "add", f"{self.address}/24", "dev", "eth0")
        run("ip", "-n", self.space, "link", "set", "eth0", "up")
        shared, stash = self.network.folder, self.network.folder.parent / "stash"
        stash.mkdir(exist_ok=True)
        script = f"""
            hostname {self.name}
            mount --bind {self.folder} {stash}
            mount -t tmpfs tmpfs {shared}
            mkdir {self.folder}
            mount --move {stash} {self.folder}
            echo ready
            exec sleep infinity
        """
        holder = subprocess.Popen(
            ["ip", "netns", "exec", self.space, "unshare", "--uts", "--mount", "sh", "-e", "-c", script],
            stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert holder.stdout is not None
        if holder.stdout.readline() != b"ready\n":
            raise RuntimeError(f"machine {self.name} cannot be made")
        return holder

    def inside(self, *command: str, cwd: Path | None = None) -> list[str]:
        """Return the command as it is to be run from the outside."""
        enter = ["nsenter", "--target", str(self._holder.pid), "--net", "--uts", "--mount"]
        return [*enter, "env", "-C", str(cwd or self.folder), *command]

    def call(
        self, *command: str, cwd: Path | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a command here to its end."""
        return super().call(*self.inside(*command, cwd=cwd), cwd=self.folder, timeout=timeout)

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a service here; its output goes to a file in its folder."""
        with (self.folder / f"{Path(command[0]).name}.{len(self.started)}.log").open("wb") as log:
            process = subprocess.Popen(
                self.inside(*command), env=self.environ, stdout=log, stderr=log, start_new_session=True
            )
        self.started.append(process)
        return process

    def logs(self) -> str:
        """Return what the services here have printed."""
        return "\n".join(f"== {path}\n{path.read_text()}" for path in sorted(self.folder.glob("*.log")))

    # --- faults ---------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Pull the cable; nothing here or there is told but by silence."""
        run("ip", "-n", self.network.switch, "link", "set", f"p-{self.name}", "down")

    def plug_in(self) -> None:
        """Put the cable back."""
        run("ip", "-n", self.network.switch, "link", "set", f"p-{self.name}", "up")

    def mend(self) -> None:
        """Undo every fault of this machine's network."""
        self.plug_in()
        run("ip", "netns", "exec", self.space, "nft", "flush", "ruleset")
        run("ip", "-n", self.space, "qdisc", "del", "dev", "eth0", "root", check=False)

    def lose(self, percent: int, *, sent: bool = True, received: bool = True) -> None:
        """Drop so many of the packets that leave or arrive; 100 of one direction is a one-way loss."""
        self._nft("add", "table", "inet", "faults")
        for hook, wanted, device in (("output", sent, "oifname"), ("input", received, "iifname")):
            if wanted:
                kind = f"{{ type filter hook {hook} priority 0 ; }}"
                self._nft("add", "chain", "inet", "faults", hook, kind)
                chance = f"numgen random mod 100 < {percent} " if percent < 100 else ""
                self._nft("add", "rule", "inet", "faults", hook, f"{device} eth0 {chance}drop")

    def detour(self, to: str, port: int, *proxy: str) -> None:
        """Start a proxy, and send this machine's connections to the farm's port to the proxy's instead.

        What a process marks with 1 (SO_MARK) goes straight on.
        """
        self.detours.append(self.start(*proxy))
        self._nft("add", "table", "ip", "detour")
        self._nft("add", "chain", "ip", "detour", "output", "{ type nat hook output priority -100 ; }")
        rule = f"ip daddr {to} tcp dport {PORT} meta mark != 1 redirect to :{port}"
        self._nft("add", "rule", "ip", "detour", "output", rule)

    def end_detours(self) -> None:
        """End the proxies: what went through them is cut."""
        for proxy in self.detours:
            end(proxy)
        self.detours.clear()

    def throttle(self, rate: str) -> None:
        """Limit what this machine sends, such as `10mbit`."""
        run("ip", "netns", "exec", self.space, "tc", "qdisc", "replace", "dev", "eth0", "root",
            "tbf", "rate", rate, "burst", "32kb", "latency", "400ms")  # fmt: skip

    def small_disk(self, where: Path, size: str) -> None:
        """Put a file system of so many bytes there, for this machine only."""
        where.mkdir(parents=True, exist_ok=True)
        done = self.call("mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(where))
        assert done.returncode == 0, done.stderr

    def _nft(self, *words: str) -> None:
        run("ip", "netns", "exec", self.space, "nft", *words)

    # --- the end --------------------------------------------------------------------------------------

    def close(self) -> None:
        """End every process here, then the machine."""
        self.stop()
        for pid in run("ip", "netns", "pids", self.space, check=False).split():
            if int(pid) != self._holder.pid:
                kill(int(pid))
        end(self._holder)
        if self._holder.stdout is not None:
            self._holder.stdout.close()
        run("ip", "netns", "del", self.space, check=False)


class Network:
    """A switch and the machines on it, 10.77.0.1 and up."""

    def __init__(self, folder: Path, *names: str, home_variable: bool = True) -> None:
        remove_leftovers()
        self.folder = folder / "net"
        self.folder.mkdir(parents=True)
        self.switch = f"{PREFIX}{os.getpid()}-switch"
        self.machines: dict[str, NetMachine] = {}
        run("ip", "netns", "add", self.switch)
        run("ip", "-n", self.switch, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", self.switch, "link", "set", "br0", "up")
        for name in names:
            address = f"10.77.0.{len(self.machines) + 1}"
            self.machines[name] = NetMachine(self, name, address, home_variable)

    def __getitem__(self, name: str) -> NetMachine:
        return self.machines[name]

    def logs(self) -> str:
        """Return what all services have printed."""
        return "\n".join(machine.logs() for machine in self.machines.values())

    def close(self) -> None:
        """End everything, also when a machine does not want to."""
        for machine in reversed(self.machines.values()):
            machine.close()
        run("ip", "netns", "del", self.switch, check=False)


@contextmanager
def network(folder: Path, *names: str, home_variable: bool = True) -> Iterator[Network]:
    """Make machines, and take them away again whatever happens."""
    skip_without_means()
    try:
        made = Network(folder, *names, home_variable=home_variable)
    except BaseException:
        remove_leftovers(mine=True)
        raise
    try:
        yield made
    finally:
        made.close()


def remove_leftovers(*, mine: bool = False) -> None:
    """Remove the machines of test runs that were killed (and of this one)."""
    for line in run("ip", "netns", "list", check=False).splitlines():
        space = line.split()[0]
        owner = space.removeprefix(PREFIX).partition("-")[0]
        if not space.startswith(PREFIX) or not owner.isdigit():
            continue
        if (int(owner) == os.getpid() and mine) or not Path(f"/proc/{owner}").exists():
            for pid in run("ip", "netns", "pids", space, check=False).split():
                kill(int(pid))
            run("ip", "netns", "del", space, check=False)


def kill(pid: int) -> None:
    """Kill a process and wait until it is gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    until = time.monotonic() + 5
    while time.monotonic() < until and Path(f"/proc/{pid}/exe").exists():
        time.sleep(0.01)
