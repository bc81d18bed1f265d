from __future__ import annotations

from pathlib import Path

import pytest

from computefarm.errors import Refused, SettingsError, Unreachable
from computefarm.home import Home
from computefarm.transport.farms import check_farm_name, find_access, open_farm, publish, withdraw

ADDRESS = "tcp://127.0.0.1:5000"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.find({"CF_HOME": str(tmp_path / "home")})


def test_no_farm_means_the_embedded_one(home: Home) -> None:
    assert find_access(home, "") is None
    assert find_access(home, "local") is None


def test_same_home_finds_a_started_manager_without_set_up(home: Home) -> None:
    farm = open_farm(home, "lab")
    publish(farm, ADDRESS)

    for wanted in ("", "lab", str(farm.folder), str(farm.folder / "access.json")):
        access = find_access(home, wanted)
        assert access is not None
        assert (access.farm, access.address, access.server_key) == ("lab", ADDRESS, farm.keys.public)
        for role in ("client", "worker", "monitor"):
            authorization = farm.table.find(access.keys(role).public)
            assert authorization is not None
            assert authorization.may(role)
        assert access.keys("viewer") == access.keys("client")
    assert find_access(home, "local") is None


def test_access_file_holds_no_secret(home: Home) -> None:
    farm = open_farm(home, "lab")
    access = publish(farm, ADDRESS)
    text = (farm.folder / "access.json").read_text()

    for path in (farm.folder / "keys").iterdir():
        assert path.read_text().split()[1] not in text
        assert path.stat().st_mode & 0o777 == 0o600
    assert access.folder.stat().st_mode & 0o777 == 0o700


def test_stop_takes_the_automatic_entry_away(home: Home) -> None:
    publish(open_farm(home, "lab"), ADDRESS)

    withdraw(home, "lab")

    assert find_access(home, "") is None
    with pytest.raises(Unreachable, match=r"'lab' is not running(.|\n)*--name lab(.|\n)*--farm local"):
        find_access(home, "lab")
    withdraw(home, "lab")
    withdraw(home, "never-was")


def test_manager_keeps_its_key_over_restarts(home: Home) -> None:
    assert open_farm(home, "lab").keys == open_farm(home, "lab").keys
    assert open_farm(home, "lab").keys != open_farm(home, "other").keys


def test_several_farms_must_be_chosen_from(home: Home) -> None:
    publish(open_farm(home, "lab"), ADDRESS)
    publish(open_farm(home, "attic"), ADDRESS)

    with pytest.raises(SettingsError, match=r"attic, lab(.|\n)*--farm attic"):
        find_access(home, "")


def test_unknown_farm_names_the_known_and_how_to_join(home: Home) -> None:
    publish(open_farm(home, "lab"), ADDRESS)

    with pytest.raises(Refused, match=r"'lba'(.|\n)*knows: lab(.|\n)*majordomo join"):
        find_access(home, "lba")


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"farm": 1}', '{"farm": "a", "address": "nowhere:x", "server_key": "k"}', "\xff"],
)
def test_damaged_access_file_is_named(tmp_path: Path, home: Home, content: str) -> None:
    path = tmp_path / "access.json"
    path.write_text(content, encoding="latin-1")

    with pytest.raises(SettingsError, match=r"access\.json is not an access file"):
        find_access(home, str(path))


def test_missing_access_file_is_named(home: Home, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no access file .*gone\.json"):
        find_access(home, str(tmp_path / "gone.json"))


@pytest.mark.parametrize("name", ["", "local", "a/b", "..", "-x", "a b", "é", "x" * 64])
def test_names_that_no_farm_may_have(name: str) -> None:
    with pytest.raises(SettingsError, match="cannot name a farm"):
        check_farm_name(name)


def test_role_without_a_key_is_refused_with_the_invitation_to_ask_for(home: Home) -> None:
    farm = open_farm(home, "lab")
    access = publish(farm, ADDRESS)
    (farm.folder / "keys" / "client.key").unlink()

    with pytest.raises(Refused, match=r"no client key(.|\n)*invite --role client"):
        access.keys("client")
