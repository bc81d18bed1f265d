from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from computefarm.transport.authorized import (
    Authorization,
    Authorized,
    clean_name,
    format_line,
    parse_authorized,
    parse_line,
)
from computefarm.transport.keys import KeyPair, spell

KEY, OTHER = KeyPair.make().public, KeyPair.make().public


def entry(role: str = "worker", key: str = KEY, **more: object) -> Authorization:
    return Authorization(role=role, name="lab7", key=key, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "one",
    [
        entry(), entry("admin"), entry("invite:client", expires_at=1_900_000_000.0),
        entry("used:worker", by=OTHER, at=1_800_000_000.0), entry(hosts=("192.0.2.7", "2001:db8::/32")),
    ],
)  # fmt: skip
def test_line_reads_back(one: Authorization) -> None:
    assert parse_line(format_line(one)) == one


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("worker lab7", "expected: role"), ("root lab7 {key}", "unknown role 'root'"), ("local lab7 {key}", "unknown role"),
        ("invite:local lab7 {key}", "unknown role"), (":worker lab7 {key}", "unknown role"), ("worker lab7 abc", "not a key"),
        ("worker lab7 {key} forever", "unexpected 'forever'"), ("worker lab7 {key} expires=soon", "isoformat"),
        ("worker lab7 {key} hosts=", "no address"), ("worker lab7 {key} hosts=lab7", "lab7"),
        ("worker lab7 {key} expires=2030-01-01 expires=2040-01-01", "unexpected"),
    ],
)  # fmt: skip
def test_bad_line_refuses_only_itself(line: str, reason: str) -> None:
    text = f"# header\n\n{line.format(key=spell(KEY))}\nclient ada {spell(OTHER)}\n"

    entries, bad = parse_authorized(text)

    assert list(entries) == [OTHER]
    assert [(b.number, reason in b.reason) for b in bad] == [(3, True)]


def test_second_line_with_a_key_does_not_widen_the_first() -> None:
    entries, bad = parse_authorized(f"viewer a {spell(KEY)}\nadmin a {spell(KEY)}\n")

    assert entries[KEY].role == "viewer"
    assert [b.number for b in bad] == [2]


@pytest.mark.parametrize(
    ("role", "may"),
    [
        ("worker", {"worker", "monitor"}), ("client", {"client", "viewer"}), ("viewer", {"viewer"}), ("monitor", {"monitor"}),
        ("admin", {"admin", "client", "viewer"}), ("invite:worker", set()), ("used:worker", set()), ("", set()),
    ],
)  # fmt: skip
def test_what_a_role_may_act_as(role: str, may: set[str]) -> None:
    roles = ["worker", "monitor", "client", "viewer", "admin", "local", ""]

    assert {r for r in roles if entry(role).may(r)} == may


def test_hosts_limit_where_a_key_comes_from() -> None:
    one = entry(hosts=("192.0.2.0/24", "::1"))

    assert one.welcome_from("192.0.2.9")
    assert one.welcome_from("::ffff:192.0.2.9")
    assert one.welcome_from("::1")
    assert not one.welcome_from("192.0.3.9")
    assert not one.welcome_from("")
    assert entry().welcome_from("203.0.113.1")


def test_expiry_without_a_zone_is_utc() -> None:
    one = parse_line(f"worker a {spell(KEY)} expires=1970-01-02")

    assert not one.expired(86399)
    assert one.expired(86400)


def test_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    table = Authorized(tmp_path / "authorized")
    table.refresh()
    assert table.find(KEY) is None
    assert not table.refresh()

    Authorized(table.path).add(entry())
    assert table.refresh()
    assert table.find(KEY) == entry()

    assert Authorized(table.path).remove("lab7") == [entry()]
    assert table.refresh()
    assert table.find(KEY) is None


def test_missing_file_authorises_nobody_but_for_the_moment_of_being_saved(tmp_path: Path) -> None:
    now = 0.0
    table = Authorized(tmp_path / "authorized", clock=lambda: now)
    table.add(entry())
    table.path.rename(tmp_path / "backup")
    assert not table.refresh()
    assert table.find(KEY) == entry()
    now = 1.9
    (tmp_path / "backup").rename(table.path)
    table.refresh()
    now = 10.0
    assert table.find(KEY) == entry()
    table.path.unlink()
    assert not table.refresh()
    now = 12.5
    assert table.refresh()
    assert table.entries == {}
    assert "nobody is let in" in table.complaints()[0]
    assert not table.refresh()


