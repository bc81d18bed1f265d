from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from computefarm import home as module
from computefarm.errors import FarmError, Refused, SettingsError
from computefarm.home import Home, check_secret, host_id, private_folder, write_secret


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_cf_home_holds_all_three() -> None:
    home = Home.find({"CF_HOME": "/srv/w1", "XDG_CONFIG_HOME": "/elsewhere"})

    assert home == Home(
        config=Path("/srv/w1/config"), state=Path("/srv/w1/state"), cache=Path("/srv/w1/cache")
    )


def test_relative_cf_home_is_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert Home.find({"CF_HOME": "w1"}).config == tmp_path / "w1" / "config"


def test_xdg_layout() -> None:
    home = Home.find({"HOME": "/home/ada", "XDG_CACHE_HOME": "/fast", "XDG_STATE_HOME": "not/absolute"})

    assert home.config == Path("/home/ada/.config/computefarm")
    assert home.state == Path("/home/ada/.local/state/computefarm")
    assert home.cache == Path("/fast/computefarm")


def test_user_without_a_home_is_told_what_to_set() -> None:
    with pytest.raises(SettingsError, match="CF_HOME"):
        Home.find({"HOME": "relative"})


def test_private_folder_is_made_and_narrowed(tmp_path: Path) -> None:
    assert mode(private_folder(tmp_path / "a" / "b")) == 0o700
    wide = tmp_path / "wide"
    wide.mkdir(mode=0o755)
    assert mode(private_folder(wide)) == 0o700


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(FarmError, match=r"cannot make the folder .*file/x"):
        private_folder(tmp_path / "file" / "x")


def test_secret_is_written_at_0600_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "key"
    before = os.umask(0)
    try:
        write_secret(path, b"one")
        write_secret(path, b"two")
    finally:
        os.umask(before)

    assert (mode(path), path.read_bytes()) == (0o600, b"two")
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]
    check_secret(path)


@pytest.mark.parametrize("wide", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_wider_secret_is_refused_with_the_chmod_to_type(tmp_path: Path, wide: int) -> None:
    path = tmp_path / "key"
    write_secret(path, b"x")
    path.chmod(wide)

    with pytest.raises(Refused, match=f"mode {wide:04o}(.|\n)*chmod 600 {path}"):
        check_secret(path)


def test_wider_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir(mode=0o755)

    with pytest.raises(Refused, match="chmod 700"):
        check_secret(tmp_path / "keys")


def test_somebody_elses_secret_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key"
    write_secret(path, b"x")
    monkeypatch.setattr(module.os, "geteuid", lambda: os.getuid() + 1)

    with pytest.raises(Refused, match="another user"):
        check_secret(path)


def test_host_id_is_stable_and_differs_between_homes(tmp_path: Path) -> None:
    one, two = (Home.find({"CF_HOME": str(tmp_path / name)}) for name in ("one", "two"))

    assert host_id(one) == host_id(one)
    assert host_id(one) != host_id(two)
    assert len(host_id(one)) == 16


def test_machine_without_an_id_remembers_a_random_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MACHINE_ID_FILES", ())
    monkeypatch.setattr(module, "_io_platform_uuid", lambda: "")
    home = Home.find({"CF_HOME": str(tmp_path)})

    assert host_id(home) == host_id(home)
    assert (home.state / "machine-id").read_text().strip()
