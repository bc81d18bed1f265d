"""Descriptions and the tasks they mean."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping

import pytest

from computefarm.catalogue import Catalogue
from computefarm.problem import Planned, ProblemError, groups, plan, read

CATALOGUE = Catalogue.load()
FILES = ("src/a.c", "src/b.c", "src/main.c", "src/deep/c.c", "include/x.h", "doc/a.txt", "doc/b.txt")


def glob(pattern: str) -> list[str]:
    """Match as the shell does: a star stops at a slash, two stars do not."""
    regex = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
    return sorted(name for name in FILES if re.fullmatch(regex, name) or (fnmatch.fnmatchcase(name, pattern) and "*" not in pattern))


def planned(
    text: str, overrides: Mapping[str, str] | None = None, others: Mapping[str, str] | None = None
) -> dict[str, Planned]:
    files = {"problem.yaml": text, **(others or {})}

    def load(path: str) -> str:
        if path not in files:
            raise FileNotFoundError(2, "No such file or directory", path)
        return files[path]

    problem = read("problem.yaml", load)
    groups(problem)
    tasks = plan(problem, overrides or {}, CATALOGUE.get, glob)
    return {task.full_name: task for task in tasks}


HELLO = """\
problem: hello
params: {opt: -O2}
tasks:
  link:
    capability: gcc
    action: link
    objects: '{compile.object}'
    output: hello
  compile:
    capability: gcc>=9
    action: compile
    foreach: {source: 'src/*.c'}
    object: 'build/{source.stem}.o'
    flags: ['{opt}', -Iinclude]
    inputs: ['include/**/*.h']
"""


def test_the_problem_of_the_documentation() -> None:
    tasks = planned(HELLO)
    assert list(tasks) == ["compile:a", "compile:b", "compile:main", "link"]
    compile_a = tasks["compile:a"]
    assert compile_a.commands == (
        ("gcc", "-O2", "-Iinclude", "-MMD", "-MF", "build/a.o.d", "-c", "src/a.c", "-o", "build/a.o"),
    )
    assert compile_a.requirement == "gcc>=9"
    assert compile_a.file_dep == ("src/a.c",)
    assert compile_a.targets == ("build/a.o", "build/a.o.d")
    assert compile_a.own == {"inputs": ["include/**/*.h"]}
    assert compile_a.place == "problem.yaml:9:3"
    link = tasks["link"]
    assert link.file_dep == ("build/a.o", "build/b.o", "build/main.o")
    assert link.commands == (("gcc", "build/a.o", "build/b.o", "build/main.o", "-o", "hello"),)


def test_parameters_are_overridden_in_the_shape_of_their_defaults() -> None:
    text = """\
problem: p
params: {opt: -O2, flags: ['{opt}', -g], n: 3, on_: true}
tasks:
  t: {capability: shell, run: [echo, '{flags}', '{n}', '{on_}', 'x{opt}y']}
"""
    assert planned(text)["t"].commands == (("echo", "-O2", "-g", "3", "true", "x-O2y"),)
    changed = planned(text, {"opt": "-O3", "n": "4", "on_": "false"})["t"].commands
    assert changed == (("echo", "-O3", "-g", "4", "false", "x-O3y"),)
    assert planned(text, {"flags": "a,b"})["t"].commands == (("echo", "a", "b", "3", "true", "x-O2y"),)


def test_several_variables_make_every_combination_and_exclude_leaves_out() -> None:
    tasks = planned(
        """\
problem: p
tasks:
  t:
    capability: shell
    foreach: {source: 'src/*.c', mode: [debug, release]}
    exclude: src/main.c
    run: 'cc -D{mode} {source} > out/{mode}/{source.stem}.o'
    outputs: ['out/{mode}/{source.stem}.o', 'logs/']
"""
    )
    assert [task.targets[0] for task in tasks.values()] == [
        "out/debug/a.o", "out/release/a.o", "out/debug/b.o", "out/release/b.o",
    ]  # fmt: skip
    assert tasks["t:src/a.c-debug"].own == {"outputs": ["logs/"]}
    assert tasks["t:src/a.c-debug"].file_dep == ("src/a.c",)


def test_platforms_multiply_and_references_stay_within_one() -> None:
    tasks = planned(
        """\
problem: p
tasks:
  compile:
    capability: gcc
    action: compile
    platforms: [linux-x86_64, linux-aarch64]
    foreach: {source: ['src/a.c', 'src/b.c']}
    object: 'build/{platform}/{source.stem}.o'
  link:
    capability: gcc
    action: link
    platforms: [linux-x86_64, linux-aarch64]
    objects: '{compile.object}'
    output: 'prog-{platform}'
  pack: {capability: shell, run: [tar, cf, all.tar, '{link.output}'], outputs: [all.tar]}
