"""The pure parts of `majordomo host`."""

from __future__ import annotations

from pathlib import Path

import pytest

from computefarm.errors import FarmError, Refused, UsageError
from computefarm.home import Home
from computefarm.majordomo.commands_host import list_text, live, others
from computefarm.majordomo.host_doctor import Check, doctor_text, wrong
from computefarm.majordomo.host_farm import candidates, managed, read_probe
from computefarm.majordomo.host_install import carried, install_error
from computefarm.messages import HostStatus, Status, WorkerStatus
from computefarm.remote.farside import FarError, read_facts
from computefarm.remote.inventory import Host
from computefarm.remote.ssh import Target
from computefarm.transport.addresses import Address

NN02 = Host(name="nn02", target=Target("alice@nn02"), farm_folder="/f", services_folder="/s", venv="/v")
FACTS = read_facts(
    "CF home=/home/alice\nCF user=alice\nCF system=Linux\nCF processor=aarch64\nCF hostname=nn02\n"
    "CF python=3.12.1 /usr/bin/python3\n"
)


def status(*, online: bool = True, state: str = "idle", workers: int = 1) -> Status:
    host = HostStatus("id", "nn02", online, 0.25, 4, 8, 4, 0, 1.0, "")
    worker = WorkerStatus("w", "id", "nn02", (), 4, 1, state, 0, 1.0, 0, 0)
    return Status("lab", "1", 1.0, (host,), (worker,) * workers, 0, 0)


# --- addresses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listens", "client", "own", "found"),
    [
        ("192.0.2.1", "198.51.100.9", ["boss"], ["192.0.2.1"]),
        ("0.0.0.0", "198.51.100.9", ["192.0.2.1", "boss"], ["198.51.100.9", "192.0.2.1", "boss"]),
        ("0.0.0.0", "", ["boss", "boss"], ["boss"]),
        ("127.0.0.1", "198.51.100.9", ["192.0.2.1"], []),
        ("127.0.0.1", "127.0.0.1", ["192.0.2.1"], ["127.0.0.1"]),
        ("127.0.0.1", "", [], []),
    ],
)
def test_where_another_machine_may_find_the_manager(
    listens: str, client: str, own: list[str], found: list[str]
) -> None:
    assert candidates(Address(listens, 11989), client, own) == [Address(host, 11989) for host in found]


# --- the managed farm ---------------------------------------------------------------------------------


def home(folder: Path) -> Home:
    return Home(config=folder / "config", state=folder / "state", cache=folder / "cache")


def manage(folder: Path, name: str) -> None:
    keys = folder / "config/farms" / name / "keys"
    keys.mkdir(parents=True)
    (keys / "manager.key").touch()


def test_the_only_managed_farm_is_meant(tmp_path: Path) -> None:
    manage(tmp_path, "lab")

    assert managed(home(tmp_path), "") == "lab"
    with pytest.raises(UsageError, match="no farm 'other'"):
        managed(home(tmp_path), "other")
    manage(tmp_path, "second")
    with pytest.raises(UsageError, match="several farms"):
        managed(home(tmp_path), "")
    assert managed(home(tmp_path), "second") == "second"


def test_elsewhere_it_says_where_to_go(tmp_path: Path) -> None:
    folder = tmp_path / "config/farms/lab"
    folder.mkdir(parents=True)
    key = "A" * 43
    (folder / "access.json").write_text(
        f'{{"farm": "lab", "address": "tcp://boss.example:11989", "server_key": "{key}"}}'
    )

    with pytest.raises(Refused, match=r"ssh boss\.example majordomo host"):
        managed(home(tmp_path), "")


# --- probes -------------------------------------------------------------------------------------------


def test_a_probe_is_read() -> None:
    said = (
        "gcc: 12.2.0  fingerprint ab  target=x86_64-linux-gnu\n"
        "latex: no\n    program `pdflatex` is missing\n    and more\n"
        "shell: 1.0  fingerprint cd\nodd:   fingerprint ef\nnonsense\n"
    )

    assert read_probe(said) == (
        {"gcc": "12.2.0", "shell": "1.0", "odd": ""},
        {"latex": "program `pdflatex` is missing; and more"},
    )


# --- installing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "code", "words", "hint"),
    [
        ("disk", 2, "no room on nn02", "df -h"),
        ("permission", 2, "does not let alice write", "--home DIR"),
        ("venv", 3, "virtual environments", "python3.12-venv"),
        ("index", 2, "pip on nn02", "--platform manylinux2014_aarch64"),
        ("pip", 2, "installation on nn02 failed", "again"),
    ],
)
def test_every_failed_installation_has_a_next_command(kind: str, code: int, words: str, hint: str) -> None:
    error = install_error(FarError("it said so", kind), FACTS, NN02, lambda *more: " ".join(("again", *more)))

    assert error.exit_code == code
    assert words in str(error)
    assert "it said so" in str(error)
    assert hint in error.hint


def test_carried_wheels_are_those_of_the_folder_without_our_own(tmp_path: Path) -> None:
    (tmp_path / "computefarm-0.1-py3-none-any.whl").touch()
    (tmp_path / "doit-0.37-py3-none-any.whl").touch()

    assert [path.name for path in carried(str(tmp_path))] == ["doit-0.37-py3-none-any.whl"]
    assert carried("") == []
    with pytest.raises(UsageError, match="no wheel"):
        carried(str(tmp_path / "nothing"))


# --- list and doctor ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "state", "workers"),
    [
        (status(), "online", 1),
        (status(state="silent"), "no worker", 0),
        (status(workers=0), "no worker", 0),
        (status(workers=0, online=False), "offline", 0),
        (None, "unknown", None),
    ],
)
def test_a_host_is_what_the_farm_sees_of_it(seen: Status | None, state: str, workers: int | None) -> None:
    told = live("id", seen)

    assert (told["state"], told["workers"]) == (state, workers)


def test_the_list_says_when_a_tunnel_is_down() -> None:
    row = {"host": "nn02", "target": "alice@nn02", **live("id", status()), "version": "1", "clock_offset_s": -0.25,
           "via": "ssh", "tunnel": False}  # fmt: skip

    assert list_text([row]) == [
        "HOST  LOGIN       STATE   LOAD  SLOTS  WORKERS  VERSION  CLOCK     VIA",
        "nn02  alice@nn02  online  0.25  1/4    1        1        -0.250 s  ssh (tunnel down)",
    ]


def test_doctor_shows_the_next_command_under_what_failed() -> None:
    checks = [Check("ssh", True, "fine"), Check("port", False, "closed\nby a wall", "open it\n  or not")]

    assert list(doctor_text(NN02, checks)) == [
        "nn02 (alice@nn02)",
        "  ok    ssh   fine",
        "  FAIL  port  closed",
        "        | by a wall",
        "        open it",
        "        or not",
    ]


def test_an_error_becomes_a_check_with_its_hint_apart() -> None:
    assert wrong("ssh", FarmError("it fails", hint="try")) == Check("ssh", False, "it fails", "try")


def test_hosts_that_joined_by_themselves_are_listed_while_they_work() -> None:
    (row,) = others(status(), set())

    assert (row["host"], row["target"], row["state"]) == ("nn02", None, "online")
    assert others(status(), {"id"}) == []
    assert others(status(workers=0), set()) == []
    assert others(status(state="silent"), set()) == []
    assert others(None, set()) == []
