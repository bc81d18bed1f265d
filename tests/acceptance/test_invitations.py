"""Invitations: each kind of bad one has its own words, a good one works in spite of wrong clocks."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from computefarm.transport.invitation import Invitation, parse_invitation
from computefarm.transport.keys import KeyPair, spell

from .clocks import lie

MakeFarm = Callable[..., Any]


def invite(place: Any, *more: str) -> str:
    """Return a line that lets one machine in."""
    done = place.here.call("cf-taskmanager", "invite", "--role", "worker", *more, cwd=place.folder)
    assert done.returncode == 0, done.stderr
    return str(done.stdout.strip())


def test_bad_lines_each_in_their_own_words(farm: MakeFarm) -> None:
    place = farm(0, "shell")
    line = invite(place)
    real = parse_invitation(line)
    made: dict[str, tuple[str, str]] = {"nonsense": ("hello", "this is not an invitation")}
    made["tampered"] = (line[:-1] + ("A" if line[-1] != "A" else "B"), "damaged")
    made["cut"] = (line[:60], "damaged")
    wrong = Invitation(address=real.address, server_key=real.server_key, farm="default", keys=KeyPair.make())
    made["wrong"] = (wrong.line(), "does not know this invitation")
    other = Invitation(address=real.address, server_key=KeyPair.make().public, farm="default", keys=real.keys)
    made["of another farm"] = (other.line(), "is not the manager that made this invitation")
    made["expired"] = (invite(place, "--for", "1s"), "this invitation expired on ")
    withdrawn = invite(place)
    name = re.findall(r"invitation-\S+", place.here.call("cf-taskmanager", "keys", cwd=place.folder).stdout)[
        -1
    ]
    done = place.here.call("cf-taskmanager", "revoke", name, cwd=place.folder)
    assert done.stdout == f"withdrew invite:worker {name}: 0 live connections ended\n", done.stderr
    made["withdrawn"] = (withdrawn, "it was withdrawn")
    used = invite(place)
    first = type(place.here)(place.folder / "first")
    first.majordomo("join", used, cwd=place.folder)
    assert "joined farm 'default'" in first.majordomo("join", used, cwd=place.folder)
    made["used"] = (used, "this invitation was used already, by ")
    time.sleep(1.5)  # until the short one is over

    late = type(place.here)(place.folder / "late")
    for bad, text in made.values():
        for command in (
            ("majordomo", "join"),
            ("cf-worker", "--capability", "shell", "--no-monitor", "--join"),
        ):
            done = late.call(*command, bad, cwd=place.folder)
            assert done.returncode == 6, done.stderr
            assert text in done.stderr
            assert "invite" in done.stderr
            assert "Traceback" not in done.stderr
    assert not list((place.folder / "late").rglob("*.key")), "no key is left of what failed"


def test_clocks_of_other_machines_do_not_matter(
    farm: MakeFarm, until: Any, wrong_clock: Path, tmp_path: Path
) -> None:
    place = farm(0, "shell")
    for offset_h in (3, -3):
        guest = type(place.here)(place.folder / f"guest{offset_h}")
        place.machines.append(guest)
        line = invite(place, "--for", "1h")
        clock = tmp_path / f"clock{offset_h}"
        clock.write_text(f"{offset_h * 3600}\n")
        guest.environ |= lie(wrong_clock, clock)
        guest.start("cf-worker", "--capability", "shell", "--no-monitor", "--join", line)
    until(lambda: len(place.status()["workers"]) == 2, "workers", place.logs)


def test_an_invitation_carries_an_address_that_others_can_dial(machine: Any, tmp_path: Any) -> None:
    def call(*command: str) -> Any:
        return machine.call("cf-taskmanager", *command, cwd=tmp_path)

    started = call("start", "--daemon", "--listen", "tcp://0.0.0.0:*")
    try:
        assert started.returncode == 0, started.stderr
        port = re.search(r"is at tcp://0\.0\.0\.0:(\d+)", started.stdout)
        assert port is not None
        assert re.search(
            rf"other machines reach it at tcp://(?!0\.0\.0\.0|127\.)\S+:{port[1]}", started.stdout
        )
        assert re.search(r"its key is SHA256:\S{43}\n", started.stdout)
        assert re.search(rf"a firewall here must let it through: sudo .*{port[1]}", started.stdout)
        line = call("invite", "--role", "client")
        assert line.stderr == ""
        assert f"tcp://{line.stdout.split(':')[1]}:{port[1]}" in started.stdout
        chosen = call("invite", "--role", "client", "--address", "boss.lan")
        assert chosen.stdout.startswith(f"cf1:boss.lan:{port[1]}:")
        assert call("invite", "--role", "client", "--address", "[2001:db8::1]:77").stdout.startswith(
            "cf1:2001+db8++1:77:"
        )
        for bad in ("0.0.0.0", "a b", "::::", "host:99999"):
            assert call("invite", "--role", "client", "--address", bad).returncode == 3
        other = type(machine)(machine.home.parent / "other")
        assert "joined farm" in other.majordomo("join", line.stdout.strip(), cwd=tmp_path)
        assert "tasks: 0 waiting" in other.majordomo("status", cwd=tmp_path)
    finally:
        call("stop")


def test_a_farm_on_loopback_warns_who_invites(machine: Any, tmp_path: Any) -> None:
    started = machine.call(
        "cf-taskmanager", "start", "--daemon", "--listen", "tcp://127.0.0.1:*", cwd=tmp_path
    )
    try:
        assert "this machine only; for others: " in started.stdout
        done = machine.call("cf-taskmanager", "invite", "--role", "client", cwd=tmp_path)
        assert "only: the line is good on this machine, or behind a tunnel" in done.stderr
        assert "--listen tcp://0.0.0.0:" in done.stderr
        assert len(done.stdout.split()) == 1
    finally:
        machine.call("cf-taskmanager", "stop", cwd=tmp_path)


def test_a_key_for_a_while_from_known_addresses(machine: Any, tmp_path: Any) -> None:
    def call(*command: str) -> Any:
        return machine.call("cf-taskmanager", *command, cwd=tmp_path)

    call("start", "--daemon", "--listen", "tcp://127.0.0.1:*")
    try:
        key = next(k for k in (spell(KeyPair.make().public) for _ in range(10_000)) if k.startswith("-"))
        done = call(
            "allow",
            key,
            "--role",
            "admin",
            "--as",
            "Ada",
            "--for",
            "30d",
            "--from",
            "192.0.2.7,2001:db8::/32,localhost",
        )
        assert done.returncode == 0, done.stderr
        assert re.match(r"admin key of Ada let in until \S+ from 192\.0\.2\.7, 2001:db8::/32, ", done.stdout)
        assert f"admin Ada {key} expires=" in call("keys").stdout
        for bad in (("--for", "soon"), ("--from", "no.such.host.invalid"), ("--from", "1.2.3.4/99")):
            done = call("allow", key, "--role", "client", *bad)
            assert (done.returncode, "Traceback" in done.stderr) == (3, False), done.stderr
        assert call("allow", "nonsense", "--role", "client").returncode == 3
        assert call("revoke", key).stdout == "revoked admin Ada: 0 live connections ended\n"
        assert call("revoke", key).returncode == 3
    finally:
        call("stop")
