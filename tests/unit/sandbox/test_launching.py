from __future__ import annotations

from pathlib import Path

import pytest

from computefarm.sandbox.launching import Unstartable, find_program


def program(path: Path, mode: int = 0o755) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return str(path)


def test_first_folder_of_the_path_wins(tmp_path: Path) -> None:
    first = program(tmp_path / "a" / "tool")
    second = program(tmp_path / "b" / "tool")

    assert find_program("tool", f"{tmp_path}/a:{tmp_path}/b") == first
    assert find_program("tool", f"{tmp_path}/b:{tmp_path}/a") == second


def test_folders_and_plain_files_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a" / "tool").mkdir(parents=True)
    program(tmp_path / "b" / "tool", 0o644)
    wanted = program(tmp_path / "c" / "tool")

    assert find_program("tool", ":".join(f"{tmp_path}/{name}" for name in "abc")) == wanted


def test_name_with_a_slash_is_not_searched() -> None:
    assert find_program("bin/tool", "/nowhere") == "bin/tool"


def test_empty_folder_is_the_current_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "tool")
    monkeypatch.chdir(tmp_path)

    assert find_program("tool", "/nowhere:") == "./tool"


@pytest.mark.parametrize(
    ("mode", "code", "text"), [(0o644, 126, "tool: permission denied"), (None, 127, "tool: not found")]
)
def test_refusal_is_the_shells(tmp_path: Path, mode: int | None, code: int, text: str) -> None:
    if mode is not None:
        program(tmp_path / "tool", mode)

    with pytest.raises(Unstartable) as refused:
        find_program("tool", str(tmp_path))
    assert (refused.value.exit_code, refused.value.text) == (code, text)