def test_letters_that_are_no_letters_spoil_their_own_line_only(tmp_path: Path) -> None:
    table = Authorized(tmp_path / "authorized")
    table.path.write_bytes(b"client \xff\xfe nonsense\nworker lab7 " + spell(KEY).encode() + b"\n")
    table.path.chmod(0o600)
    table.refresh()
    assert list(table.entries) == [KEY]
    assert table.complaints()[0].startswith(f"{table.path}:1: this line lets nobody in: ")
    table.add(entry("client", OTHER))
    assert table.path.read_bytes().startswith(b"client \xff\xfe nonsense\n")


@pytest.mark.parametrize(
    "line", ["admin", "admin me", "root me KEY", "admin me KEYx", "admin me KEY expires=soon", "admin me KEY hosts=lab",
             "admin me KEY hosts=", "admin me KEY KEY", "invite:root me KEY", ":admin me KEY", "ADMIN me KEY", "admin,client me KEY",
             "admin me KEY expires=2031-01-01 expires=2032-01-01", "revoked:admin me KEY", "admin me KEY\x00"],
)  # fmt: skip
def test_a_line_of_nonsense_lets_nobody_in_and_locks_nobody_out(tmp_path: Path, line: str) -> None:
    table = Authorized(tmp_path / "authorized")
    text = f"worker before {spell(OTHER)}\n{line}\nclient after {spell(KeyPair.make().public)}\n"
    table.path.write_text(text.replace("KEY", spell(KEY)))
    table.path.chmod(0o600)

    table.refresh()

    assert [one.name for one in table.entries.values() if not one.revoked] == ["before", "after"]
    known = table.find(KEY)
    assert known is None or not any(known.may(role) for role in ("admin", "client", "viewer", "worker"))
    assert bool(table.complaints()) == (known is None)


def test_a_file_that_others_can_write_changes_nothing(tmp_path: Path) -> None:
    table = Authorized(tmp_path / "authorized")
    table.add(entry())
    table.path.write_text(f"admin thief {spell(OTHER)}\n")
    table.path.chmod(0o622)

    table.refresh()

    assert list(table.entries) == [KEY]
    assert table.complaints() == [
        f"{table.path}: others can write it, so its changes do not count: chmod 600 {table.path}"
    ]
    table.path.chmod(0o600)
    table.refresh()
    assert list(table.entries) == [OTHER]


def test_a_revoked_key_is_remembered_by_name_and_may_nothing(tmp_path: Path) -> None:
    table = Authorized(tmp_path / "authorized")
    table.add(entry())

    assert [one.role for one in table.remove("lab7", wall=86400.0)] == ["worker"]

    known = table.find(KEY)
    assert known is not None
    assert known.revoked
    assert known.name == "lab7"
    assert not any(known.may(role) for role in ("worker", "monitor", "client", "viewer", "admin"))
    assert not known.invited
    assert table.path.read_text().endswith(f"revoked:worker lab7 {spell(KEY)} at=1970-01-02T00:00:00Z\n")
    assert table.remove("lab7", wall=1.0) == []
    table.add(entry())
    assert table.find(KEY) == entry()


def test_comments_after_a_line_stay(tmp_path: Path) -> None:
    table = Authorized(tmp_path / "authorized")
    table.path.write_text(f"worker lab7 {spell(KEY)}  # Ada's desk, room 7\n")
    table.path.chmod(0o600)
    table.refresh()
    assert table.find(KEY) == entry()
    table.add(entry("viewer"))
    assert table.path.read_text() == f"viewer lab7 {spell(KEY)}  # Ada's desk, room 7\n"


def test_editing_keeps_comments_order_and_bad_lines(tmp_path: Path) -> None:
    table = Authorized(tmp_path / "authorized")
    table.path.write_text(f"# mine\nnonsense\nworker lab7 {spell(KEY)}\n\n# end\n")

    table.add(entry("client", OTHER))
    table.add(entry("viewer"))

    assert table.path.read_text() == (
        f"# mine\nnonsense\nviewer lab7 {spell(KEY)}\n\n# end\nclient lab7 {spell(OTHER)}\n"
    )
    assert table.path.stat().st_mode & 0o777 == 0o600


def test_names_become_one_word() -> None:
    assert [clean_name(n) for n in ("Ada's laptop", "a\nb", "  ", "lab-7.x@y")] == [
        "Ada-s-laptop",
        "a-b",
        "unnamed",
        "lab-7.x@y",
    ]


def _add_many(path: Path, keys: list[str]) -> None:
    for key in keys:
        Authorized(path).add(entry(key=key))


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "authorized"
    keys = [[KeyPair.make().public for _ in range(20)] for _ in range(2)]
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_add_many, args=(path, some)) for some in keys]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(timeout=30)

    table = Authorized(path)
    table.refresh()

    assert table.entries.keys() == {*keys[0], *keys[1]}
