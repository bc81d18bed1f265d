"""Making the folder with the program, also where Python came without pip."""

from __future__ import annotations

import importlib.util
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from computefarm.remote.far import installing
from computefarm.remote.far.there import find_farm, main
from computefarm.remote.wheel import pip_zip


@pytest.fixture
def no_ensurepip(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "ensurepip" else find(name, *rest)
    )


def test_without_ensurepip_the_pip_that_was_sent_is_used(tmp_path: Path, no_ensurepip: None) -> None:
    pip = pip_zip()
    if pip is None:
        pytest.skip("NOT TESTED: there is no pip in this environment to send")
    (tmp_path / "pip.zip").write_bytes(pip)

    installing.make(tmp_path / "venv", sys.executable, [tmp_path / "pip.zip"])

    told = subprocess.run(
        [tmp_path / "venv/bin/python", "-m", "pip", "--version"], capture_output=True, text=True, check=True
    )
    assert str(tmp_path / "venv") in told.stdout


def test_without_any_pip_it_says_so(tmp_path: Path, no_ensurepip: None) -> None:
    with pytest.raises(installing.InstallError, match="ensurepip") as caught:
        installing.make(tmp_path / "venv", sys.executable, [])

    assert caught.value.kind == "venv"


def ask(capsys: pytest.CaptureFixture[str], payload: bytes = b"", **request: Any) -> Any:
    code = main(request, io.BytesIO(payload))
    answer = json.loads(capsys.readouterr().out.partition("CF-ANSWER ")[2])
    assert (code == 0) is ("result" in answer)
    return answer


def test_a_wheel_that_breaks_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    venv = tmp_path / "venv-1-x"

    answer = ask(
        capsys, b"no wheel", do="install", venv=str(venv), python=sys.executable, digest="d",
        files=[("computefarm-1-py3-none-any.whl", 8)],
    )  # fmt: skip

    assert answer["kind"] == "pip"
    assert "computefarm-1" in answer["error"]
    assert [path.name for path in tmp_path.iterdir()] == [".installing"]


def test_a_connection_that_ends_in_the_middle_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = ask(
        capsys, b"abc", do="install", venv=str(tmp_path / "venv-1-x"), python=sys.executable, digest="d",
        files=[("computefarm-1-py3-none-any.whl", 8)],
    )  # fmt: skip

    assert "ended in the middle" in answer["error"]
    assert [path.name for path in tmp_path.iterdir()] == [".installing"]


def test_what_is_installed_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    venv = tmp_path / "venv-1-x"
    venv.mkdir()
    (venv / installing.MARK).write_text('{"digest": "d"}')

    answer = ask(capsys, do="install", venv=str(venv), python="", digest="d", files=[])

    assert answer == {"result": {"kept": True}}


def test_no_room_is_told_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installing, "NEEDS_BYTES", 1 << 60)

    answer = ask(capsys, do="install", venv=str(tmp_path / "v"), python="", digest="d", files=[])

    assert answer["kind"] == "disk"
    assert "MiB are free" in answer["error"]


def test_a_folder_where_one_may_not_write_is_a_matter_of_permission(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nobody may make a folder in /proc, not even root."""
    if not Path("/proc/self").exists():
        pytest.skip("NOT TESTED: there is no /proc here")

    answer = ask(capsys, do="install", venv="/proc/no/v", python="", digest="d", files=[])

    assert answer["kind"] in ("permission", "system")
    assert "/proc/no" in answer["error"]


def test_programs_of_other_versions_go_but_not_those_in_use(tmp_path: Path) -> None:
    for name in ("venv-1", "venv-2", "venv-3"):
        (tmp_path / name).mkdir()

    gone = installing.sweep(tmp_path, {str(tmp_path / "venv-2")})

    assert gone == ["venv-1", "venv-3"]
    assert [path.name for path in tmp_path.iterdir()] == ["venv-2"]


def test_a_clean_up_spares_the_managers_own_farm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    farms = tmp_path / "farms"
    for name, key in (("own", "manager.key"), ("lab", "worker.key")):
        (farms / name / "keys").mkdir(parents=True)
        (farms / name / "keys" / key).write_text("public secret\n")
        (farms / name / "access.json").write_text(f'{{"server_key": "{name}", "address": "a"}}')
    cache = tmp_path / "cache"
    cache.mkdir()
    assert find_farm(farms, "lab") == {
        "folder": str(farms / "lab"), "address": "a", "key": "public", "manager": False
    }  # fmt: skip

    ask(
        capsys, do="clean", remove=[str(farms / "own"), str(farms / "lab")], farms=str(farms), programs="",
        cache=str(cache), services_folder=str(tmp_path), empty=[str(farms)],
    )  # fmt: skip

    assert [path.name for path in farms.iterdir()] == ["own"]
    assert cache.exists(), "another farm is known, so the cache stays"


def test_ports(capsys: pytest.CaptureFixture[str]) -> None:
    port = ask(capsys, do="free-port", wanted=0)["result"]

    (told,) = ask(capsys, do="reach", addresses=[("127.0.0.1", port)], patience_s=1)["result"]

    assert 20000 <= port < 32000
    assert told["ok"] is False
    assert "refused" in told["text"]
