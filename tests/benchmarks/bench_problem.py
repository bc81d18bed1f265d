"""A problem description of 10 000 tasks against the dodo file that means the same, and against plain commands.

Budget: at most twice the processor time of the equivalent dodo file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from .bench_null_build import best
from .programs import environment

TASKS = 10_000

PROBLEM = """\
problem: large
params: {opt: -O2}
tasks:
  compile:
    capability: gcc
    action: compile
    foreach: {source: 'src/*.c'}
    object: 'build/{source.stem}.o'
    flags: ['{opt}', -Iinclude]
  link: {capability: gcc, action: link, objects: '{compile.object}', output: prog}
"""

DODO = """\
from pathlib import Path
from computefarm import farm

SOURCES = sorted(Path("src").glob("*.c"))

def task_compile():
    for source in SOURCES:
        yield {"name": source.stem, **farm.action("gcc", "compile", source=source, object=f"build/{source.stem}.o",
               flags=["-O2", "-Iinclude"])}

def task_link():
    return farm.action("gcc", "link", objects=[f"build/{source.stem}.o" for source in SOURCES], output="prog")
"""

PLAIN = """\
from pathlib import Path
from computefarm import needs

SOURCES = sorted(Path("src").glob("*.c"))

def task_compile():
    for source in SOURCES:
        yield {"name": source.stem, "actions": [f"gcc -O2 -Iinclude -c {source} -o build/{source.stem}.o"],
               "file_dep": [str(source)], "targets": [f"build/{source.stem}.o"], "meta": needs("gcc")}
"""


@pytest.mark.benchmark
def test_planning(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    (folder / "src").mkdir(parents=True)
    for number in range(TASKS):
        (folder / "src" / f"f{number:05}.c").write_text(f"int f{number};\n")
    for name, text in (("problem.yaml", PROBLEM), ("dodo.py", DODO), ("plain.py", PLAIN)):
        (folder / name).write_text(text)
    listing = [sys.executable, "-m", "computefarm.cli.majordomo", "list"]
    env = environment(tmp_path / "home")
    commands = [[*listing, name] for name in ("problem.yaml", "dodo.py", "plain.py")]
    (_, problem), (_, dodo), (_, plain) = best(commands, folder, env)
    print(
        f"\nplanning {TASKS} tasks: problem.yaml {problem:.2f} s of CPU, farm.action in a dodo file {dodo:.2f} s, "
        f"ratio {problem / dodo:.2f} (budget 2); plain commands {plain:.2f} s"
    )
