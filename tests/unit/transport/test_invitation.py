from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from computefarm.errors import Refused, SettingsError
from computefarm.home import Home
from computefarm.messages import Disconnect, Join, Joined
from computefarm.transport.addresses import Address
from computefarm.transport.authorized import USED_FOR_S, Authorization
from computefarm.transport.farms import Farm, open_farm, publish
from computefarm.transport.invitation import Enrolment, Invitation, invite, parse_invitation
from computefarm.transport.keys import KeyPair, spell

NOW = 1_800_000_000.0
HERE = Address("127.0.0.1", 5000)
LINE = Invitation(address=HERE, server_key=KeyPair.make().public, farm="lab", keys=KeyPair.make()).line()


class Door:
    """A farm with one open invitation."""

    def __init__(self, folder: Path, role: str = "worker") -> None:
        self.farm: Farm = open_farm(Home.find({"CF_HOME": str(folder)}), "lab")
        self.access = publish(self.farm, str(HERE))
        self.line = self.invite(role)
        self.enrolment = Enrolment(self.farm.table, "lab")
        self.key = KeyPair.make().public

    def invite(self, role: str) -> str:
        return invite(self.farm.table, self.access, role=role, valid_s=3600, address=HERE, wall=NOW)

    @property
    def guest(self) -> Authorization:
        found = self.farm.table.find(parse_invitation(self.line).keys.public)
        assert found is not None
        return found

    def join(self, wall: float = NOW + 1, key: str = "", name: str = "lab 7") -> Joined | Disconnect:
        return self.enrolment.join(self.guest, Join(public_key=key or self.key, name=name), wall)


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path)


@pytest.mark.parametrize("host", ["127.0.0.1", "lab7.example.org", "2001:db8::7", "my_box"])
def test_line_reads_back_and_needs_no_quotes(host: str) -> None:
    one = Invitation(
        address=Address(host, 11989), server_key=KeyPair.make().public, farm="lab.2", keys=KeyPair.make()
    )

    assert parse_invitation(f" {one.line()}\n") == one
    assert re.fullmatch(r"[A-Za-z0-9:._+-]+", one.line())


@given(at=st.integers(4, len(LINE) - 1), put=st.sampled_from("aZ0-_:.") | st.just(""))
def test_any_changed_character_is_called_damage(at: int, put: str) -> None:
    changed = LINE[:at] + put + LINE[at + 1 :]
    if changed == LINE:
        assert parse_invitation(changed).farm == "lab"
    else:
        with pytest.raises(Refused, match="damaged"):
            parse_invitation(changed)


@given(st.text())
def test_any_text_is_refused_in_words(text: str) -> None:
    with pytest.raises(Refused, match="invitation"):
        parse_invitation(text)


def test_only_the_public_half_stays_with_the_manager(door: Door) -> None:
    text = door.farm.table.path.read_text()

    assert spell(parse_invitation(door.line).keys.public) in text
    assert spell(parse_invitation(door.line).keys.secret) not in text
    assert (door.guest.role, door.guest.expires_at) == ("invite:worker", NOW + 3600)
    assert not any(door.guest.may(role) for role in ("worker", "monitor", "client", "viewer", "admin"))


def test_join_enrols_the_key_and_burns_the_invitation(door: Door) -> None:
    assert door.join() == Joined(farm="lab", role="worker")

    enrolled = door.farm.table.find(door.key)
    assert enrolled == Authorization(role="worker", name="lab-7", key=door.key)
    assert door.guest.used


def test_used_invitation_says_by_whom_and_when(door: Door) -> None:
    door.join()

    answer = door.join(key=KeyPair.make().public)

    assert isinstance(answer, Disconnect)
    assert "used already, by lab-7 on 2027-01-15T08:00:01Z" in answer.text


def test_lost_answer_is_given_again(door: Door) -> None:
    assert door.join() == door.join()
    assert list(door.farm.table.entries).count(door.key) == 1


def test_revoked_machine_cannot_come_back_with_its_old_invitation(door: Door) -> None:
    door.join()
    door.farm.table.remove(spell(door.key))

    assert isinstance(door.join(), Disconnect)
    assert door.farm.table.find(door.key) is None


def test_expired_invitation(door: Door) -> None:
    answer = door.join(wall=NOW + 3600)

    assert isinstance(answer, Disconnect)
    assert "expired on 2027-01-15T09:00:00Z" in answer.text
    assert door.farm.table.find(door.key) is None


def test_withdrawn_invitation(door: Door) -> None:
    guest = door.guest
    door.farm.table.remove(guest.name)

    answer = door.enrolment.join(guest, Join(public_key=door.key, name="x"), NOW)

    assert isinstance(answer, Disconnect)
    assert "withdrawn" in answer.text


def test_enrolled_key_cannot_enrol_another(door: Door) -> None:
    door.join()
    worker = door.farm.table.find(door.key)
    assert worker is not None

    answer = door.enrolment.join(worker, Join(public_key=KeyPair.make().public, name="x"), NOW)

    assert isinstance(answer, Disconnect)
    assert answer.code == "role"


@pytest.mark.parametrize("what", ["own", "theirs", "nonsense", "spelled"])
def test_key_that_must_not_be_enrolled(door: Door, what: str) -> None:
    key = {
        "own": door.farm.table.path and next(iter(door.farm.table.entries)),
        "theirs": door.guest.key,
        "nonsense": "x" * 40 + "\n",
        "spelled": spell(door.key),
    }[what]
    before = door.farm.table.path.read_text()

    assert isinstance(door.join(key=key), Disconnect)
    assert door.farm.table.path.read_text() == before


def test_name_cannot_smuggle_a_line_in(door: Door) -> None:
    door.join(name=f"x\nadmin evil {spell(KeyPair.make().public)}")

    assert not any(entry.role == "admin" for entry in door.farm.table.entries.values())
    assert door.farm.table.bad == []


def test_old_invitations_are_forgotten(door: Door) -> None:
    first = parse_invitation(door.line).keys.public
    invite(
        door.farm.table, door.access, role="client", valid_s=60, address=HERE, wall=NOW + 3600 + USED_FOR_S
    )

    assert door.farm.table.find(first) is None


def test_unknown_role(door: Door) -> None:
    with pytest.raises(SettingsError, match="no role 'boss'"):
        door.invite("boss")