"""
    )
    assert len(tasks) == 7
    link = tasks["link:linux-aarch64"]
    assert link.file_dep == ("build/linux-aarch64/a.o", "build/linux-aarch64/b.o")
    assert link.own == {"tags": {"platform": "linux-aarch64"}}
    assert tasks["pack"].file_dep == ("prog-linux-x86_64", "prog-linux-aarch64")


def test_a_variable_may_run_over_another_tasks_outputs() -> None:
    tasks = planned(
        """\
problem: p
tasks:
  run:
    capability: shell
    foreach: {program: '{link.output}'}
    run: './{program} > {program}.txt'
    outputs: ['{program}.txt']
    name: 'of-{program}'
  link: {capability: gcc, action: link, foreach: {output: [x, y]}, objects: ['src/{output}.o']}
"""
    )
    assert tasks["run:of-x"].file_dep == ("x",)
    assert tasks["run:of-y"].targets == ("y.txt",)
    assert tasks["link:x"].targets == ("x",)


def test_references_among_inputs_make_the_order() -> None:
    task = planned(
        """\
problem: p
tasks:
  use: {capability: shell, run: 'cat gen/*', inputs: ['{gen.outputs}', 'doc/*.txt'], after: gen}
  gen: {capability: shell, run: 'touch gen/1', outputs: gen/1}
