"""Named actions: templates, values, and everything that is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from computefarm.capability import RESERVED, ActionError, Capability, Expanded, expand, parse
from computefarm.errors import CapabilityError

SHIPPED = Path(__file__).parents[3] / "capabilities"
GCC = parse((SHIPPED / "gcc.yaml").read_text(encoding="utf-8"), "gcc.yaml")

TOP = "capability: tex\nsummary: Typeset\nworker: shell\n"


def tex(actions: str) -> Capability:
    return parse(TOP + actions, "tex.yaml")


def command(capability: Capability, action: str, **values: Any) -> tuple[str, ...]:
    return expand(capability, action, values).commands[0]


def test_a_compile_says_all_that_the_farm_must_know() -> None:
    made = expand(GCC, "compile", {"source": "src/a.c", "object": "build/a.o", "flags": ["-O3", "-Iinclude"]})
    assert made == Expanded(
        capability="gcc",
        action="compile",
        commands=(
            ("gcc", "-O3", "-Iinclude", "-MMD", "-MF", "build/a.o.d", "-c", "src/a.c", "-o", "build/a.o"),
        ),
        values={"source": "src/a.c", "object": "build/a.o", "flags": ["-O3", "-Iinclude"]},
        inputs=("src/a.c",),
        outputs=("build/a.o", "build/a.o.d"),
        depfile="build/a.o.d",
        logs="gcc",
    )


def test_lists_are_spliced_and_defaults_fill_in() -> None:
    assert command(GCC, "link", objects=["a.o", "./b.o"], output="prog") == (
        "gcc",
        "a.o",
        "b.o",
        "-o",
        "prog",
    )
    assert command(GCC, "link", objects="a.o", output="prog", libs=["-lm"])[-1] == "-lm"
    assert command(GCC, "compile", source="a.c", object="a.o")[1] == "-O2"


def test_attributes_of_paths_and_builtin_names() -> None:
    capability = tex(
        "actions:\n  set: {run: [tex, '{{{source.stem}}}', '{source.name}', '{source.parent}', '{source.suffix}', '-j{cpus}'],"
        " inputs: [source], cpus: 3}\n"
    )
    assert command(capability, "set", source="a/b.c.tex") == ("tex", "{b.c}", "b.c.tex", "a", ".tex", "-j3")
    assert expand(capability, "set", {"source": "b.tex"}, cpus=8).commands[0][-1] == "-j8"
    assert command(capability, "set", source="b.tex")[3] == "."


def test_conditions_flags_numbers_and_words_around_a_list() -> None:
    capability = tex(
        "actions:\n  go:\n    run: [tex, {when: debug, run: [-g, '-l{level}']}, {when: style, run: [-s, '{style}']}, '-I{dirs...}/x']\n"
        "    params: {debug: {type: flag, default: false}, level: {type: number, default: 2}, style: {default: ''}, dirs: {default: []}}\n"
    )
    assert command(capability, "go") == ("tex",)
    assert command(capability, "go", debug=True, dirs=["a", "b c"], style="s t") == (
        "tex", "-g", "-l2", "-s", "s t", "-Ia/x", "-Ib c/x",
    )  # fmt: skip


def test_several_commands_and_variants() -> None:
    capability = tex(
        "variants: {gpu: {requires: [nvidia-smi]}, cpu: {}}\n"
        "actions:\n  two: {run: [[a, '{x}'], [b]]}\n  go: {run: {cpu: [slow], gpu: [fast]}}\n  only: {run: {cpu: [slow]}}\n"
    )
    assert expand(capability, "two", {"x": "1"}).commands == (("a", "1"), ("b",))
    assert expand(capability, "go", {}).commands == (("fast",),)
    assert expand(capability, "go", {}, variant="cpu").commands == (("slow",),)
    with pytest.raises(ActionError, match=r"tex\.only: the variant 'gpu' cannot do it; cpu can"):
        expand(capability, "only", {}, variant="gpu")


def test_expanding_again_from_the_values_gives_the_same() -> None:
    made = expand(GCC, "compile", {"source": "./src//a.c", "object": "b/a.o", "flags": "-O1"})
    assert expand(GCC, "compile", made.values) == made


@pytest.mark.parametrize(
    ("action", "values", "message", "key"),
    [
        ("complie", {}, "gcc has no action 'complie'; it has: archive, compile, link; did you mean 'compile'?", ""),
        ("compile", {"source": "a.c"}, "gcc.compile needs 'object' (a path)", "object"),
        ("compile", {"sorce": "a.c"}, "gcc.compile takes no 'sorce', it takes: flags, source, object; did you mean 'source'?", "sorce"),
        ("compile", {"source": "../a.c"}, "gcc.compile: source is '../a.c': expected a path inside the project", "source"),
        ("compile", {"source": "a/../../b.c"}, "expected a path inside the project", "source"),
        ("compile", {"source": "/etc/passwd"}, "expected a path inside the project", "source"),
        ("compile", {"source": ""}, "expected a path inside the project", "source"),
        ("compile", {"source": "."}, "expected a path inside the project", "source"),
        ("compile", {"source": "-o/etc/x"}, "a program would take it for an option", "source"),
        ("compile", {"source": "./-x"}, "a program would take it for an option", "source"),
        ("compile", {"source": "a\0b"}, "expected text", "source"),
        ("compile", {"source": None}, "source is nothing: expected one path", "source"),
        ("compile", {"source": ["a.c"]}, "expected one path", "source"),
        ("compile", {"source": True}, "expected text", "source"),
        ("link", {"objects": [["a"]], "output": "x"}, "expected text", "objects"),
        ("link", {"objects": ["a.o", "../b.o"], "output": "x"}, "'../b.o': expected a path inside", "objects"),
    ],
)  # fmt: skip
def test_values_that_cannot_be_used(action: str, values: dict[str, Any], message: str, key: str) -> None:
    with pytest.raises(ActionError) as caught:
        expand(GCC, action, values)
    assert message in str(caught.value)
    assert caught.value.key == key


def test_choices_patterns_numbers_and_flags_are_checked() -> None:
    capability = tex(
        "actions:\n  go:\n    run: [tex, '{std}', '{flags...}', '{n}', '{loud}']\n"
        "    params: {std: {choices: [c99, c11]}, flags: {type: texts, match: '-[OW].*'}, n: {type: number}, loud: {type: flag}}\n"
    )
    good = {"std": "c99", "flags": ["-O2"], "n": 1.5, "loud": True}
    assert command(capability, "go", **good) == ("tex", "c99", "-O2", "1.5", "true")
    for wrong, expected in (
        ({"std": "c98"}, "one of c99, c11"),
        ({"flags": ["-O2", "-fplugin=x"]}, "text like -[OW].*"),
        ({"n": "1"}, "a number"),
        ({"n": float("inf")}, "a number"),
        ({"loud": "yes"}, "true or false"),
    ):
        with pytest.raises(ActionError, match="expected") as caught:
            command(capability, "go", **{**good, **wrong})
        assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("actions", "line", "message"),
    [
        ("actions:\n  go:\n    run: []\n", 6, "expected a list with a program and its arguments"),
        ("actions:\n  go:\n    run: go\n", 6, "expected a list with a program"),
        ("actions:\n  go:\n    run: ['{flags...}']\n", 6, "the first word is the program"),
        ("actions:\n  go:\n    run: [a, '{x']\n", 6, "a single { or }"),
        ("actions:\n  go:\n    run: [a, '{x y}']\n", 6, "{x y} is not a name in braces"),
        ("actions:\n  go:\n    run: [a, '{x.__class__}']\n", 6, "expected one of stem, name, parent, suffix after the dot"),
        ("actions:\n  go:\n    run: [a, '{x}']\n    params: {y: {}}\n", 7, "nothing uses the parameter 'y'"),
        ("actions:\n  go:\n    run: [a, '{flags...}']\n    defaults: {flag: []}\n", 7, "did you mean 'flags'?"),
        ("actions:\n  go:\n    run: [a, '{inputs}']\n", 6, "'inputs' already means something in every task"),
        ("actions:\n  go:\n    run: [a, '{X}']\n", 6, "a parameter's name is small letters"),
        ("actions:\n  go:\n    run: [a, '{x...}']\n    params: {x: {type: text}}\n", 7, "splices a list in, but 'x' is a text"),
        ("actions:\n  go:\n    run: [a, '{x}']\n    inputs: [x]\n    params: {x: {type: text}}\n", 8, "its type is file or files"),
        ("actions:\n  go:\n    run: [a, '{x}']\n    params: {x: {type: flie}}\n", 7, "did you mean `file`?"),
        ("actions:\n  go:\n    run: [a, '{x}']\n    params: {x: {default: 1}}\n    defaults: {x: 2}\n", 8, "has its default in params already"),
        ("actions:\n  go:\n    run: [a, '{x}']\n    params: {x: {match: '('}}\n", 7, "is not a regular expression"),
        ("actions:\n  go:\n    run: [a, '{x}']\n    params: {x: {choices: [b], default: c}}\n", 7, "expected one of b"),
        ("actions:\n  go:\n    run: [a, '{depfile}']\n", 6, "the action has no depfile"),
        ("actions:\n  go:\n    run: [a]\n    depfile: gcc\n", 7, "nothing writes it"),
        ("actions:\n  go:\n    run: {gpu: [a]}\n", 6, "this capability has no variants"),
        ("variants: {gpu: {}}\nactions:\n  go:\n    run: {cpu: [a]}\n", 7, "unknown key, expected one of gpu"),
        ("actions:\n  go:\n    run: [a, {when: x}]\n", 6, "`run` is missing"),
        ("actions:\n  go:\n    run: [a]\n    timeout: soon\n", 7, "expected a duration such as 10m"),
        ("actions:\n  go:\n    run: [a]\n    memory: much\n", 7, "expected a size such as 256MiB"),
        ("actions:\n  go:\n    run: [a]\n    cpus: 0\n", 7, "at least 1"),
        ("variants: {}\n", 4, "at least one variant"),
        ("extend: maybe\n", 4, "expected true or false"),
    ],
)  # fmt: skip
def test_a_bad_action_is_refused_with_its_place(actions: str, line: int, message: str) -> None:
    with pytest.raises(CapabilityError) as caught:
        tex(actions)
    assert str(caught.value).startswith(f"tex.yaml:{line}:")
    assert message in str(caught.value)


@given(st.text(max_size=40))
def test_no_template_is_ever_evaluated(template: str) -> None:
    """A strange template is refused when it is read, or is only text."""
    import yaml

    text = TOP + yaml.safe_dump({"actions": {"go": {"run": ["a", template or "x"]}}})
    try:
        capability = parse(text, "tex.yaml")
    except CapabilityError:
        return
    params = capability.actions["go"].params
    assert not set(params) & RESERVED
    made = expand(capability, "go", dict.fromkeys(params, "v"))
    assert made.commands[0][0] == "a"


@given(st.text(max_size=30))
def test_no_path_leaves_the_project_or_looks_like_an_option(path: str) -> None:
    try:
        made = expand(GCC, "compile", {"source": path, "object": "x.o"})
    except ActionError:
        return
    source = made.inputs[0]
    assert not source.startswith(("/", "-"))
    assert ".." not in source.split("/")
