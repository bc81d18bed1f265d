from __future__ import annotations

import json
from typing import Any

import pytest

from computefarm.errors import UsageError
from computefarm.needs import Needs, needs, parse_requirement, read_needs


def test_what_says_nothing_new_is_left_out() -> None:
    assert needs("shell") == {"farm": {"capability": "shell"}}


def test_the_example_of_the_readme() -> None:
    meta = needs("gcc>=9", inputs=["include/**/*.h"], cpus=1, memory="512MiB", timeout="10m")

    assert meta == {
        "farm": {
            "capability": "gcc",
            "version": ">=9",
            "inputs": ["include/**/*.h"],
            "cpus": 1,
            "memory": 512 * 1024**2,
            "timeout": 600.0,
        }
    }
    assert read_needs(meta) == Needs(
        capability="gcc",
        version=">=9",
        inputs=("include/**/*.h",),
        cpus=1,
        memory=512 * 1024**2,
        timeout=600.0,
    )


EVERYTHING: dict[str, Any] = {
    "inputs": ["a.h"],
    "outputs": ["out/*"],
    "cpus": 2,
    "memory": 1024,
    "gpus": 1,
    "exclusive": True,
    "timeout": 1.5,
    "priority": -3,
    "retries": 2,
    "load": 0.5,
    "tags": {"target": "x86_64-linux-gnu"},
    "env": {"A": "b"},
    "pass_env": ["HOME"],
    "host_files": ["/usr/share/dict/words"],
    "cache": False,
    "sandbox": True,
    "any_toolchain": True,
}


def test_every_argument_survives_the_way_through_json() -> None:
    meta = json.loads(json.dumps(needs("gcc==12.2.0", **EVERYTHING)))
    read = read_needs(meta)

    assert read is not None
    others = {"capability", "version", "action", "depfile", "logs"}
    assert set(EVERYTHING) == set(Needs.__struct_fields__) - others
    for name, value in EVERYTHING.items():
        assert getattr(read, name) == (tuple(value) if isinstance(value, list) else value), name


@pytest.mark.parametrize(
    ("argument", "value", "expectation"),
    [
        ("inputs", "include/*.h", r"write inputs=\['include/\*.h'\]"),
        ("inputs", ["/etc/passwd"], "relative to the project"),
        ("inputs", ["../other/a.h"], r"without '\.\.'"),
        ("outputs", ["out/../../x"], r"without '\.\.'"),
        ("outputs", [""], "is not one"),
        ("outputs", [3], "3 is not one"),
        ("cpus", 0, "a whole number, at least 1"),
        ("cpus", 1.5, "a whole number"),
        ("cpus", True, "a whole number"),
        ("cpus", "2", "a whole number"),
        ("memory", "lots", "a size such as '512MiB'"),
        ("memory", -1, "a size"),
        ("memory", 1.5, "a size"),
        ("memory", True, "a size"),
        ("gpus", -1, "a whole number, at least 0"),
        ("gpus", False, "a whole number"),
        ("exclusive", 1, "True or False"),
        ("timeout", "soon", "a duration such as '10m'"),
        ("timeout", 0, "more than 0"),
        ("timeout", float("nan"), "a duration"),
        ("timeout", [], "a duration"),
        ("priority", float("inf"), "a number"),
        ("priority", float("nan"), "a number"),
        ("priority", "high", "a number"),
        ("priority", False, "a number"),
        ("retries", -1, "a whole number"),
        ("load", -0.5, "a number, at least 0"),
        ("tags", {"a": 1}, "'a': 1 is not text"),
        ("tags", ["a"], "a dictionary of texts"),
        ("env", {"A=B": "c"}, "without '='"),
        ("env", {"A": "b\0"}, "no zero bytes"),
        ("pass_env", "HOME", r"write pass_env=\['HOME'\]"),
        ("pass_env", ["A=1"], "belongs in env="),
        ("host_files", ["words"], "an absolute path"),
        ("cache", None, "True or False"),
        ("sandbox", "yes", "True or False"),
        ("any_toolchain", 0, "True or False"),
    ],
)
def test_a_wrong_value_names_the_argument_and_what_was_expected(
    argument: str, value: object, expectation: str
) -> None:
    with pytest.raises(UsageError, match=expectation) as caught:
        needs("gcc", **{argument: value})  # type: ignore[arg-type]

    assert str(caught.value).startswith(f"needs({argument}=")


@pytest.mark.parametrize(
    ("text", "name", "constraint"),
    [
        ("gcc", "gcc", ""),
        ("gcc-13", "gcc-13", ""),
        ("c++", "c++", ""),
        ("gcc>=9", "gcc", ">=9"),
        ("gcc >= 9 , < 14", "gcc", ">=9,<14"),
        ("gcc==12.2.0", "gcc", "==12.2.0"),
        ("gcc!=4.8", "gcc", "!=4.8"),
        ("gcc<=4", "gcc", "<=4"),
        ("tex-live>2023", "tex-live", ">2023"),
    ],
)
def test_requirements(text: str, name: str, constraint: str) -> None:
    assert parse_requirement(text) == (name, constraint)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "9gcc",
        "gcc 9",
        "gcc=9",
        "gcc>=",
        "gcc>=9,",
        "gcc>=9,14",
        "gcc~=9",
        ">=9",
        "gcc>=9 clang",
        "gcc;rm",
        "gcc\n>=9 1",
        "gcc>=1 2",
        "é",
    ],
)
def test_what_is_not_a_requirement(text: str) -> None:
    with pytest.raises(UsageError):
        needs(text)


@pytest.mark.parametrize("value", [None, 3, ["gcc"], b"gcc"])
def test_a_capability_must_be_text(value: object) -> None:
    with pytest.raises(UsageError, match="capability"):
        needs(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("meta", [None, {}, {"other": 1}])
def test_a_task_without_an_entry_has_no_needs(meta: dict[str, Any] | None) -> None:
    assert read_needs(meta) is None


def test_an_entry_written_by_hand_may_use_sizes_and_durations() -> None:
    read = read_needs({"farm": {"capability": "gcc>=9", "memory": "1GiB", "timeout": "1m"}})

    assert read == Needs(capability="gcc", version=">=9", memory=1024**3, timeout=60.0)


@pytest.mark.parametrize(
    ("farm", "message"),
    [
        ({"capability": "gcc", "cpu": 2}, "unknown key 'cpu'.*did you mean 'cpus'"),
        ({"capability": "gcc", "zzz": 2}, "unknown key 'zzz': expected capability, version, inputs"),
        ({"capability": "gcc", "cpus": "two"}, r"needs\(cpus='two'\)"),
        ({"capability": "gcc", "version": "nine"}, "version 'nine': expected a comparison"),
        ({"capability": "gcc", "version": 9}, "version"),
        ({"capability": "gcc", "version": "9"}, "version"),
        ({"capability": "gcc", "timeout": -1}, "timeout"),
        ({"capability": "gcc", "cpus": 0}, "cpus"),
        ({"capability": "gcc", "inputs": ["../x"]}, "inputs"),
        ({"capability": 3}, "expected what needs"),
        ({"cpus": 2}, "expected what needs"),
        (["gcc"], "expected what needs"),
        ("gcc", "expected what needs"),
    ],
)
def test_an_entry_that_needs_would_refuse_is_refused(farm: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_needs({"farm": farm})
