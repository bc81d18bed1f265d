"""The list of hosts of a farm."""

from __future__ import annotations

from pathlib import Path

import pytest

from computefarm.errors import FarmError, UsageError
from computefarm.remote.inventory import Host, Hosts
from computefarm.remote.ssh import Target


def host(name: str, where: str = "", **more: object) -> Host:
    return Host(
        name=name,
        target=Target(where or name),
        farm_folder="/f",
        services_folder="/s",
        venv="/v",
        **more,  # type: ignore[arg-type]
    )


def test_hosts_are_kept_by_name(tmp_path: Path) -> None:
    hosts = Hosts(tmp_path)
    assert hosts.all() == []

    hosts.put(host("b", "u@b", slots=2))
    hosts.put(host("a"))
    hosts.put(host("b", "u@b", slots=3))

    assert [(one.name, one.slots) for one in hosts.all()] == [("a", 0), ("b", 3)]
    assert hosts.get("u@b") == hosts.get("b")
    assert hosts.path.stat().st_mode & 0o777 == 0o600
    hosts.drop("b")
    assert [one.name for one in hosts.all()] == ["a"]


def test_an_unknown_host_is_an_error_that_names_the_known_ones(tmp_path: Path) -> None:
    hosts = Hosts(tmp_path)
    hosts.put(host("nn02"))

    with pytest.raises(UsageError, match="there are: nn02"):
        hosts.get("nn03")


def test_two_users_of_one_machine_have_two_names(tmp_path: Path) -> None:
    hosts = Hosts(tmp_path)
    assert hosts.name_for(Target("alice@nn02")) == "nn02"
    hosts.put(host("nn02", "alice@nn02"))

    assert hosts.name_for(Target("alice@nn02")) == "nn02"
    assert hosts.name_for(Target("bob@nn02")) == "bob@nn02"
    assert hosts.name_for(Target("ssh://bob@nn02:2222")) == "bob@nn02-2222"


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "hosts.json").write_text("{")

    with pytest.raises(FarmError, match=r"hosts\.json is damaged"):
        Hosts(tmp_path).all()
