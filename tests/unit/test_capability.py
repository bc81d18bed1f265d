from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from computefarm.capability import Capability, Parameter, Probe, Resources, Spread, VersionProbe, parse
from computefarm.errors import CapabilityError

SHIPPED = Path(__file__).parents[2] / "capabilities"

SMALL = "capability: tex\nsummary: Typeset\nworker: shell\n"


def test_the_gcc_file_means_what_it_says() -> None:
    gcc = parse((SHIPPED / "gcc.yaml").read_text(encoding="utf-8"), "gcc.yaml")

    assert gcc.capability == "gcc"
    assert gcc.worker == "shell"
    assert gcc.probe == Probe(
        version=VersionProbe(run=("gcc", "-dumpfullversion"), match=r"(\d+(\.\d+)+)"),
        tags=(("target", VersionProbe(run=("gcc", "-dumpmachine"))),),
    )
    assert gcc.fingerprint == ("gcc", "as", "ld", VersionProbe(run=("gcc", "-print-prog-name=cc1")))
    assert gcc.resources == Resources(cpus=1, memory=256 * 1024**2)
    assert gcc.logs == "gcc"
    compile_ = gcc.actions["compile"]
    assert compile_.commands[""][0][:3] == ("gcc", Spread("flags"), "-MMD")
    assert (compile_.inputs, compile_.outputs, compile_.depfile) == (("source",), ("object",), "gcc")
    assert compile_.params["flags"].default == ["-O2"]
    assert compile_.params["source"] == Parameter("source", "file")


@pytest.mark.parametrize("name", ["shell", "gcc", "python"])
def test_every_shipped_file_is_valid_and_named_after_its_capability(name: str) -> None:
    assert parse((SHIPPED / f"{name}.yaml").read_text(encoding="utf-8"), name).capability == name


def test_shell_is_told_apart_by_version_only() -> None:
    assert parse((SHIPPED / "shell.yaml").read_text(encoding="utf-8"), "shell.yaml").fingerprint == ()


def test_the_smallest_file() -> None:
    assert parse(SMALL, "tex.yaml") == Capability(
        capability="tex", summary="Typeset", worker="shell", source="tex.yaml"
    )


def test_everything_else() -> None:
    text = SMALL + (
        "probe: {tags: {gpu: '1', b: {run: [b, --v], match: 'v(.)'}}}\n"
        "env: {TEXMF: /opt/tex, A: ''}\n"
        "sandbox: true\n"
        "resources: {cpus: 4, memory: 1024, gpus: 1}\n"
    )
    parsed = parse(text, "tex.yaml")

    assert parsed.probe.tags == (("b", VersionProbe(run=("b", "--v"), match="v(.)")), ("gpu", "1"))
    assert parsed.env == (("A", ""), ("TEXMF", "/opt/tex"))
    assert parsed.sandbox is True
    assert parsed.resources == Resources(cpus=4, memory=1024, gpus=1)


