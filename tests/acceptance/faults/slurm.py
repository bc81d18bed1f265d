"""A Slurm of one node that lives in a folder: no service, no root-owned files elsewhere."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.acceptance.machines import kill

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")
PACKAGES = "slurmctld slurmd slurm-client munge"

CONFIGURATION = """
ClusterName=faults
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
SlurmctldPort={ports[0]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=2,batch_sched_delay=0
SlurmdTimeout=10
KillWait=5
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=100 State=UNKNOWN
PartitionName=main Nodes=n1 Default=YES State=UP
"""


def skip_without_slurm() -> None:
    """Skip the test, loudly, where there is no Slurm."""
    missing = [name for name in NEEDED if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    if missing:
        install = f"apt-get install --no-install-recommends {PACKAGES}"
        pytest.skip(f"SLURM NOT TESTED: not installed: {', '.join(missing)} ({install})")
    if os.geteuid() != 0:
        pytest.skip("SLURM NOT TESTED: a cluster of one's own needs root")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Slurm:
    """munged, slurmctld and one slurmd."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("state", "spool"):
            (folder / name).mkdir(parents=True)
        configuration = folder / "slurm.conf"
        host = socket.gethostname().split(".")[0]
        configuration.write_text(
            CONFIGURATION.format(folder=folder, host=host, ports=(free_port(), free_port()))
        )
        self.environ = {
            **os.environ,
            "SLURM_CONF": str(configuration),
            "PATH": f"{os.environ['PATH']}:/usr/sbin",
        }
        key = folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        files = [f"--{name}-file={folder}/munged.{name}" for name in ("pid", "log", "seed")]
        self.call("munged", "--force", f"--key-file={key}", f"--socket={folder}/munge.sock", *files)
        self.call("slurmctld", "-f", str(configuration))
        self.call("slurmd", "-f", str(configuration), "-N", "n1")
        until = time.monotonic() + 20
        while "idle" not in self.call("sinfo", "-h", "-o", "%T"):
            assert time.monotonic() < until, self.logs()
            time.sleep(0.2)

    def call(self, *command: str, environ: dict[str, str] | None = None) -> str:
        """Run one of its commands; return what it printed."""
        done = subprocess.run(
            command,
            env={**(environ or {}), **self.environ},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}{self.logs()}"
        return done.stdout

    def submit(self, script: str, *options: str, environ: dict[str, str]) -> str:
        """Submit a batch script with its environment; return the job's number."""
        path = self.folder / "job.sh"
        path.write_text(script)
        words = [
            "sbatch",
            "--parsable",
            f"--output={self.folder}/job.log",
            f"--chdir={self.folder}",
            *options,
        ]
        ours = {**environ, "SLURM_CONF": self.environ["SLURM_CONF"]}
        done = subprocess.run(
            [*words, str(path)], env=ours, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def state(self, job: str) -> str:
        """Return how a job stands: RUNNING, COMPLETED, TIMEOUT …"""
        words = self.call("scontrol", "show", "job", job).split()
        return next(word.removeprefix("JobState=") for word in words if word.startswith("JobState="))

    def logs(self) -> str:
        """Return what the daemons and the job have written."""
        return "\n".join(
            f"== {path}\n{path.read_text()[-3000:]}" for path in sorted(self.folder.glob("*.log"))
        )

    def close(self) -> None:
        """End jobs and daemons; slurmd's step daemons outlive it, so they are looked for."""
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            self.call("scancel", "--signal=KILL", "--full", "--user=root")
        for name in ("slurmd", "slurmctld", "munged"):
            path = self.folder / f"{name}.pid"
            if path.exists():
                kill(int(path.read_text()))
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if str(self.folder).encode() in (process / "environ").read_bytes():
                    kill(int(process.name))
