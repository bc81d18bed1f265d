from __future__ import annotations

from pathlib import Path

import pytest

from computefarm.errors import SettingsError
from computefarm.home import Home
from computefarm.settings import SETTINGS, Settings, load_settings


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home.find({"CF_HOME": str(tmp_path / "home")})
    home.config.mkdir(parents=True)
    return home


def project(tmp_path: Path, text: str) -> Path:
    (tmp_path / "pyproject.toml").write_text(text)
    return tmp_path


def test_defaults(home: Home) -> None:
    found = load_settings({}, {}, home)

    assert found == Settings()
    assert found.wait_workers_s == 60
    assert {origin for _, _, origin in found.rows()} == {"default"}


def test_each_source_beats_the_next(home: Home, tmp_path: Path) -> None:
    (home.config / "config.toml").write_text(
        'farm = "user"\nwait-workers = "1m"\nprogress = "plain"\nstore-limit = "1GiB"\n'
    )
    folder = project(
        tmp_path, '[tool.computefarm]\nfarm = "project"\nwait-workers = 120\nprogress = "none"\n'
    )

    found = load_settings(
        {"farm": "flag", "progress": None}, {"CF_FARM": "env", "CF_WAIT_WORKERS": "3m"}, home, folder
    )

    assert (found.farm, found.wait_workers_s, found.progress, found.store_limit) == (
        "flag",
        180,
        "none",
        1 << 30,
    )
    origins = {key: origin for key, _, origin in found.rows()}
    assert origins["farm"] == "--farm"
    assert origins["wait-workers"] == "CF_WAIT_WORKERS"
    assert origins["progress"] == f"{folder}/pyproject.toml [tool.computefarm]"
    assert origins["store-limit"] == str(home.config / "config.toml")
    assert origins["color"] == "default"


def test_recompute_port_sets_the_port_unless_cf_port_does(home: Home) -> None:
    old = {"CHIAPOS_RECOMPUTE_PORT": "1"}
    assert load_settings({}, old, home).port == 1
    assert load_settings({}, {**old, "CF_RECOMPUTE_PORT": "2"}, home).port == 2
    assert load_settings({}, {**old, "CF_RECOMPUTE_PORT": "2", "CF_PORT": "3"}, home).port == 3


@pytest.mark.parametrize("prefix", ["CF", "CHIAPOS"])
def test_recompute_settings_go_by_both_names(home: Home, prefix: str) -> None:
    names = ("HOST", "TIMEOUT", "CONNECT_TIMEOUT", "RETRY_INTERVAL", "MAX_CORES")
    values = ("a,b:1", "1000", "200", "30", "7")
    variables = {f"{prefix}_RECOMPUTE_{name}": value for name, value in zip(names, values, strict=True)}

    found = load_settings({}, variables, home)

    assert found.recompute_host == "a,b:1"
    assert (found.recompute_timeout, found.recompute_connect_timeout) == (1000, 200)
    assert (found.recompute_retry_interval_s, found.recompute_max_cores) == (30.0, 7)
    for name in names[1:]:
        with pytest.raises(SettingsError, match=f"{prefix}_RECOMPUTE_{name}.*'?x y"):
            load_settings({}, {f"{prefix}_RECOMPUTE_{name}": "x y"}, home)


def test_no_color(home: Home) -> None:
    assert load_settings({}, {"NO_COLOR": "1"}, home).color == "never"
    assert load_settings({}, {"NO_COLOR": ""}, home).color == "auto"
    assert load_settings({}, {"NO_COLOR": "1", "CF_COLOR": "always"}, home).color == "always"


def test_empty_variable_counts_as_unset(home: Home) -> None:
    assert load_settings({}, {"CF_WAIT_WORKERS": ""}, home).wait_workers_s == 60


def test_project_without_our_table_changes_nothing(home: Home, tmp_path: Path) -> None:
    assert load_settings({}, {}, home, project(tmp_path, '[tool.other]\nfarm = "x"\n')) == Settings()


@pytest.mark.parametrize("key", ["defualt-capability", "default_capability", "Default-Capability"])
def test_unknown_key_names_file_and_the_nearest_spelling(home: Home, tmp_path: Path, key: str) -> None:
    folder = project(tmp_path, f'[tool.computefarm]\n{key} = "shell"\n')

    with pytest.raises(SettingsError) as caught:
        load_settings({}, {}, home, folder)

    text = str(caught.value)
    assert str(folder / "pyproject.toml") in text
    assert repr(key) in text
    assert "did you mean 'default-capability'?" in text


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("farm = 3", "text"), ('port = "http"', "whole number"), ("port = 70000", "65535"), ("port = true", "whole number"),
        ('wait-workers = "soon"', "not a duration"), ("store-limit = 1.5", "size"), ("progress = 'fancy'", "auto, rich"),
        ("heartbeat = 0", "50ms"), ("log-runs = 0", "whole number"), ("store-limit = [1]", "size"), ("wait-workers = true", "duration"),
    ],
)  # fmt: skip
def test_wrong_value_names_file_key_and_expectation(home: Home, line: str, expected: str) -> None:
    path = home.config / "config.toml"
    path.write_text(line + "\n")

    with pytest.raises(SettingsError) as caught:
        load_settings({}, {}, home)

    text = str(caught.value)
    assert str(path) in text
    assert line.split(" = ")[0] in text
    assert expected in text


def test_wrong_variable_and_flag_name_themselves(home: Home) -> None:
    with pytest.raises(SettingsError, match=r"^CF_PORT = 'x': a whole number"):
        load_settings({}, {"CF_PORT": "x"}, home)
    with pytest.raises(SettingsError, match=r"^--wait-workers = 'x': not a duration"):
        load_settings({"wait_workers_s": "x"}, {}, home)


def test_file_that_is_not_toml_is_named(home: Home) -> None:
    (home.config / "config.toml").write_text("farm: lab\n")

    with pytest.raises(SettingsError, match=r"config\.toml is not TOML"):
        load_settings({}, {}, home)


def test_every_field_can_be_set() -> None:
    assert [setting.field for setting in SETTINGS] == [
        name for name in Settings.__struct_fields__ if name != "origins"
    ]