@pytest.mark.parametrize(
    ("added", "line", "message"),
    [
        # The error of the product's own description: file, line, field, what was expected, the likely slip.
        (
            "probe:\n  versoin: {run: [tex]}\n",
            5,
            "field `probe.versoin`: unknown key, expected one of version, tags; did you mean `version`?",
        ),
        ("fingerprnt: version\n", 4, "field `fingerprnt`: unknown key, expected one of capability, summary"),
        ("probe: {version: {run: tex}}\n", 4, "field `probe.version.run`: expected a list with a program"),
        ("probe: {version: {run: []}}\n", 4, "field `probe.version.run`: expected a list with a program"),
        ("probe: {version: {run: [tex, 1]}}\n", 4, "field `probe.version.run[1]`: expected text (put it in quotes), got the number 1"),
        ("probe: {version: {match: x}}\n", 4, "field `probe.version`: `run` is missing"),
        ("probe: {version: '1'}\n", 4, "field `probe.version`: expected a mapping with the keys run, match, got the text '1'"),
        ("probe: {version: {run: [tex], match: '('}}\n", 4, "field `probe.version.match`: '(' is not a regular expression"),
        ("probe: {tags: {a: 1}}\n", 4, "field `probe.tags.a`: expected text, or {run:"),
        ("probe: {tags: {'a b': x}}\n", 4, "field `probe.tags.a b`: a tag's name"),
        ("probe: []\n", 4, "field `probe`: expected a mapping with the keys version, tags, got a list"),
        ("fingerprint: tex\n", 4, "field `fingerprint`: expected a list of programs"),
        ("fingerprint: []\n", 4, "field `fingerprint`: expected a list of programs"),
        ("fingerprint:\n  - tex\n  - 3\n", 6, "field `fingerprint[1]`: expected a program's name"),
        ("fingerprint: [{command: [tex]}]\n", 4, "field `fingerprint[0].command`: unknown key"),
        ("resources: {cpus: 0}\n", 4, "field `resources.cpus`: expected a whole number, at least 1, got the number 0"),
        ("resources: {cpus: true}\n", 4, "field `resources.cpus`: expected a whole number, at least 1, got true"),
        ("resources: {gpus: -1}\n", 4, "field `resources.gpus`: expected a whole number, at least 0"),
        ("resources: {memory: much}\n", 4, "field `resources.memory`: expected a size such as 256MiB"),
        ("resources: {memory: 1.5}\n", 4, "field `resources.memory`: expected a size"),
        ("resources: {memory: true}\n", 4, "field `resources.memory`: expected a size"),
        ("env: {A: 1}\n", 4, "field `env.A`: expected text (put it in quotes)"),
        ("env: {'A=B': c}\n", 4, "field `env.A=B`: a variable's name"),
        ("logs: [gcc]\n", 4, "field `logs`: expected text, got a list"),
        ("sandbox: maybe\n", 4, "field `sandbox`: expected true or false, got the text 'maybe'"),
        ("actions: {go: {}}\n", 4, "field `actions.go`: `run` is missing"),
        ("actions: {go: {run: [a], input: [b]}}\n", 4, "field `actions.go.input`: unknown key, expected one of summary, run, params, inputs"),
        ("actions: {go: {run: [a], inputs: b}}\n", 4, "field `actions.go.inputs`: expected a list, got the text 'b'"),
        ("actions: {go: {run: [a], depfile: msvc}}\n", 4, "field `actions.go.depfile`: expected gcc"),
        ("actions: {go: {run: [a], defaults: {x: {y: z}}}}\n", 4, "field `actions.go.defaults.x`: expected text, a number"),
        ("actions: {go: {run: [a], defaults: {x: [[y]]}}}\n", 4, "field `actions.go.defaults.x`: expected text, a number"),
        ("actions: {'1go': {run: [a]}}\n", 4, "field `actions.1go`: an action's name"),
        ("summary: again\n", 4, "`summary` stands here twice, first on line 2"),
        ("1: x\n", 4, "a key must be text, got the number 1 (put it in quotes)"),
        ("logs: !!python/name:os.system x\n", 4, "the tag 'tag:yaml.org,2002:python/name:os.system' is not allowed"),
        ("env: !!python/object:os.environ {A: b}\n", 4, "is not allowed"),
        ("logs: !!binary eA==\n", 4, "is not allowed"),
        ("logs: !secret x\n", 4, "the tag '!secret' is not allowed"),
        ("logs: *nowhere\n", 4, "not YAML: found undefined alias"),
        ("logs: [a\n", 5, "not YAML"),
        ("---\nlogs: x\n", 4, "not YAML"),
    ],
)  # fmt: skip
def test_an_error_names_file_line_field_and_expectation(added: str, line: int, message: str) -> None:
    with pytest.raises(CapabilityError) as caught:
        parse(SMALL + added, "caps/tex.yaml")

    text = str(caught.value)
    assert text.startswith(f"caps/tex.yaml:{line}:")
    assert message in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "tex.yaml:1:1: the file is empty"),
        ("# nothing\n", "tex.yaml:1:1: the file is empty"),
        ("- a\n", "tex.yaml:1:1: expected a mapping with the keys capability, summary"),
        ("capability: tex\n", "tex.yaml:1:1: `summary` is missing"),
        ("capability: 3\nsummary: s\nworker: w\n", "tex.yaml:1:1: field `capability`: expected text"),
        ("capability: a b\nsummary: s\nworker: w\n", "tex.yaml:1:1: field `capability`: expected a name"),
        ("capability: tex\nsummary: ''\nworker: w\n", "tex.yaml:2:1: field `summary`: expected text that is not empty"),
        ("capability: tex\nsummary: s\nworker: ../w\n", "tex.yaml:3:1: field `worker`: expected a name"),
        ("capability: \x07\n", "tex.yaml:1:1: not YAML"),
        ("\ttab: x\n", "tex.yaml:1:1: not YAML"),
        ("[" * 3000, "tex.yaml:1:1: not YAML"),
        ("[" * 60 + "]" * 60, "too deep or too large"),
        ("a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
         "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d]\n", "too deep or too large"),
        ("a: &a [*a]\n", "too deep or too large"),
    ],
)  # fmt: skip
def test_what_is_no_capability_file_at_all(text: str, message: str) -> None:
    with pytest.raises(CapabilityError) as caught:
        parse(text, "tex.yaml")

    assert message in str(caught.value)


def test_yaml_1_1_surprises_stay_text() -> None:
    assert parse(SMALL + "env: {WHEN: 2001-99-99, RATIO: '1:30'}\n", "t").env[1] == ("WHEN", "2001-99-99")


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab:{}[],-&*!'\"\n \t#|>%@0.1~?")))
def test_no_text_ever_raises_anything_else(text: str) -> None:
    message = "t.yaml:"
    try:
        parse(SMALL + text, "t.yaml")
    except CapabilityError as error:
        message = str(error)
    assert message.startswith("t.yaml:")
