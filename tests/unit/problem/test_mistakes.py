"""Mistakes that people make who know other tools, or YAML not so well: each is told with its place and the way out."""

from __future__ import annotations

import pytest

from computefarm.catalogue import Catalogue
from computefarm.problem import Planned, ProblemError, check_files, plan, read
from computefarm.problem.validate import nearest

CATALOGUE = Catalogue.load()
FILES = ("src/a.c", "src/b.c", "a.txt")


def glob(pattern: str) -> list[str]:
    if "*" not in pattern:
        return [pattern] if pattern in FILES else []
    head, _, tail = pattern.partition("*")
    return [name for name in FILES if name.startswith(head) and name.endswith(tail)]


def planned(text: str, *, check: bool = False) -> dict[str, Planned]:
    problem = read("problem.yaml", {"problem.yaml": text}.__getitem__)
    tasks = plan(problem, {}, CATALOGUE.get, glob)
    if check:
        check_files(problem, tasks, FILES.__contains__, glob)
    return {task.full_name: task for task in tasks}


def task(rest: str) -> str:
    return f"problem: p\nparams: {{opt: -O2}}\ntasks:\n  a: {{capability: shell, {rest}}}\n"


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        # words of other tools
        (task("command: ls"), "4:3", ["is `command` meant to be `run`?"]),
        (task("actions: ls"), "4:3", ["is `actions` meant to be `action`?"]),
        (task("run: x, targets: [y]"), "4:34", ["did you mean `outputs`?"]),
        (task("run: x, output: y"), "4:34", ["did you mean `outputs`?"]),
        (task("run: x, deps: y"), "4:34", ["did you mean `inputs`?"]),
        (task("run: x, depends_on: y"), "4:34", ["did you mean `after`?"]),
        (task("run: x, matrix: {v: [1, 2]}"), "4:34", ["unknown key `matrix`; did you mean `foreach`?"]),
        (task("run: x, TIMEOUT: 5m"), "4:34", ["did you mean `timeout`?"]),
        ("problem: p\njobs: {a: {capability: shell, run: x}}\n", "2:1", ["did you mean `tasks`?"]),
        ("problem: p\nvars: {}\ntasks: {a: {capability: shell, run: x}}\n", "2:1", ["did you mean `params`?"]),
        ("name: p\ntasks: {a: {capability: shell, run: x}}\n", "1:1", ["unknown key `name`; did you mean `problem`?"]),
        ("problem: p\ntasks:\n  a: {worker: shell, run: x}\n", "3:3", ["`capability` is missing; is `worker` meant"]),
        # keys that would mean nothing
        (task("run: x, name: y"), "4:34", ["only beside foreach"]),
        (task("run: x, exclude: y"), "4:34", ["only beside foreach"]),
        # YAML
        ("problem: p\ntasks:\n  a:\n    capability: shell\n    run: {opt}\n", "5:5", ["needs quotes: '{opt}'"]),
        ("problem: p\ntasks:\n  a:\n    capability: shell\n    run: {opt}.o\n", "5:15", ["not YAML", "needs quotes: '{opt}.o'"]),
        (task("run: x, foreach: {s: *.c}"), "4:48", ["not YAML", "needs quotes: '*.c'"]),
        (task("run: 'echo it's'"), "4:40", ["not YAML", "a ' inside '…' is written twice"]),
        ("problem p\ntasks: {}\n", "2:6", ["is a `:` missing on the line before"]),
        ("problem: p\n---\ntasks: {}\n", "2:1", ["one file is one description"]),
        (task("run: x, env: {N: 3}"), "4:40", ["expected text (put it in quotes), got the number 3"]),
        # braces
        (task("run: 'echo ${HOME}'"), "4:26", ["the shell's own: ${{HOME}}"]),
        # values
        (task("run: x, platforms: [linux-x86-64]"), "4:34", ["is no platform", "did you mean `linux-x86_64`"]),
        ("problem: p\ntasks:\n  a: {capability: gcc, action: compile, source: a.c, object: a.o, flags: -O2 -g}\n", "3:67", ["one word of the command line", "[-O2, -g]"]),
        ("problem: p\nparams: {a: '{b}', b: '{a}'}\ntasks: {t: {capability: shell, run: x}}\n", "2:20", ["parameters use one another in a circle: a uses b uses a"]),
        ("problem: p\nparams: {a: '{a}'}\ntasks: {t: {capability: shell, run: x}}\n", "2:10", ["in a circle: a uses a"]),
        # circles
        (task("run: x, after: a"), "4:34", ["in a circle: a needs a"]),
        (task("run: x, after: g") + "groups: {g: [a]}\n", "5:14", ["in a circle: a needs g needs a"]),
        ("problem: p\ntasks: {t: {capability: shell, run: x}}\ngroups: {g: [h], h: [g]}\n", "3:22", ["g needs h needs g"]),
        # files
        (task("run: x, inputs: [b.txt]"), "4:34", ["no file matches b.txt, and no task makes one; did you mean a.txt?"]),
        ("problem: p\ntasks:\n  a: {capability: gcc, action: compile, source: src/aa.c, object: a.o}\n", "3:41", ["there is no file src/aa.c", "did you mean src/a.c?"]),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place_and_the_way_out(text: str, place: str, words: list[str]) -> None:
    with pytest.raises(ProblemError) as caught:
        planned(text, check=True)
    said = str(caught.value)
    assert said.startswith(f"problem.yaml:{place}: "), said
    for word in words:
        assert word in said, said


