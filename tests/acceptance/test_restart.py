"""A TaskManager that is killed and started again has lost nothing: same bytes, every action once."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

DODO = """
from computefarm import needs

LOG = {log!r}
WAIT = {wait!r}

def act(name, command):
    return f"echo {{name}} >> {{LOG}}; sleep {{WAIT}}; {{command}}"

def task_make():
    for n in range({many}):
        yield {{
            "name": f"{{n:03}}",
            "actions": [act(f"make{{n}}", f"seq {{n}} {{n + 50}} > made{{n}}.txt")],
            "targets": [f"made{{n}}.txt"],
            "meta": needs("shell"),
        }}

def task_fold():
    for n in range({many}):
        yield {{
            "name": f"{{n:03}}",
            "actions": [act(f"fold{{n}}", f"cksum made{{n}}.txt made{{(n + 1) % {many}}}.txt > fold{{n}}.txt")],
            "file_dep": [f"made{{n}}.txt", f"made{{(n + 1) % {many}}}.txt"],
            "targets": [f"fold{{n}}.txt"],
            "meta": needs("shell"),
        }}

def task_all():
    parts = [f"fold{{n}}.txt" for n in range({many})]
    return {{
        "actions": [act("all", "cat " + " ".join(parts) + " > all.txt")],
        "file_dep": parts,
        "targets": ["all.txt"],
        "meta": needs("shell"),
    }}
