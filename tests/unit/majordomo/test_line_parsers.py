"""Which parser a task's output is given to."""

from __future__ import annotations

from pathlib import Path

from computefarm.home import Home
from computefarm.majordomo.line_parsers import LineParsers


def test_the_capability_names_it_and_local_tasks_may_be_anything(tmp_path: Path) -> None:
    folder = tmp_path / "capabilities"
    folder.mkdir()
    (folder / "mine.yaml").write_text(
        "capability: mine\nsummary: x\nworker: shell\nlogs: pytest\n"
        "probe: {version: {run: [echo, '1.0'], match: '(.*)'}}\nfingerprint: version\n"
    )
    capabilities = {"c": "gcc", "m": "mine", "s": "shell", "l": "", "x": "only-elsewhere"}
    parser = LineParsers(capabilities.__getitem__, Home.find({"CF_HOME": str(tmp_path / "h")}), tmp_path)
    assert {name: parser(name) for name in capabilities} == {
        "c": "gcc", "m": "pytest", "s": "script", "l": "script", "x": "",
    }  # fmt: skip


def test_a_broken_capability_file_harms_no_display(tmp_path: Path) -> None:
    folder = tmp_path / "capabilities"
    folder.mkdir()
    (folder / "broken.yaml").write_text("capability: [\n")
    parser = LineParsers(lambda name: "gcc", Home.find({"CF_HOME": str(tmp_path / "h")}), tmp_path)
    assert parser("a") == ""


def test_what_was_planned_goes_before_the_capability_s_own(tmp_path: Path) -> None:
    home = Home.find({"CF_HOME": str(tmp_path / "h")})
    parser = LineParsers(lambda name: "gcc", home, tmp_path, {"a": "python"})
    assert (parser("a"), parser("b")) == ("python", "gcc")
