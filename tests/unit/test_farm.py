"""`farm.action`: named actions as doit tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

from computefarm import farm
from computefarm.errors import UsageError
from computefarm.needs import read_needs


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CF_HOME", str(tmp_path / "home"))


def test_a_compile_as_a_task() -> None:
    task = farm.action(
        "gcc>=9",
        "compile",
        source=Path("src/a.c"),
        object="build/a.o",
        flags=["-O3"],
        inputs=["include/*.h"],
        cpus=2,
    )
    assert task["actions"] == [
        ["gcc", "-O3", "-MMD", "-MF", "build/a.o.d", "-c", "src/a.c", "-o", "build/a.o"]
    ]
    assert task["file_dep"] == ["src/a.c"]
    assert task["targets"] == ["build/a.o", "build/a.o.d"]
    asked = read_needs(task["meta"])
    assert asked is not None
    assert (asked.capability, asked.version, asked.cpus, asked.inputs) == ("gcc", ">=9", 2, ("include/*.h",))
    assert asked.memory is None
    assert asked.depfile == "build/a.o.d"
    assert asked.action.pop("label").startswith("compile:")
    assert asked.action == {
        "name": "compile",
        "values": {"source": "src/a.c", "object": "build/a.o", "flags": ["-O3"]},
    }


def test_what_is_written_by_hand_into_meta_is_read_too() -> None:
    task = farm.action("gcc", "link", objects=["a.o"], output="prog")
    asked = read_needs({"farm": dict(task["meta"]["farm"])})
    assert asked is not None
    assert asked.action["name"] == "link"


def test_the_projects_own_actions_are_found(tmp_path: Path) -> None:
    (tmp_path / "capabilities").mkdir()
    (tmp_path / "capabilities" / "mine.yaml").write_text(
        "capability: gcc\nextend: true\nactions: {strip: {run: [strip, '{file}', -o, '{out}'], inputs: [file], outputs: [out]}}\n"
    )
    assert farm.action("gcc", "strip", file="a", out="b")["actions"] == [["strip", "a", "-o", "b"]]


@pytest.mark.parametrize(
    ("capability", "name", "values", "message"),
    [
        ("gc", "compile", {}, "no capability file describes 'gc'"),
        ("gcc", "complie", {}, "did you mean 'compile'?"),
        ("gcc", "compile", {"source": "a.c", "objct": "a.o"}, "did you mean 'object'?"),
        ("gcc", "compile", {"source": "a.c"}, "gcc.compile needs 'object'"),
        ("gcc", "compile", {"source": "a.c", "object": "a.o", "cpus": 0}, "needs(cpus=0)"),
    ],
)
def test_mistakes(capability: str, name: str, values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        farm.action(capability, name, **values)
    assert message in str(caught.value)


RENDER = """\
capability: render
summary: s
worker: shell
env: {MODE: plain}
variants:
  gpu: {requires: [no-such-program-here], resources: {gpus: 1, memory: 1GiB}, env: {MODE: fast}, logs: python}
  cpu: {requires: [sh]}
actions:
  scene: {run: {gpu: [render, --cuda, '{scene}'], cpu: [render, '{scene}']}, inputs: [scene]}
  both: {run: [render, --version]}
  slow: {run: {cpu: [render, --slow]}, logs: pytest}
"""


def test_the_commands_of_all_variants_go_along(tmp_path: Path) -> None:
    (tmp_path / "capabilities").mkdir()
    (tmp_path / "capabilities/render.yaml").write_text(RENDER)
    task = farm.action("render", "scene", scene="a.txt", env={"MINE": "1"})
    # Here, under plain doit: the variant whose programs are there.
    assert task["actions"] == [["render", "a.txt"]]
    asked = read_needs(task["meta"])
    assert asked is not None
    assert (asked.gpus, asked.env) == (None, {"MODE": "plain", "MINE": "1"})
    variants = asked.action["variants"]
    assert list(variants) == ["gpu", "cpu"]
    assert variants["gpu"] == {
        "commands": [["render", "--cuda", "a.txt"]],
        "cpus": 1,
        "gpus": 1,
        "memory": None,
        "env": {"MODE": "fast", "MINE": "1"},
        "logs": "python",
    }
    assert (variants["cpu"]["logs"], asked.logs) == ("", "")

    def names(action: str) -> list[str]:
        found = read_needs(farm.action("render", action)["meta"])
        assert found is not None
        return list(found.action["variants"])

    assert names("both") == ["gpu", "cpu"]
    assert names("slow") == ["cpu"]
    slow = read_needs(farm.action("render", "slow")["meta"])
    assert slow is not None
    assert (slow.logs, slow.action["variants"]["cpu"]["logs"]) == ("pytest", "pytest")
