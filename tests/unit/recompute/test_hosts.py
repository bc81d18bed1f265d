from __future__ import annotations

from pathlib import Path

import pytest

from computefarm.errors import SettingsError
from computefarm.home import Home
from computefarm.recompute.hosts import parse_hosts, servers
from computefarm.transport.farms import Access, farms_folder, write_access
from computefarm.transport.keys import ensure_keys


def test_a_list_has_ports_weights_and_tiers() -> None:
    found = parse_hosts("a,b:1234/weight=2.5,[::1]:7/tier=1,a", port=11989, origin="X")

    assert [(str(one), one.weight, one.tier) for one in found] == [
        ("a:11989", 2.0, 0),
        ("b:1234", 2.5, 0),
        ("[::1]:7", 1.0, 1),
    ]


@pytest.mark.parametrize(
    "token", [" b", "", "b:x", "b:0", "VAR=b", "b/weight=0", "b/tier=-1", "b/colour=red", "0.0.0.0", "b c"]
)
def test_a_wrong_word_is_named_with_where_it_stands(token: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_hosts(f"a,{token}", port=11989, origin="CF_RECOMPUTE_HOST")

    assert str(caught.value).startswith(f"CF_RECOMPUTE_HOST: {token!r} is no server")


def test_this_machine_is_asked_only_when_the_list_says_so(tmp_path: Path) -> None:
    home = Home.find({"CF_HOME": str(tmp_path)})
    key = ensure_keys(tmp_path / "any.key").public
    for farm, address in (("own", "tcp://127.0.0.1:11989"), ("box", "tcp://box:11989")):
        write_access(Access(farm, address, key, farms_folder(home) / farm))

    def asked(text: str) -> list[str]:
        found = servers(home, "", parse_hosts(text, port=11989, origin="X"))
        return [f"{access.farm} at {entry}" for entry, access in found]

    assert asked("box") == ["box at box:11989"]
    assert asked("localhost,box") == ["own at localhost:11989", "box at box:11989"]
