"""What a farm task sees of the project, and what comes back of it; here and on a worker that shares nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BIG = 40 * 1024 * 1024
ODD = ("with space.txt", "ünï çödé ☃.txt", "-dash.txt", "a/b/c/deep.txt", "[x]*.txt", "quote'\".txt")


@pytest.fixture(params=["embedded", "joined worker"])
def place(request: pytest.FixtureRequest, machine: Any, farm: Callable[..., Any]) -> Any:
    """Where majordomo runs: alone, or with a TaskManager and a worker in another home."""
    return machine if request.param == "embedded" else farm(1, "shell", slots=2).here


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def dodo(project: Path, text: str) -> None:
    (project / "dodo.py").write_text("from computefarm import needs\n" + textwrap.dedent(text))


def put(project: Path, **files: str) -> None:
    for name, text in files.items():
        (project / name).write_text(text)


def leftovers(project: Path) -> list[str]:
    return [str(path) for path in project.rglob(".cf-*")]


def test_a_task_sees_exactly_what_it_declares(place: Any, project: Path) -> None:
    for name in ODD:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(name)
    put(project, secret="not declared", empty="", target_of_link="linked")
    (project / "tool.sh").write_text("#!/bin/sh\necho it runs\n")
    (project / "tool.sh").chmod(0o755)
    (project / "link.txt").symlink_to("target_of_link")
    (project / "inc/sub").mkdir(parents=True)
    put(project / "inc", **{"one.h": "1", "two.txt": "2"})
    put(project / "inc/sub", **{"three.h": "3"})
    dodo(
        project,
        f"""
        def task_look():
            return {{
                "actions": ["find . ! -name . -printf '%%P|%%y|%%s|%%m\\\\n' | LC_ALL=C sort > listing.out; ./tool.sh"],
                "file_dep": {[*ODD, "empty", "tool.sh", "link.txt"]!r},
                "targets": ["listing.out"],
                "verbosity": 2,
                "meta": needs("shell", inputs=["inc/**/*.h"]),
            }}
        """,
    )
    assert "it runs" in place.majordomo("run", cwd=project)

    listed = [line.rsplit("|", 3) for line in (project / "listing.out").read_text().splitlines()]
    files = {name: (int(size), mode) for name, kind, size, mode in listed if kind == "f"}
    files.pop("listing.out", None)  # the shell makes it while find looks
    declared = {*ODD, "empty", "tool.sh", "link.txt", "inc/one.h", "inc/sub/three.h"}
    assert set(files) == declared
    assert {kind for _, kind, _, _ in listed} == {"f", "d"}
    assert {name for name, kind, _, _ in listed if kind == "d"} == {"a", "a/b", "a/b/c", "inc", "inc/sub"}
    assert (files["empty"][0], files["link.txt"][0], files["tool.sh"][1]) == (0, len("linked"), "755")
    assert {mode for name, (_, mode) in files.items() if name != "tool.sh"} == {"644"}


def test_outputs_of_every_kind_come_back(place: Any, project: Path) -> None:
    dodo(
        project,
        """
        NAMES = ["out/with space.txt", "out/ünï ☃.txt", "-dash.out", "out/a/b/c.txt", "out/empty"]
        def task_make():
            return {
                "actions": [
                    "mkdir -p out/a/b tree/x/y; cd out; echo 1 > 'with space.txt'; echo 2 > 'ünï ☃.txt'",
                    "echo 3 > ./-dash.out; echo 4 > out/a/b/c.txt; : > out/empty",
                    "printf '#!/bin/sh\\\\necho made\\\\n' > out/prog; chmod +x out/prog",
                    "echo t > tree/one; echo t > tree/x/two; echo t > tree/x/y/.three; ln -s one tree/alias",
                    "touch g-1.log g-2.log not-wanted",
                ],
                "targets": [*NAMES, "out/prog", "tree"],
                "meta": needs("shell", outputs=["g-*.log"]),
            }
        """,
    )
    place.majordomo("run", cwd=project)

    def read(name: str) -> str:
        return (project / name).read_text()

    assert [read(n) for n in ("out/with space.txt", "out/ünï ☃.txt", "-dash.out", "out/a/b/c.txt")] == [
        "1\n",
        "2\n",
        "3\n",
        "4\n",
    ]
    assert read("out/empty") == ""
    assert subprocess.run([project / "out/prog"], capture_output=True, text=True).stdout == "made\n"
    assert not os.access(project / "out/empty", os.X_OK)
    found = sorted(str(p.relative_to(project)) for p in (project / "tree").rglob("*") if p.is_file())
    assert found == ["tree/alias", "tree/one", "tree/x/two", "tree/x/y/.three"]
    assert sorted(p.name for p in project.glob("g-*")) == ["g-1.log", "g-2.log"]
    assert not (project / "not-wanted").exists()
    assert leftovers(project) == []
    place.majordomo("run", cwd=project)
    assert place.json("history", cwd=project)["tasks"][0]["cached"]  # never up to date without a file_dep


def test_large_files_travel_both_ways(place: Any, project: Path) -> None:
    (project / "big.bin").write_bytes(os.urandom(BIG))
    dodo(
        project,
        """
        def task_turn():
            return {
                "actions": ["cp big.bin back.bin; printf x >> back.bin"],
                "file_dep": ["big.bin"], "targets": ["back.bin"], "meta": needs("shell"),
            }
        """,
    )
    place.majordomo("run", cwd=project)
    assert (project / "back.bin").read_bytes() == (project / "big.bin").read_bytes() + b"x"
    assert leftovers(project) == []


def test_two_thousand_small_inputs(place: Any, project: Path) -> None:
    (project / "many").mkdir()
    for number in range(2_000):
        (project / f"many/{number}").write_text(f"{number}\n")
    dodo(
        project,
        """
        def task_sum():
            return {
                "actions": ["cat many/* | awk '{s += $1} END {print NR, s}' > sum"],
                "targets": ["sum"], "meta": needs("shell", inputs=["many"]),
            }
        """,
    )
    place.majordomo("run", cwd=project)
    assert (project / "sum").read_text().split() == ["2000", str(sum(range(2_000)))]


def test_scribbling_over_the_inputs_harms_nobody_else(place: Any, project: Path) -> None:
    put(project, small="right\n")
    (project / "big").write_bytes(content := b"right\n" * 200_000)
    dodo(
        project,
        """
        SCRIBBLE = (
            "echo wrong > small; printf wrong | dd of=big conv=notrunc status=none; truncate -s 7 big;"
            " chmod 777 small big; rm big; echo wrong > big"
        )
        def task_scribble():
            for number in range(3):
                yield {
                    "name": str(number), "actions": [SCRIBBLE, f"echo {number} > scribbled.{number}"],
                    "file_dep": ["small", "big"], "targets": [f"scribbled.{number}"], "meta": needs("shell"),
                }
        def task_read():
            for number in range(3):
                yield {
                    "name": str(number), "actions": [f"cat small big > read.{number}"],
                    "file_dep": ["small", "big"], "task_dep": ["scribble"],
                    "targets": [f"read.{number}"], "meta": needs("shell", env={"N": str(number)}),
                }
        """,
    )
    place.majordomo("run", cwd=project)
    for number in range(3):
        assert (project / f"read.{number}").read_bytes() == b"right\n" + content
    assert ((project / "small").read_text(), (project / "big").read_bytes()) == ("right\n", content)


def test_an_input_that_changes_on_the_way_never_gives_a_wrong_result(
    place: Any, project: Path, until: Callable[..., None]
) -> None:
    """It changes while tasks before it keep the farm busy: either what was sent counts, or a named failure."""
    put(project, late="before\n")
    dodo(
        project,
        """
        def task_a():
            return {"actions": ["sleep 1; touch gate"], "targets": ["gate"], "meta": needs("shell", cache=False)}
        def task_b():
            return {
                "actions": ["cat late > copied"], "file_dep": ["late"], "targets": ["copied"],
                "task_dep": ["a"], "meta": needs("shell"),
            }
        def task_c():
            return {
                "actions": ["cat late > copied2"], "file_dep": ["late"], "targets": ["copied2"],
                "meta": needs("shell"),
            }
        """,
    )
    run = subprocess.Popen(
        ["majordomo", "run"], cwd=project, env=place.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    until((project / "copied2").exists, "first copy", lambda: "")
    put(project, late="after!!\n")
    text = run.communicate(timeout=60)[0].decode()
    if run.returncode:
        assert run.returncode == 1
        assert "late" in text
        assert "changed" in text
    # Whatever happened: now everything is made of what the file says now.
    place.majordomo("run", cwd=project)
    assert (project / "copied").read_text() == (project / "copied2").read_text() == "after!!\n"


def test_an_input_that_changes_before_it_is_sent_is_named(
    farm: Callable[..., Any], project: Path, until: Callable[..., None]
) -> None:
    """The manager stands still between the submission and its question for the file."""
    put(project, late="before\n", early="early\n")
    dodo(
        project,
        """
        def task_first():
            return {
                "actions": ["cp early first"], "file_dep": ["early"], "targets": ["first"], "meta": needs("shell"),
            }
        def task_gate():
            return {"actions": ["until test -e go; do sleep 0.05; done"], "task_dep": ["first"]}
        def task_late():
            return {
                "actions": ["cat late > copied"], "file_dep": ["late"], "targets": ["copied"],
                "task_dep": ["gate"], "meta": needs("shell"),
            }
        """,
    )
    made = farm(1, "shell")
    manager = made.here.started[0]
    with (project / "log").open("wb") as log:
        run = subprocess.Popen(
            ["majordomo", "run"], cwd=project, env=made.here.environ, stdout=log, stderr=log
        )
    try:
        until((project / "first").exists, "first file", made.logs)
        os.kill(manager.pid, signal.SIGSTOP)
        put(project, go="")
        time.sleep(1.5)  # it is planned and submitted, and nobody answers
        put(project, late="after!!\n")
        os.kill(manager.pid, signal.SIGCONT)
        code = run.wait(40)
    finally:
        os.kill(manager.pid, signal.SIGCONT)
        run.kill()
        run.wait()
    text = (project / "log").read_text()
    if code == 0:
        assert (project / "copied").read_text() == "before\n"
    else:
        assert code == 1, text
        assert "late" in text
        assert "changed" in text
        assert not (project / "copied").exists()
    made.here.majordomo("run", cwd=project)
    assert (project / "copied").read_text() == "after!!\n"


BAD_OUTPUTS = {
    "dot dot": ('"actions": ["echo x > ../x"], "targets": ["../x"]', "../x"),
    "absolute": ('"actions": ["true"], "targets": ["/tmp/cf-never"]', "/tmp/cf-never"),
    "link to a file outside": ('"actions": ["ln -s /etc/passwd leak"], "targets": ["leak"]', "leak"),
    "link to a folder outside": ('"actions": ["rm -rf leak; ln -s /etc leak"], "targets": ["leak/passwd"]', "leak/passwd"),
    "link with dot dot": ('"actions": ["rm -rf up; ln -s ../../../../../../../../../../../.. up"], "targets": ["up/etc/passwd"]', "up/etc/passwd"),
    "link in a folder": ('"actions": ["mkdir d; ln -s /etc/passwd d/leak"], "targets": ["d"]', "d/leak"),
    "fifo": ('"actions": ["mkfifo pipe"], "targets": ["pipe"]', "pipe"),
    "not there": ('"actions": ["true"], "targets": ["absent.txt"]', "absent.txt"),
    "dangling": ('"actions": ["ln -s nowhere dangling"], "targets": ["dangling"]', "dangling"),
}


def test_outputs_that_cannot_be_taken_are_named(place: Any, project: Path) -> None:
    for number, (task, _) in enumerate(BAD_OUTPUTS.values()):
        folder = project / str(number)
        folder.mkdir()
        dodo(folder, f"def task_bad():\n    return {{{task}, 'meta': needs('shell')}}\n")
    for number, (kind, (_, name)) in enumerate(BAD_OUTPUTS.items()):
        folder = project / str(number)
        text = place.majordomo("run", cwd=folder, code=1)
        assert name in text, (kind, text)
        assert "Traceback" not in text, (kind, text)
        assert [p.name for p in folder.iterdir() if not p.name.startswith(".majordomo")] in (
            ["dodo.py"],
            ["__pycache__", "dodo.py"],
            ["dodo.py", "__pycache__"],
        ), kind
    assert not Path("/tmp/cf-never").exists()


def test_a_project_folder_that_is_a_link_out_of_it_is_not_written_through(place: Any, project: Path) -> None:
    outside = project.parent / "outside"
    outside.mkdir()
    (project / "build").symlink_to(outside)
    dodo(
        project,
        """
        def task_a():
            return {"actions": ["echo x > build/x"], "targets": ["build/x"], "meta": needs("shell")}
        """,
    )
    text = place.majordomo("run", cwd=project, code=1)
    assert "build/x" in text
    assert "outside" in text
    assert list(outside.iterdir()) == []


def test_files_of_the_host(place: Any, project: Path) -> None:
    dodo(
        project,
        """
        def task_a():
            return {"actions": ["true"], "file_dep": ["/etc/hostname"], "meta": needs("shell")}
        """,
    )
    text = place.majordomo("run", cwd=project, code=3)
    assert "/etc/hostname is outside the project" in text
    dodo(
        project,
        """
        def task_a():
            return {
                "actions": ["cat /etc/hostname > name"], "file_dep": ["/etc/hostname"], "targets": ["name"],
                "meta": needs("shell", host_files=["/etc/hostname"]),
            }
        """,
    )
    place.majordomo("run", cwd=project)
    assert (project / "name").read_text() == Path("/etc/hostname").read_text()


def test_an_undeclared_file_is_named_with_the_line_to_add(place: Any, project: Path) -> None:
    put(project, **{"hidden.h": "int x;"})
    dodo(
        project,
        """
        def task_a():
            return {"actions": ["cat hidden.h > out"], "targets": ["out"], "meta": needs("shell")}
        """,
    )
    text = place.majordomo("run", cwd=project, code=1)
    assert "hidden.h, which is in the project but not declared" in text
    assert "needs(inputs=['hidden.h'])" in text


def test_killed_while_outputs_arrive_no_target_is_half_written(
    place: Any, project: Path, until: Callable[..., None]
) -> None:
    """SIGKILL at the first sight of a temporary file: the old target stands whole, and the next run is right."""
    old = b"old" * 1_000
    (project / "out.bin").write_bytes(old)
    dodo(
        project,
        f"""
        def task_a():
            return {{
                "actions": ["yes n | tr -d '\\\\n' | head -c {BIG} > out.bin"],
                "targets": ["out.bin"], "meta": needs("shell"),
            }}
        """,
    )
    run = subprocess.Popen(
        ["majordomo", "run"], cwd=project, env=place.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until(lambda: leftovers(project) or run.poll() is not None, "delivery", lambda: "", 60)
    run.send_signal(signal.SIGKILL)
    run.wait(20)
    assert (project / "out.bin").read_bytes() in (old, b"n" * BIG)
    names = {path.name for path in project.iterdir()} - {"dodo.py", "out.bin", "__pycache__"}
    assert all(name.startswith(".") for name in names), names

    until(
        lambda: place.call("majordomo", "run", cwd=project).returncode == 0, "second run", lambda: "", 30
    )
    assert (project / "out.bin").read_bytes() == b"n" * BIG