"""
    )["use"]
    assert task.file_dep == ("gen/1",)
    assert task.own["inputs"] == ["gen/1", "doc/*.txt"]
    assert task.after == ("gen",)


def test_included_descriptions_add_and_the_outer_parameter_wins() -> None:
    others = {
        "lib/common.yaml": "include: more.yaml\nparams: {opt: -O1, std: c99}\ntasks:\n  lib: {capability: shell, run: [echo, '{opt}', '{std}', '{more}']}\n",
        "lib/more.yaml": "params: {more: yes-}\n",
    }
    text = "problem: p\ninclude: [lib/common.yaml, lib/more.yaml]\nparams: {opt: -O3}\ntasks:\n  t: {capability: shell, run: [true_]}\n"
    tasks = planned(text, None, others)
    assert tasks["lib"].commands == (("echo", "-O3", "c99", "yes-"),)
    assert tasks["lib"].place == "lib/common.yaml:4:3"


def test_groups_and_default() -> None:
    problem = read(
        "p.yaml",
        lambda path: "problem: p\ngroups: {all: [a, b]}\ndefault: all\ntasks:\n  a: {capability: shell, run: x}\n  b: {capability: shell, run: y}\n",
    )
    assert groups(problem) == ({"all": ("a", "b")}, ("all",))


def test_a_brace_is_written_twice() -> None:
    text = "problem: p\ntasks:\n  t: {capability: shell, run: 'awk \"{{print $1}}\"'}\n"
    assert planned(text)["t"].commands == ('awk "{print $1}"',)


TASK = "problem: p\nparams: {opt: -O2}\ntasks:\n  t:\n    capability: gcc\n    action: compile\n    source: a.c\n"


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("problem: x\ntaskz:\n  a: {capability: shell}\n", "2:1", ["taskz", "did you mean `tasks`"]),
        ("problem: x\ntasks: 7\n", "2:1", ["tasks", "a mapping from names to tasks", "the number 7"]),
        ("problem: x\n", "1:1", ["`tasks` is missing"]),
        ("tasks: {a: {capability: shell, run: x}}\n", "1:1", ["`problem` is missing"]),
        ("problem: x\ntasks: {}\n", "2:1", ["not an empty one"]),
        ("problem: x\ntasks: [\n", "3:1", ["line 3", "not YAML"]),
        ("problem: x\ntasks:\n\ta: 1\n", "3:1", ["not YAML", "spaces, not tabs"]),
        ("problem: x\nproblem: y\ntasks: {}\n", "2:1", ["stands here twice, first on line 1"]),
        ("problem: x\ntasks: !!python/object:os.system {}\n", "2:8", ["is not allowed", "nothing in this file is evaluated"]),
        ("problem: x\ntasks:\n  a: {capability: nosuch, run: [echo]}\n", "3:7", ["no capability file describes 'nosuch'"]),
        ("problem: x\ntasks:\n  a: {capability: 'gcc=>9', run: [echo]}\n", "3:7", ["is not a requirement"]),
        ("problem: x\ntasks:\n  a: {run: [echo]}\n", "3:3", ["`capability` is missing"]),
        ("problem: x\ntasks:\n  a: {capabilty: gcc, run: [echo]}\n", "3:3", ["`capability` is missing", "`capabilty`"]),
        ("problem: x\ntasks:\n  a: {capability: gcc}\n", "3:3", ["has neither action nor run"]),
        ("problem: x\ntasks:\n  a: {capability: gcc, action: link, run: x}\n", "3:3", ["has both action and run"]),
        ("problem: x\ntasks:\n  a: {capability: gcc, run: []}\n", "3:24", ["a list with a program"]),
        ("problem: x\ntasks:\n  a: {capability: gcc, run: x, inptus: [b]}\n", "3:32", ["unknown key `inptus`", "did you mean `inputs`"]),
        ("problem: x\ntasks:\n  a: {capability: gcc, action: complie, source: a.c}\n", "3:24", ["no action 'complie'", "did you mean 'compile'"]),
        (TASK, "4:3", ["gcc.compile needs 'object'"]),
        (TASK + "    objct: a.o\n", "8:5", ["unknown key `objct`", "did you mean `object`"]),
        (TASK + "    object: ../a.o\n", "8:5", ["expected a path inside the project"]),
        (TASK + "    object: '{optt}.o'\n", "8:5", ["nothing is called `optt`", "did you mean {opt}"]),
        (TASK + "    object: '{opt.stm}.o'\n", "8:5", ["did you mean `stem`"]),
        (TASK + "    object: '{opt.__class__}.o'\n", "8:5", ["expected one of stem, name, parent, suffix"]),
        (TASK + "    object: '{1+1}.o'\n", "8:5", ["is not a reference"]),
        (TASK + "    object: '{opt'\n", "8:5", ["a single { or"]),
        (TASK + "    object: [a.o, b.o]\n", "8:5", ["expected one value for `object`, got 2"]),
        (TASK + "    object: a.o\n    memory: much\n", "9:5", ["such as '512MiB'"]),
        (TASK + "    object: a.o\n    cpus: 0\n", "9:5", ["a whole number, at least 1"]),
        (TASK + "    object: a.o\n    timeout: soon\n", "9:5", ["such as '10m'"]),
        (TASK + "    object: a.o\n    inputs: [/etc/passwd]\n", "9:5", ["relative to the project"]),
        (TASK + "    object: a.o\n    foreach: {x: 'nothing/*.c'}\n", "9:15", ["no file matches nothing/*.c"]),
        (TASK + "    object: a.o\n    foreach: {x: []}\n", "9:15", ["nothing is left for `x`"]),
        (TASK + "    object: a.o\n    foreach: {opt: [a]}\n", "9:15", ["`opt` is the name of something else"]),
        (TASK + "    object: a.o\n    foreach: {x: [a, b]}\n", "4:3", ["a.o is made by t:a already"]),
        (TASK + "    object: a.o\n    foreach: {x: [a, b]}\n    name: same\n", "10:5", ["several tasks are called 'same'"]),
        (TASK + "    object: '{u.outputs}'\n  u: {capability: gcc, action: link, objects: '{t.object}', output: y}\n", "9:38", ["in a circle: t needs u needs t"]),
        (TASK + "    object: '{t.object}'\n", "8:5", ["in a circle: t needs t"]),
        (TASK + "    object: '{u.objects}'\n  u: {capability: shell, run: x}\n", "8:5", ["unknown key `objects`", "outputs"]),
        (TASK + "    object: a.o\n    after: nobody\n", "9:5", ["no task or group is called `nobody`"]),
        (TASK + "    object: a.o\ngroups: {all: [tt]}\n", "9:16", ["no task or group is called `tt`", "did you mean `t`"]),
        (TASK + "    object: a.o\ndefault: tt\n", "9:1", ["no task or group is called `tt`"]),
        (TASK + "    object: a.o\ngroups: {t: [t]}\n", "9:10", ["`t` is the name of something else already"]),
        (TASK + "    object: a.o\ninclude: nothere.yaml\n", "9:1", ["nothere.yaml cannot be read: No such file"]),
        (TASK + "    object: a.o\ninclude: problem.yaml\n", "9:1", ["in a circle: problem.yaml includes problem.yaml"]),
        (TASK + "    object: a.o\npackages: {x: {url: u, unpack: v}}\n", "9:12", ["`sha256` is missing"]),
        (TASK + "    object: a.o\npackages: {x: {url: u, unpack: v, sha256: abc}}\n", "9:35", ["64 hexadecimal digits"]),
        ("problem: x\ntasks:\n  'a b': {capability: shell, run: x}\n", "3:3", ["is no name for a task"]),
        ("a: &a [x]\n" * 1 + "b: [*a, *c]\n", "2:9", ["not YAML", "undefined alias"]),
        ("", "1:1", ["empty"]),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(text: str, place: str, words: list[str]) -> None:
    with pytest.raises(ProblemError) as caught:
        planned(text)
    said = str(caught.value)
    assert said.startswith(f"problem.yaml:{place}: "), said
    for word in words:
        assert word in said, said


def test_unknown_and_misshapen_overrides() -> None:
    with pytest.raises(ProblemError, match=r"-p optt: problem.yaml has no such parameter; it has: opt; did you mean 'opt'"):
        planned(HELLO, {"optt": "x"})
    with pytest.raises(ProblemError, match=r"-p n=x: expected a number"):
        planned("problem: p\nparams: {n: 1}\ntasks: {t: {capability: shell, run: x}}\n", {"n": "x"})


def test_aliases_cannot_grow_without_end() -> None:
    bomb = "x0: &x0 [a, a, a, a, a, a, a, a, a]\n" + "".join(
        f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9)}]\n" for i in range(1, 9)
    )
    with pytest.raises(ProblemError, match="too deep or too large"):
        planned("problem: p\n" + bomb)
