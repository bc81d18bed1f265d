"""The store under real processes: damage, what travels, small limits, a cache that is taken away."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BIG = 3 * 1024 * 1024


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def dodo(project: Path, text: str) -> None:
    (project / "dodo.py").write_text("from computefarm import needs\n" + textwrap.dedent(text))


def blob(home: Path, content: bytes) -> Path:
    """Where a home keeps this content."""
    name = hashlib.sha256(content).hexdigest()
    return home / "cache" / "blobs" / name[:2] / name


def flip(path: Path) -> None:
    """Change one byte on the disk, keeping size and times, as a failing disk would."""
    found = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(found.st_size // 2)
        byte = file.read(1)
        file.seek(found.st_size // 2)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def bytes_moved(place: Any, project: Path, task: str) -> tuple[int, int]:
    [found] = [t for t in place.json("history", cwd=project)["tasks"] if t["task"] == task]
    return found["bytes_in"], found["bytes_out"]


SUMS = """
def task_sum():
    for number in range(2):
        yield {
            "name": str(number), "actions": [f"sha256sum < data > sum{number}; cat small >> sum{number}"],
            "file_dep": ["data", "small"], "targets": [f"sum{number}"],
            "meta": needs("shell", env={"ROUND": open("round").read()}),
        }
"""


@pytest.mark.parametrize("whose", ["manager", "worker", "embedded"])
def test_a_flipped_bit_is_noticed_and_the_blob_fetched_again(
    whose: str, machine: Any, farm: Callable[..., Any], project: Path
) -> None:
    data, small = os.urandom(BIG), b"a small one\n"
    (project / "data").write_bytes(data)
    (project / "small").write_bytes(small)
    (project / "round").write_text("1")
    dodo(project, SUMS)
    if whose == "embedded":
        place, home = machine, machine.home
    else:
        made = farm(1, "shell")
        place, home = made.here, made.machines[whose == "worker"].home
    right = f"{hashlib.sha256(data).hexdigest()}  -\n{small.decode()}"
    place.majordomo("run", cwd=project)
    assert (project / "sum0").read_text() == right

    for content in (data, small):
        flip(blob(home, content))
    (project / "round").write_text("2")
    if whose == "manager":
        shutil.rmtree(made.machines[1].home / "cache" / "blobs")  # so that the worker has to ask for them
    place.majordomo("run", cwd=project)
    assert (project / "sum0").read_text() == (project / "sum1").read_text() == right
    assert blob(home, data).read_bytes() == data
    assert blob(home, small).read_bytes() == small


def test_only_what_is_missing_travels(farm: Callable[..., Any], project: Path) -> None:
    (project / "data").write_bytes(os.urandom(BIG))
    (project / "small").write_bytes(b"x" * 100)
    (project / "round").write_text("1")
    dodo(project, SUMS)
    made = farm(1, "shell")
    made.here.majordomo("run", "sum:0", cwd=project)
    bytes_in, bytes_out = bytes_moved(made.here, project, "sum:0")
    assert BIG <= bytes_in <= BIG + 100
    assert 0 < bytes_out < 1_000
    made.here.majordomo("run", "sum:1", cwd=project)
    assert bytes_moved(made.here, project, "sum:1")[0] == 0

    (project / "small").write_bytes(b"y" * 100)
    made.here.majordomo("run", "sum:1", cwd=project)
    assert bytes_moved(made.here, project, "sum:1")[0] == 100


CHAIN = """
def task_link():
    for number in range(12):
        before = f"data{number - 1}" if number else "data"
        yield {
            "name": str(number), "actions": [f"cat {before} > data{number}; echo {number} >> data{number}"],
            "file_dep": [before], "targets": [f"data{number}"], "meta": needs("shell"),
        }
def task_all():
    names = [f"data{number}" for number in range(12)]
    return {
        "actions": ["sha256sum " + " ".join(names) + " > sums"], "file_dep": names, "targets": ["sums"],
        "meta": needs("shell"),
    }
"""


@pytest.mark.parametrize("where", ["embedded", "farm"])
def test_a_store_too_small_for_the_build_never_breaks_it(
    where: str, machine: Any, farm: Callable[..., Any], project: Path
) -> None:
    """Each file is 1 MiB and the limit 2: what is evicted and needed again is fetched again."""
    (project / "data").write_bytes(os.urandom(1024 * 1024))
    dodo(project, CHAIN)
    for home in (machine.home, project.parent / "farm0/here", project.parent / "farm0/worker1"):
        (home / "config").mkdir(parents=True, mode=0o700)
        (home / "config/config.toml").write_text('store-limit = "2MiB"\ncache-limit = "2MiB"\n')
    made = None if where == "embedded" else farm(1, "shell")
    place = machine if made is None else made.here
    place.majordomo("run", cwd=project)
    expected = subprocess.run(
        ["sha256sum", *(f"data{n}" for n in range(12))], cwd=project, capture_output=True, text=True
    ).stdout
    assert (project / "sums").read_text() == expected
    for home in [machine.home] if made is None else [each.home for each in made.machines]:
        kept = sum(p.stat().st_size for p in (home / "cache/blobs").rglob("*") if p.is_file())
        assert kept < 10 * 1024 * 1024, home
    for path in project.glob("data?*"):
        path.unlink()
    place.majordomo("run", cwd=project)
    assert (project / "sums").read_text() == expected


def test_the_cache_deleted_under_a_running_farm(farm: Callable[..., Any], project: Path) -> None:
    (project / "data").write_bytes(os.urandom(100_000))
    dodo(project, CHAIN)
    made = farm(1, "shell")
    made.here.majordomo("run", cwd=project)
    right = (project / "sums").read_text()
    for machine in made.machines:
        shutil.rmtree(machine.home / "cache")
    for path in project.glob("data?*"):
        path.unlink()
    (project / "sums").unlink()
    made.here.majordomo("run", cwd=project)
    assert (project / "sums").read_text() == right


def test_the_cache_deleted_in_the_middle_of_a_build(
    farm: Callable[..., Any], project: Path, until: Callable[..., None]
) -> None:
    (project / "data").write_bytes(os.urandom(100_000))
    dodo(project, CHAIN.replace('[f"cat', '["sleep 0.2", f"cat'))
    made = farm(1, "shell")
    with (project / "log").open("wb") as log:
        run = subprocess.Popen(
            ["majordomo", "run"], cwd=project, env=made.here.environ, stdout=log, stderr=log
        )
    try:
        until((project / "data4").exists, "fifth file", made.logs)
        for machine in made.machines:
            shutil.rmtree(machine.home / "cache")
        code = run.wait(90)
    finally:
        run.kill()
        run.wait()
    text = (project / "log").read_text()
    assert "Traceback" not in text
    if code:  # a task lost the ground under its feet, and that is said
        assert f"{made.machines[1].home}/cache/private/" in text
        assert "no such file or directory" in text
        made.here.majordomo("run", cwd=project)
    expected = subprocess.run(
        ["sha256sum", *(f"data{n}" for n in range(12))], cwd=project, capture_output=True, text=True
    ).stdout
    assert (project / "sums").read_text() == expected
