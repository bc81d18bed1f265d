"""Command lines for ssh, and its complaints."""

from __future__ import annotations

from pathlib import Path

import pytest

from computefarm.errors import FarmError, Refused, Unreachable, UsageError
from computefarm.remote.ssh import Target, check_target, explain, own_words, tunnel_line

NN02 = Target("alice@nn02", options=("Port=2222",))


@pytest.mark.parametrize(
    ("where", "host"),
    [
        ("nn02", "nn02"),
        ("alice@nn02", "nn02"),
        ("alice@nn02.lab.example", "nn02.lab.example"),
        ("ssh://alice@nn02:2222", "nn02"),
        ("192.0.2.7", "192.0.2.7"),
    ],
)
def test_a_target_names_a_machine(where: str, host: str) -> None:
    assert check_target(Target(where)).host == host


@pytest.mark.parametrize(
    "where", ["", "-oProxyCommand=touch x", "a b", "alice@-x", "a@b@c", "-l", "nn02\n", "a/b"]
)
def test_what_is_no_machine_is_refused(where: str) -> None:
    with pytest.raises(UsageError, match="not a machine"):
        check_target(Target(where))


def test_a_configuration_file_must_be_there_and_gets_an_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").touch()
    monkeypatch.chdir(tmp_path)

    assert check_target(Target("nn02", config="config")).config == str(tmp_path / "config")
    with pytest.raises(UsageError, match="no such file"):
        check_target(Target("nn02", config="nothing"))


def test_what_a_person_would_type() -> None:
    target = Target("nn02", config="/etc/my config", options=("Port=22",))

    assert target.typed("ssh", "true") == "ssh -F '/etc/my config' -o Port=22 nn02 true"


def test_a_tunnel_goes_from_loopback_there_to_the_manager_here() -> None:
    line = tunnel_line(NN02, 23456, "127.0.0.1", 11989)

    assert line[-3:] == ["-R", "127.0.0.1:23456:127.0.0.1:11989", "alice@nn02"]
    assert {"BatchMode=yes", "ExitOnForwardFailure=yes", "ServerAliveInterval=15", "Port=2222"} <= set(line)
    assert tunnel_line(NN02, 1, "::1", 2)[-2] == "127.0.0.1:1:[::1]:2"


@pytest.mark.parametrize(
    ("said", "kind", "words", "hint"),
    [
        (
            "alice@nn02: Permission denied (publickey,password).",
            Refused,
            "without typing",
            "ssh-copy-id -o Port=2222",
        ),
        ("Received disconnect: Too many authentication failures", Refused, "without typing", "ssh-add"),
        (
            "@@@@@@@@@\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n@@@@@\nHost key verification failed.",
            Refused,
            "another host key",
            "ssh-keygen -R nn02",
        ),
        ("Host key verification failed.", Refused, "not known here yet", "fingerprint"),
        (
            "ssh: Could not resolve hostname nn02: Name or service not known",
            Unreachable,
            "not known",
            "getent",
        ),
        ("ssh: connect to host nn02 port 22: Connection refused", Unreachable, "refused", "openssh-server"),
        (
            "ssh: connect to host nn02 port 22: Connection timed out",
            Unreachable,
            "timed out",
            "ssh -v -o Port=2222",
        ),
        ("command-line line 0: Bad configuration option: prot", UsageError, "prot", "man ssh_config"),
        ("", Unreachable, "without a word", "-v"),
    ],
)
def test_complaints_become_advice(said: str, kind: type[FarmError], words: str, hint: str) -> None:
    error = explain(NN02, said)

    assert type(error) is kind
    assert words in str(error)
    assert hint in error.hint


def test_its_own_words_are_found_among_noise() -> None:
    said = (
        "Warning: Permanently added 'x' to the list\r\n****\r\nssh: it failed\r\nmux_client_x: gone\r\n\r\n"
    )

    assert own_words(said) == "ssh: it failed"