"""


class Build:
    """A project whose actions leave a line each outside of it, so that every execution counts."""

    def __init__(self, folder: Path, many: int, wait: str = "0.02") -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.log = folder.with_suffix(".actions")
        self.said = folder.with_suffix(".said")
        (folder / "dodo.py").write_text(DODO.format(log=str(self.log), many=many, wait=wait))
        self.many = many
        self.runs: list[subprocess.Popen[bytes]] = []

    def executed(self) -> list[str]:
        """Return the actions begun so far."""
        return self.log.read_text().split() if self.log.exists() else []

    def every_action(self) -> list[str]:
        """Return what should be executed in all."""
        return sorted([f"{kind}{n}" for kind in ("make", "fold") for n in range(self.many)] + ["all"])

    def products(self) -> dict[str, bytes]:
        """Return the bytes of everything that was built."""
        return {path.name: path.read_bytes() for path in sorted(self.folder.glob("*.txt"))}

    def start(self, machine: Any) -> subprocess.Popen[bytes]:
        """Run it beside the test."""
        with self.said.open("ab") as said:
            run = subprocess.Popen(
                ["majordomo", "run"],
                cwd=self.folder,
                env=machine.environ,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        self.runs.append(run)
        return run


@pytest.fixture
def build() -> Iterator[Callable[..., Build]]:
    """Make builds whose runs end with the test."""
    made: list[Build] = []

    def make(folder: Path, many: int, wait: str = "0.02") -> Build:
        made.append(one := Build(folder, many, wait))
        return one

    yield make
    for one in made:
        for run in one.runs:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
                run.wait()


@pytest.fixture
def undisturbed(tmp_path: Path, machine: Any) -> Callable[[int], dict[str, bytes]]:
    """What a build gives when nobody disturbs it."""

    def build(many: int) -> dict[str, bytes]:
        calm = Build(tmp_path / "calm", many, wait="0")
        machine.majordomo("run", "--farm", "local", cwd=calm.folder)
        assert sorted(calm.executed()) == calm.every_action()
        return calm.products()

    return build


def journal(farm: Any) -> Path:
    return Path(farm.here.home / "state" / "journal" / "default")


def kill(farm: Any) -> None:
    """End the manager at once."""
    farm.manager.kill()
    farm.manager.wait()


def restart(farm: Any) -> None:
    """Start a manager again where the last one was."""
    farm.manager = farm.here.start("cf-taskmanager", "start", "--listen", farm.address)


def finish(run: subprocess.Popen[bytes], said: Path, farm: Any, patience_s: float = 90) -> None:
    """Wait for a green end."""
    try:
        code = run.wait(patience_s)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        pytest.fail(f"the run does not end\n{said.read_text()}\n{farm.logs()}")
    assert code == 0, said.read_text() + farm.logs()


def killed_at(farm: Any, build: Build, moments: list[int], until: Callable[..., None]) -> None:
    """Run a build, and kill and restart the manager whenever so many actions have begun."""
    run = build.start(farm.here)
    for moment in moments:
        until(
            lambda moment=moment: len(build.executed()) >= moment or run.poll() is not None,
            f"{moment} actions",
            lambda: build.said.read_text() + farm.logs(),
        )
        kill(farm)
        restart(farm)
    finish(run, build.said, farm)


def test_killed_at_many_moments_nothing_is_lost_or_done_twice(
    farm: Any,
    build: Callable[..., Build],
    tmp_path: Path,
    until: Callable[..., None],
    undisturbed: Callable[[int], dict[str, bytes]],
) -> None:
    expected = undisturbed(40)
    made = farm(2, "shell", slots=2)
    one = build(tmp_path / "stormy", 40)
    killed_at(made, one, [1, 5, 14, 20, 33, 45, 60, 75, 80], until)
    assert one.products() == expected
    assert sorted(one.executed()) == one.every_action()
    assert "from the journal" in made.here.logs()


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_killed_at_a_hundred_random_moments(
    farm: Any,
    build: Callable[..., Build],
    tmp_path: Path,
    until: Callable[..., None],
    undisturbed: Callable[[int], dict[str, bytes]],
) -> None:
    seed = int(os.environ.get("CF_SEED", random.randrange(10**6)))
    print("seed", seed)
    many = 400
    expected = undisturbed(many)
    made = farm(2, "shell", slots=2)
    one = build(tmp_path / "stormy", many)
    moments = sorted(random.Random(seed).sample(range(1, 2 * many), 100))
    killed_at(made, one, moments, until)
    assert one.products() == expected
    assert sorted(one.executed()) == one.every_action(), f"seed {seed}"


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_a_running_attempt_is_adopted(
    farm: Any, project: Any, until: Callable[..., None], sign: signal.Signals
) -> None:
    made = farm(1, "shell")
    work = project()
    run = work.start(made.here)
    until(lambda: len(work.processes()) == 2, "task", work.said)
    before = work.living()
    made.manager.send_signal(sign)
    made.manager.wait(20)
    assert work.living() == before, "nobody ends what runs because a manager does"
    restart(made)
    until(lambda: made.status().get("tasks", {}).get("running") == 1, "adoption", made.logs)
    assert work.living() == before
    work.open()
    finish(run, work.log, made)
    assert work.times() == 1
    assert (work.folder / "out.txt").read_text() == "done\n"


def test_what_ended_meanwhile_is_taken(farm: Any, project: Any, until: Callable[..., None]) -> None:
    made = farm(1, "shell")
    work = project()
    run = work.start(made.here)
    until(lambda: len(work.processes()) == 2, "task", work.said)
    kill(made)
    work.open()
    until(lambda: not work.living(), "end of the task", made.logs)
    restart(made)
    finish(run, work.log, made)
    assert work.times() == 1


def test_what_was_accepted_is_done_without_its_client(
    farm: Any, build: Callable[..., Build], tmp_path: Path, until: Callable[..., None]
) -> None:
    made = farm(1, "shell")
    one = build(tmp_path / "left", 6, wait="0.3")
    run = one.start(made.here)
    until(lambda: len(one.executed()) >= 2, "two actions", made.logs)
    kill(made)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    restart(made)
    # What had been submitted, the first row, goes on; what depends on it had not been.
    until(lambda: len(one.executed()) >= 6, "the first row", made.logs)
    said = made.here.majordomo("run", cwd=one.folder)
    assert sorted(one.executed()) == one.every_action(), said


def test_without_its_journal_it_is_another_manager(
    farm: Any, project: Any, until: Callable[..., None]
) -> None:
    made = farm(1, "shell")
    work = project()
    run = work.start(made.here)
    until(lambda: len(work.processes()) == 2, "task", work.said)
    kill(made)
    shutil.rmtree(journal(made))
    restart(made)
    until(lambda: work.times() == 2, "second attempt", lambda: work.said() + made.logs())
    until(lambda: len(work.living()) == 2, "end of the first attempt", made.logs)
    work.open()
    finish(run, work.log, made)


def test_damage_is_refused_explained_and_mended(
    farm: Any, build: Callable[..., Build], tmp_path: Path
) -> None:
    made = farm(1, "shell")
    one = build(tmp_path / "some", 10, wait="0")
    made.here.majordomo("run", cwd=one.folder)
    running = made.here.call("cf-taskmanager", "fsck", cwd=tmp_path)
    assert running.returncode == 6
    assert f"process {made.manager.pid}" in running.stderr
    kill(made)
    fine = made.here.call("cf-taskmanager", "fsck", cwd=tmp_path)
    assert fine.returncode == 0, fine.stdout + fine.stderr
    assert "in order" in fine.stdout
    assert "0 waiting, 0 running" in fine.stdout

    path = min(journal(made).glob("*.journal"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    refused = made.here.call("cf-taskmanager", "start", "--listen", made.address, cwd=tmp_path)
    assert refused.returncode == 2
    for expected in (str(path), "byte", "cf-taskmanager fsck --name default"):
        assert expected in refused.stderr
    assert "Traceback" not in refused.stderr

    damaged = made.here.call("cf-taskmanager", "fsck", cwd=tmp_path)
    assert damaged.returncode == 1
    assert f"DAMAGE in {path}" in damaged.stdout
    assert "--repair" in damaged.stdout
    mended = made.here.call("cf-taskmanager", "fsck", "--repair", cwd=tmp_path)
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert "lost:" in mended.stdout
    assert [kept.read_bytes() for kept in journal(made).glob(f"damaged-*/{path.name}")] == [bytes(data)]
    assert made.here.call("cf-taskmanager", "fsck", cwd=tmp_path).returncode == 0
    restart(made)
    (one.folder / "all.txt").unlink()
    made.here.majordomo("run", cwd=one.folder)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[Path], Path]]:
    """Mount a file system of 256 KiB."""
    mounted: list[Path] = []

    def mount(path: Path) -> Path:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs", str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"NOT TESTED: a full disk needs the right to mount a tmpfs: {done.stderr.strip()}")
        mounted.append(path)
        return path

    yield mount
    for path in mounted:
        subprocess.run(["umount", "-l", str(path)], check=True)


def fill(path: Path) -> None:
    """Leave no room."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


