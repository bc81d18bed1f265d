from __future__ import annotations

from pathlib import Path

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from computefarm.errors import Refused
from computefarm.transport.keys import (
    KeyPair,
    check_curve,
    ensure_keys,
    load_keys,
    read_key,
    save_keys,
    spell,
)


def test_spelling_survives_shells_and_reads_back() -> None:
    for _ in range(50):
        key = KeyPair.make().public
        assert spell(key).replace("-", "").replace("_", "").isalnum()
        assert (read_key(spell(key)), read_key(key)) == (key, key)


@given(st.text(max_size=50) | st.text(min_size=40, max_size=43))
def test_what_is_not_a_key_is_a_value_error(text: str) -> None:
    try:
        key = read_key(text)
    except ValueError:
        return
    assert text in (key, spell(key))


def test_saved_pair_is_private_and_comes_back(tmp_path: Path) -> None:
    path, pair = tmp_path / "keys" / "worker.key", KeyPair.make()

    save_keys(path, pair)

    assert load_keys(path) == pair
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert ensure_keys(path) == pair


def test_wider_modes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "worker.key"
    save_keys(path, KeyPair.make())
    path.chmod(0o640)
    with pytest.raises(Refused, match=f"chmod 600 {path}"):
        load_keys(path)
    path.chmod(0o600)
    path.parent.chmod(0o750)
    with pytest.raises(Refused, match=f"chmod 700 {path.parent}"):
        load_keys(path)


@pytest.mark.parametrize("content", ["", "x y", "one", "a b c", "\0", f"{'A' * 43} {'B' * 43}"])
def test_damaged_key_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys" / "worker.key"
    save_keys(path, KeyPair.make())
    path.write_text(content)

    with pytest.raises(Refused, match=r"worker\.key is not a key file"):
        load_keys(path)


def test_secret_never_shows() -> None:
    pair = KeyPair.make()

    assert pair.secret not in f"{pair} {pair!r}"
    assert spell(pair.secret) not in f"{pair} {pair!r}"


def test_zeromq_without_curve_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zmq, "has", lambda what: False)

    with pytest.raises(Refused, match=r"without CURVE(.|\n)*pip install"):
        check_curve()
