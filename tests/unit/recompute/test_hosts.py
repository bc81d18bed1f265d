from __future__ import annotations

import pytest

from computefarm.errors import SettingsError
from computefarm.recompute.hosts import parse_hosts


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
