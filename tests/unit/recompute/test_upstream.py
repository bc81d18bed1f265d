from __future__ import annotations

from pathlib import Path

import pytest

from computefarm.core.volatile_servers import BEHIND, MANAGER
from computefarm.errors import Refused, SettingsError, UsageError
from computefarm.home import Home
from computefarm.messages import Offer, Pool
from computefarm.recompute.upstream import Upstreams, merged_tags
from computefarm.settings import Settings
from computefarm.transport.farms import Access, farms_folder, write_access
from computefarm.transport.keys import ensure_keys


def pool(slots: int = 1, **tags: str) -> Pool:
    named = {name.replace("_", ":"): value for name, value in tags.items()}
    return Pool(Offer("recompute", tags=tuple(named.items())), "linux", slots, ("w",))


def test_an_upstream_can_do_what_any_of_its_workers_can() -> None:
    tags = merged_tags(
        [
            pool(devices="cpu", kernel_hash="1", k="18-32", isa="avx512"),
            pool(devices="cuda cpu", kernel_hash="2", kernel_sum="1", k="20-40"),
        ],
        "b",
    )

    assert tags == {
        MANAGER: "b",
        BEHIND: "",
        "devices": "cpu cuda",
        "kernel:hash": "2",
        "kernel:sum": "1",
        "k": "18-40",
    }


def test_everybody_behind_an_upstream_is_known() -> None:
    assert merged_tags([pool(manager="c", behind="d e"), pool()], "b")[BEHIND] == "c d e"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.find({"CF_HOME": str(tmp_path)})


def test_a_list_that_is_wrong_and_a_manager_that_was_not_joined_are_refused(home: Home) -> None:
    with pytest.raises(SettingsError, match="--upstream: 'a b' is no server"):
        Upstreams(["c", "a b"], home, Settings())
    with pytest.raises(Refused, match="has not joined the farm at c:11989"):
        Upstreams(["c"], home, Settings())


def test_a_manager_is_not_its_own_upstream(home: Home, tmp_path: Path) -> None:
    keys = ensure_keys(tmp_path / "keys" / "manager.key")
    folder = farms_folder(home) / "default"
    write_access(Access("default", "tcp://here:11989", keys.public, folder))

    with pytest.raises(UsageError, match="that is this TaskManager itself"):
        Upstreams(["here"], home, Settings()).connect(None, keys.public, None)  # type: ignore[arg-type]
