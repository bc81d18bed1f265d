"""Row 25: a worker inside a Slurm job ends before the job does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.acceptance.conftest import Farm, wait_for

from .conftest import HEARTBEAT_S, Build, attempts
from .slurm import Slurm, skip_without_slurm

MakeBuild = Callable[..., Build]
Files = dict[str, str]

JOB = """#!/bin/sh
# Slurm tells the batch script (B:) a minute before the end; `exec` makes the worker the one that is told.
exec cf-worker --capability shell --slots 1 --no-monitor --join {line}
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """A cluster of one node."""
    skip_without_slurm()
    folder = tmp_path_factory.mktemp("slurm")
    # munge wants a folder that others may enter.
    for path in (folder, folder.parent, folder.parent.parent):
        path.chmod(0o755)
    made = Slurm(folder / "s")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A farm with one worker that is no pilot."""
    farm = Farm(tmp_path_factory.mktemp("farm"), "shell")
    farm.here.environ["CF_HEARTBEAT"] = f"{HEARTBEAT_S}s"
    try:
        farm.start(1)
        yield farm
    finally:
        farm.stop()


def pilot(place: Farm, slurm: Slurm, *options: str) -> str:
    """Submit a worker with a home of its own; return its job when it is there."""
    line = place.here.call("cf-taskmanager", "invite", "--role", "worker", cwd=place.folder).stdout.strip()
    environ = {**place.here.environ, "CF_HOME": str(slurm.folder / f"home{time.monotonic_ns()}")}
    job = slurm.submit(JOB.format(line=line), *options, environ=environ)
    wait_for(lambda: len(place.status()["workers"]) == 2, "the pilot", lambda: slurm.logs() + place.logs())
    return job


@pytest.mark.parametrize("number", ["USR1", pytest.param("TERM", marks=pytest.mark.slow)])
def test_25_a_pilot_that_is_told_that_its_time_is_up(
    number: str, slurm: Slurm, place: Farm, build: MakeBuild, undisturbed: Files
) -> None:
    """Told as `sbatch --signal=B:USR1@60` tells it, only sooner: it drains, and nothing is begun twice.

    After TERM it ends at once, and what it had begun is run elsewhere.
    """
    work = build(pause_s=0.2)
    job = pilot(place, slurm, "--time=5", f"--signal=B:{number}@60")
    work.start(place.here)
    work.wait_for(6, place.logs)
    slurm.call("scancel", "--batch", f"--signal={number}", job)
    wait_for(lambda: slurm.state(job) not in ("RUNNING", "COMPLETING"), "end of the job", slurm.logs)
    work.finish(place.logs)
    # A worker that is told to end at once says so with its code, 143: whoever sent TERM has cancelled the job.
    ends = ("COMPLETED",) if number == "USR1" else ("CANCELLED", "FAILED")
    assert slurm.state(job) in ends, slurm.logs()
    assert work.files() == undisturbed
    assert max(work.begun().values()) <= (1 if number == "USR1" else 2)
    tries = [one for each in attempts(place.here, work).values() for one in each]
    assert len({one["worker"] for one in tries}) == 2


@pytest.mark.slow
def test_25_a_pilot_at_its_real_limit(
    slurm: Slurm, place: Farm, build: MakeBuild, undisturbed: Files
) -> None:
    """One minute, and a word 45 s before its end, which Slurm sends up to a minute early."""
    work = build(pause_s=6)
    job = pilot(place, slurm, "--time=1", "--signal=B:USR1@30")
    work.start(place.here)
    work.finish(place.logs, patience_s=200)
    assert slurm.state(job) == "COMPLETED", slurm.logs()
    assert work.files() == undisturbed
    assert set(work.begun().values()) == {1}


def test_25_a_job_that_is_cancelled(slurm: Slurm, place: Farm, build: MakeBuild, undisturbed: Files) -> None:
    """`scancel` without a warning: what ran there is run elsewhere."""
    work = build(pause_s=0.15)
    job = pilot(place, slurm, "--time=5")
    work.start(place.here)
    work.wait_for(6, place.logs)
    slurm.call("scancel", job)
    work.finish(place.logs)
    assert work.files() == undisturbed
    assert max(work.begun().values()) <= 2
    wait_for(lambda: slurm.state(job) == "CANCELLED", "end of the job", slurm.logs)
