from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from computefarm.errors import UsageError
from computefarm.transport.addresses import Address, parse_address, plain_ip


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("tcp://127.0.0.1:5000", "tcp://127.0.0.1:5000"), ("lab7:5000", "tcp://lab7:5000"), ("lab7", "tcp://lab7:11989"),
        ("[::1]:5000", "tcp://[::1]:5000"), ("tcp://[2001:DB8::1]", "tcp://[2001:db8::1]:11989"),
        ("tcp://127.0.0.1:*", "tcp://127.0.0.1:0"), ("*:80", "tcp://0.0.0.0:80"), ("my_box.lan.:1", "tcp://my_box.lan.:1"),
    ],
)  # fmt: skip
def test_spellings(text: str, address: str) -> None:
    assert str(parse_address(text)) == address


@pytest.mark.parametrize(
    "text",
    ["", "udp://x:1", "x:70000", "x:y", "a b:1", "::1:80", "[zz]:1", "http://x", "x:1:2", "-x:1", ":80"],
)
def test_not_an_address(text: str) -> None:
    with pytest.raises(UsageError, match="not an address"):
        parse_address(text)


@given(st.text())
def test_any_text_is_an_address_or_a_usage_error(text: str) -> None:
    try:
        found = parse_address(text)
    except UsageError:
        return
    assert parse_address(str(found)) == found


@pytest.mark.parametrize("text", ["127.0.0.1:1", "127.8.9.10", "localhost:5", "[::1]:7", "tcp://127.0.0.1:*"])
def test_loopback(text: str) -> None:
    assert parse_address(text).is_loopback


@pytest.mark.parametrize(
    "text", ["0.0.0.0:1", "*:1", "192.168.1.5", "[::]:7", "lab7:1", "127.0.0.1.example.org"]
)
def test_beyond_loopback(text: str) -> None:
    assert not parse_address(text).is_loopback


def test_addresses_of_a_port_for_both_kinds_are_told_in_plain_form() -> None:
    assert [plain_ip(a) for a in ("::ffff:192.0.2.9", "192.0.2.9", "2001:DB8::1", "")] == [
        "192.0.2.9", "192.0.2.9", "2001:db8::1", "",
    ]  # fmt: skip


def test_loopback_is_known_by_number() -> None:
    assert not Address("127.0.0.1.evil.example", 1).is_loopback