def test_a_full_disk_is_told_and_outlived(
    farm: Any,
    project: Any,
    build: Callable[..., Build],
    tmp_path: Path,
    until: Callable[..., None],
    small_disk: Callable[[Path], Path],
) -> None:
    disk = small_disk(tmp_path / "farm0" / "here" / "state" / "journal")
    made = farm(1, "shell", slots=2)
    work = project()
    run = work.start(made.here)
    until(lambda: len(work.processes()) == 2, "task", work.said)
    fill(disk / "junk")
    first = build(tmp_path / "first", 60, wait="0")  # more than the last page has room for
    runs = [(first.start(made.here), first)]
    until(lambda: "No space left" in made.here.logs(), "word of the full disk", made.logs)
    late = build(tmp_path / "late", 3, wait="0")
    runs.append((late.start(made.here), late))
    until(lambda: "No space left" in late.said.read_text(), "word to the user", late.said.read_text)
    assert late.executed() == [], "nothing is accepted that could be lost"
    assert "No space left" in made.here.majordomo("status", cwd=tmp_path)
    assert len(work.living()) == 2, "and what runs goes on"
    (disk / "junk").unlink()
    for one, its in runs:
        finish(one, its.said, made)
        assert sorted(its.executed()) == its.every_action()
    work.open()
    finish(run, work.log, made)
    assert work.times() == 1
    assert "can be written again" in made.here.logs()
    kill(made)
    assert made.here.call("cf-taskmanager", "fsck", cwd=tmp_path).returncode == 0