def test_a_misspelling_by_a_letter_comes_before_another_tools_word() -> None:
    assert nearest("target", ("targets", "outputs")) == "targets"
    assert nearest("targets", ("tags", "outputs")) == "outputs"
    assert nearest("xyz", ("tags", "outputs")) == ""


def test_a_command_may_call_its_outputs_by_that_name() -> None:
    made = planned(task("run: 'sort {opt} > {outputs}', outputs: 'x{opt}.txt'"))["a"]
    assert made.commands == ("sort -O2 > x-O2.txt",)
    several = planned(task("run: [touch, '{outputs}'], outputs: [x, y, 'logs/']"))["a"]
    assert several.commands == (("touch", "x", "y", "logs/"),)
    assert several.targets == ("x", "y")


def test_what_a_task_needs_may_be_a_parameter() -> None:
    text = "problem: p\nparams: {n: 4, keep: false}\ntasks:\n  t: {capability: shell, run: x, cpus: '{n}', cache: '{keep}'}\n"
    assert planned(text)["t"].own == {"cpus": 4, "cache": False}
    with pytest.raises(ProblemError, match="cpus`: expected a whole number, got the text 'four'"):
        planned(text.replace("'{n}'", "four"))
    with pytest.raises(ProblemError, match="cpus`: "):
        planned(text.replace("n: 4", "n: four"))


def test_parameters_may_use_those_below() -> None:
    text = "problem: p\nparams: {all: '{opt} {std}', opt: -O2, std: c99}\ntasks: {t: {capability: shell, run: '{all}'}}\n"
    assert planned(text)["t"].commands == ("-O2 c99",)


def test_what_is_read_makes_the_order_wherever_it_is_named() -> None:
    tasks = planned(
        """\
problem: p
tasks:
  plot:
    capability: python
    action: script
    foreach: {data: '{make.outputs}'}
    script: plot.py
    args: ['{data}']
  read: {capability: shell, run: cat x.txt, inputs: [x.txt, a.txt]}
  make: {capability: shell, run: touch x.txt, outputs: x.txt}
"""
    )
    assert tasks["plot:x"].file_dep == ("plot.py", "x.txt")
    assert tasks["read"].file_dep == ("x.txt",), "a file that nobody makes is an input and no more"


def test_a_files_name_in_a_list_is_that_file_and_another_word_is_a_word() -> None:
    tasks = planned(task("foreach: {x: [a.txt, b.txt]}, run: 'cat {x}'"))
    assert tasks["a:a"].file_dep == ("a.txt",)
    assert tasks["a:b"].file_dep == ()


def test_a_long_chain_in_the_wrong_order() -> None:
    lines = [
        f"  t{i}: {{capability: shell, run: x, outputs: o{i}, inputs: '{{t{i + 1}.outputs}}'}}"
        for i in range(2000)
    ]
    tasks = planned(
        "problem: p\ntasks:\n" + "\n".join(lines) + "\n  t2000: {capability: shell, run: x, outputs: z}\n"
    )
    assert list(tasks)[:2] == ["t2000", "t1999"]


GENERATED = """\
problem: p
tasks:
  use: {{capability: shell, run: 'cat gen/*.h', inputs: ['gen/*.h']{more}}}
  gen: {{capability: shell, run: 'date > {{outputs}}', outputs: gen/date.h}}
groups: {{all: [gen]}}
"""


def test_a_pattern_for_files_that_are_yet_to_be_made_needs_an_order() -> None:
    with pytest.raises(
        ProblemError, match=r"3:48: .*`gen` makes gen/date.h, .* write '{gen.outputs}', or after: gen"
    ):
        planned(GENERATED.format(more=""), check=True)
    planned(GENERATED.format(more=", after: gen"), check=True)
    planned(GENERATED.format(more=", after: all"), check=True)
    planned(
        GENERATED.format(more=", env: {{X: '{gen.outputs}'}}").replace("{{", "{").replace("}}", "}"),
        check=True,
    )
    planned(GENERATED.format(more="").replace("['gen/*.h']", "[gen/date.h]"), check=True)


def test_what_comes_back_as_a_folder_may_hold_any_file() -> None:
    planned(
        task("run: x, outputs: [gen/]")
        + "  b: {capability: shell, run: y, inputs: [gen/deep/a.h, 'gen/*.h', 'gen/**/*.c']}\n",
        check=True,
    )
    with pytest.raises(ProblemError, match="no file matches other/"):
        planned(
            task("run: x, outputs: [gen/]") + "  b: {capability: shell, run: y, inputs: ['other/*.h']}\n",
            check=True,
        )
