"""What a worker with --only-actions does, and what it refuses: by hand-made actions, as an attacker sends them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from computefarm.capability import Capability, expand, lending, parse
from computefarm.core.placement import mismatch
from computefarm.messages import Action, FileEntry, Need, Offer

SHIPPED = Path(__file__).parents[3] / "capabilities"
TOP = "capability: tool\nsummary: s\nworker: shell\n"


def shipped(name: str) -> Capability:
    return parse((SHIPPED / f"{name}.yaml").read_text(encoding="utf-8"), f"{name}.yaml")


def sent(capability: Capability, name: str, cpus: int = 0, variant: str = "", **values: Any) -> Action:
    """Return what an honest client sends."""
    made = expand(capability, name, values, cpus=cpus, variant=variant)
    return Action(
        capability.capability,
        made.commands,
        env=made.env,
        named=name,
        values=lending.encoded_values(made.values),
    )


def refusal(capability: Capability, action: Action, variant: str = "", cpus: int = 1) -> str:
    return lending.refusal(capability, action, variant, cpus)


GCC = shipped("gcc")
COMPILE = sent(
    GCC, "compile", source="src/a.c", object="a.o", flags=["-O3", "-Wall", "-Iinclude", "-DNAME=a b"]
)


def test_its_own_actions_are_done() -> None:
    assert refusal(GCC, COMPILE) == ""
    assert refusal(GCC, sent(GCC, "link", objects=["a.o"], output="p", libs=["-lm"])) == ""
    assert refusal(GCC, sent(GCC, "archive", objects=["a.o"], archive="lib.a")) == ""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"named": ""}, "a command of the task's own"),
        ({"named": "", "commands": ("rm -rf /",)}, "rm -rf /"),
        ({"commands": (("rm", "-rf", "/"),)}, "rm -rf /"),
        ({"commands": (*COMPILE.commands, "rm -rf /")}, "rm -rf /"),
        ({"commands": ("gcc -O3 -c src/a.c -o a.o",)}, "its compile is"),
        ({"named": "purge"}, "no action 'purge'"),
        ({"values": b"["}, "cannot be read"),
        ({"values": b"[]"}, "no mapping"),
        ({"values": b"[" * 100_000}, "cannot be read"),
        ({"values": b"{}"}, "needs 'source'"),
        ({"values": b'{"source":"a.c","object":"../../etc/x"}'}, "inside the project"),
        ({"values": b'{"source":"a.c","object":"/etc/x"}'}, "inside the project"),
        ({"values": b'{"source":"-fplugin=x.c","object":"x"}'}, "for an option"),
        ({"values": b'{"source":"@options","object":"x"}'}, "file of options"),
        ({"values": b'{"source":"a/-B.c","object":"x"}'}, "for an option"),
        ({"values": b'{"source":"a.c","object":"x","flags":["-wrapper","sh"]}'}, "anything"),
        ({"values": b'{"source":"a.c","object":"x","flags":{"a":1}}'}, "expected"),
        ({"env": (("LD_PRELOAD", "./evil.so"),)}, "LD_PRELOAD"),
        ({"env": (("GCC_EXEC_PREFIX", "./"),)}, "GCC_EXEC_PREFIX"),
        ({"host_files": ("/etc/shadow",)}, "/etc/shadow"),
        ({"inputs": (FileEntry(".config/tool", bytes(32), 1),)}, ".config/tool"),
        ({"inputs": (FileEntry("a/.rc", bytes(32), 1),)}, "a/.rc"),
    ],
)
def test_what_was_changed_on_the_way_is_refused(changes: dict[str, Any], said: str) -> None:
    text = refusal(GCC, msgspec.structs.replace(COMPILE, **changes))
    assert "--only-actions" in text
    assert said in text


EVIL = [
    "-fplugin=./evil.so", "-fplugin-arg-x-y=1", "-wrapper", "sh,-c,id", "-specs=evil", "--specs=evil", "-B.", "-B/tmp",
    "-o", "../x", "@options", "-Wl,-plugin,x.so", "-Wl,--wrap=x", "-Wa,-a=/tmp/x", "-Wp,-MD,/tmp/x", "-Xlinker",
    "-Xassembler", "-Xclang", "-fpass-plugin=x.so", "-MF", "-MD", "-MJ", "-save-temps", "-dumpdir",
    "-fdump-tree-all=/x", "-fprofile-generate=/x", "-ftime-trace=/x", "-fuse-ld=./ld", "--ld-path=./ld", "-T", "-include",
    "-imacros", "-I/etc", "-I../..", "-Ia/../../..", "--sysroot=/x", "-isystem", "-mllvm", "--config", "-flto",
    "-DX\n-fplugin=x", "-O2\n", "", " ", "-O2 -B.", "-x", "-aux-info", "-fcrash-diagnostics-dir=/x", "-print-prog-name=sh",
]  # fmt: skip


@pytest.mark.parametrize("flag", EVIL)
@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_no_option_runs_or_writes_anything_else(name: str, flag: str) -> None:
    compiler = shipped(name)
    for action in (
        sent(compiler, "compile", source="a.c", object="a.o", flags=["-O2", flag]),
        sent(compiler, "link", objects=["a.o"], output="p", flags=[flag]),
        sent(compiler, "link", objects=["a.o"], output="p", libs=[flag]),
    ):
        assert "could run or write anything" in refusal(compiler, action), action.commands
        values = msgspec.json.decode(action.values)
        # … and it is not even sent to one that would refuse it.
        assert lending.UNUSUAL in lending.wanted(compiler, action.named, values)


@pytest.mark.parametrize(
    "flag",
    ["-O2", "-Ofast", "-g", "-ggdb3", "-std=c++20", "-Wall", "-Wno-unused-parameter", "-Werror=return-type", "-march=native",
     "-msse4.2", "-mno-avx", "-fPIC", "-fno-exceptions", "-fvisibility=hidden", "-fsanitize=address,undefined",
     '-DVERSION="1.0, a"', "-DNDEBUG", "-UX", "-I.", "-Isrc/include", "-pthread", "-fopenmp"],
)  # fmt: skip
def test_ordinary_options_are_lent(flag: str) -> None:
    assert refusal(GCC, sent(GCC, "compile", source="a.c", object="a.o", flags=[flag])) == ""


def test_what_runs_the_tasks_own_code_is_never_lent() -> None:
    tool = parse(
        TOP + "actions:\n  script: {run: [python3, '{file}'], inputs: [file], runs_code: true}\n"
        "  show: {run: [cat, '{file}'], inputs: [file]}\n",
        "tool.yaml",
    )
    assert "runs code that the task brings" in refusal(tool, sent(tool, "script", file="a.py"))
    assert [label.partition(":")[0] for label in lending.lent(tool)] == ["show"]
    assert lending.kept(tool) == ("script",)


def test_the_slots_and_the_variant_are_the_workers_own() -> None:
    tool = parse(
        TOP + "variants:\n  fast: {env: {MODE: fast}}\n  slow: {}\n"
        "actions:\n  go: {run: {fast: [turbo, '-j{cpus}'], slow: [snail, '-j{cpus}']}, cpus: 2}\n",
        "tool.yaml",
    )
    fast, slow = sent(tool, "go", variant="fast"), sent(tool, "go", variant="slow")
    assert fast.env == (("MODE", "fast"),)
    assert refusal(tool, fast, "fast", 2) == refusal(tool, slow, "slow", 2) == ""
    assert "snail" in refusal(tool, fast, "slow", 2)
    assert "-j2" in refusal(tool, fast, "fast", 4)


def test_only_a_named_action_described_alike_is_placed_there() -> None:
    offer = Offer("gcc", "12.2.0", "f", actions=lending.lent(GCC))
    label = lending.label(GCC, "compile")
    assert mismatch(Need("gcc", action=label), offer, "") is None
    assert mismatch(Need("gcc", action=label), Offer("gcc", "12.2.0", "f"), "") is None

    free = mismatch(Need("gcc"), offer, "")
    assert free is not None
    assert free.kind == "action"
    assert "named actions only (compile, archive, link)" in free.reason
    other = parse(TOP.replace("tool", "gcc") + "actions: {compile: {run: [gcc, '{x}']}}\n", "gcc.yaml")
    changed = mismatch(Need("gcc", action=lending.label(other, "compile")), offer, "")
    assert changed is not None
    assert "its own capability file describes compile otherwise" in changed.reason
    odd = mismatch(Need("gcc", action=lending.wanted(GCC, "compile", {"flags": ["-B."]})), offer, "")
    assert odd is not None
    assert "compile only with ordinary flags" in odd.reason


def test_a_summary_makes_no_other_action() -> None:
    one = parse(TOP + "actions: {go: {run: [a], summary: x}}\n", "a.yaml")
    two = parse(TOP + "actions: {go: {run: [a], summary: y}}\n", "b.yaml")
    three = parse(TOP + "env: {A: b}\nactions: {go: {run: [a], summary: y}}\n", "b.yaml")
    assert lending.label(one, "go") == lending.label(two, "go") != lending.label(three, "go")
