"""Capability files of one's own, and workers whose compilers differ."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

OWN = """\
capability: brew
summary: Say what one was told
worker: shell
probe:
  version: {run: [/bin/sh, -c, 'echo 3.4'], match: '(\\d+(\\.\\d+)+)'}
  tags: {leaf: {run: [/bin/sh, -c, 'echo green']}}
fingerprint: version
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def dodo(project: Path, text: str) -> None:
    (project / "dodo.py").write_text("from computefarm import needs\n" + textwrap.dedent(text))


BREW = """
    def task_brew():
        return {"actions": ["echo %s > cup"], "targets": ["cup"], "meta": needs(%s)}
"""


@pytest.mark.parametrize("whose", ["user", "project"])
def test_a_capability_of_ones_own(whose: str, machine: Any, project: Path) -> None:
    folder = machine.home / "config/capabilities" if whose == "user" else project / "capabilities"
    folder.mkdir(parents=True, mode=0o700)
    (folder / "brew.yaml").write_text(OWN)
    dodo(project, BREW % ("tea", '"brew>=3", tags={"leaf": "green"}'))
    machine.majordomo("run", cwd=project)
    assert (project / "cup").read_text() == "tea\n"
    assert "brew" in machine.majordomo("capabilities", cwd=project)

    dodo(project, BREW % ("tea", '"brew>=3", tags={"leaf": "black"}'))
    text = machine.majordomo("run", cwd=project, code=5)
    assert "leaf=black" in text
    assert "green" in text


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("colour: red\n", ["colour", "expected"]),
        ("resources: {cpus: many}\n", ["resources", "cpus", "many", "expected"]),
        ("logs: [1]\n", ["logs", "expected"]),
        ("actions: {a: {walk: [x]}}\n", ["actions", "walk", "expected"]),
        ("tabs:\n\t- x\n", ["YAML"]),
    ],
)
def test_a_capability_file_with_a_mistake(line: str, said: list[str], machine: Any, project: Path) -> None:
    (project / "capabilities").mkdir()
    (project / "capabilities/brew.yaml").write_text(OWN + line)
    dodo(project, BREW % ("tea", '"brew"'))
    text = machine.majordomo("run", cwd=project, code=3)
    assert "Traceback" not in text
    for word in ["capabilities/brew.yaml:", *said]:
        assert word in text, text
    number = len(OWN.splitlines()) + 1
    assert f"brew.yaml:{number}" in text or f"brew.yaml:{number + 1}" in text, text


def worker_with_gcc(made: Any, version: str) -> Any:
    """Start a worker on a machine of its own where `gcc` says it is this version."""
    machine = type(made.here)(made.folder / f"gcc-{version}")
    tools = machine.home / "tools"
    tools.mkdir(parents=True)
    (tools / "gcc").write_text(
        f'#!/bin/sh\ncase "$1" in -dumpfullversion) echo {version};; *) exec /usr/bin/gcc "$@";; esac\n'
    )
    (tools / "gcc").chmod(0o755)
    machine.environ["PATH"] = f"{tools}:{machine.environ['PATH']}"
    made.machines.append(machine)
    line = made.here.call("cf-taskmanager", "invite", "--role", "worker", cwd=made.folder).stdout.split()[-1]
    machine.start(
        "cf-worker", "--capability", "gcc", "--slots", "1", "--name", f"w{version}", "--join", line
    )
    return machine


COMPILE = """
    def task_compile():
        for n in range(6):
            yield {{
                "name": str(n), "actions": [f"sleep 0.1; gcc -c {{n}}.c -o {{n}}.o"], "file_dep": [f"{{n}}.c"],
                "targets": [f"{{n}}.o"], "meta": needs("gcc"{more}),
            }}
"""


def test_two_compilers_never_mix_in_one_run(
    farm: Callable[..., Any], project: Path, until: Callable[..., None]
) -> None:
    if not Path("/usr/bin/gcc").exists():
        pytest.skip("NOT TESTED: needs /usr/bin/gcc")
    for number in range(6):
        (project / f"{number}.c").write_text(f"int f{number}(void) {{ return {number}; }}\n")
    made = farm(0)
    old = worker_with_gcc(made, "12.2.0")
    worker_with_gcc(made, "13.1.0")

    def offered() -> set[str]:
        return {worker["worker"] for worker in made.status()["workers"]}

    def ran() -> dict[str, str]:
        tasks = made.here.json("history", cwd=project)["tasks"]
        return {task["task"]: task["worker"] for task in tasks if task["outcome"] == "succeeded"}

    until(lambda: offered() == {"w12.2.0", "w13.1.0"}, "two workers", made.logs)
    dodo(project, COMPILE.format(more=", any_toolchain=True"))
    made.here.majordomo("run", cwd=project)
    assert set(ran().values()) == {"w12.2.0", "w13.1.0"}

    dodo(project, COMPILE.format(more=""))
    (project / "2.c").write_text("int g(void) { return 0; }\n")
    made.here.majordomo("run", "-a", cwd=project)
    [used] = set(ran().values())
    other = {"w12.2.0": "w13.1.0", "w13.1.0": "w12.2.0"}[used]
    why = made.here.majordomo("why", "compile:0", cwd=project)
    assert other in why, why

    # Only the other one is left.
    gone = next(m for m in made.machines if m.home.name == f"gcc-{used[1:]}")
    gone.stop()
    made.machines.remove(gone)
    until(lambda: offered() == {other}, "one worker less", made.logs)
    made.here.majordomo("run", cwd=project)
    assert set(ran().values()) == {other}
    why = made.here.json("why", "compile:0", cwd=project)
    assert f"gcc changed {used[1:]} → {other[1:]}" in json.dumps(why["rerun"], ensure_ascii=False), why
    assert old is not None
