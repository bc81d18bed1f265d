from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint

import pytest

from computefarm.errors import FarmError
from computefarm.worker_api.contract import CommandPlugin
from computefarm.worker_api.registry import GROUP, find, names


def installed(**values: str) -> list[EntryPoint]:
    return [EntryPoint(name=name, value=value, group=GROUP) for name, value in values.items()]


def test_the_shell_plug_in_is_found_by_its_entry_point() -> None:
    plugin = find("shell")

    assert isinstance(plugin, CommandPlugin)
    assert plugin.name == "shell"
    assert "shell" in names()


@pytest.mark.parametrize(
    ("there", "message"),
    [
        (installed(), "none at all is installed"),
        (installed(shell="os:getpid", dask="os:getpid"), "there are: dask, shell; did you mean 'shell'"),
        (installed(shel="no.such.module:Thing"), r"'shel' \(no.such.module:Thing\) cannot be loaded: ModuleNotFoundError"),
        (installed(shel="os:nothing"), "cannot be loaded: AttributeError"),
        (installed(shel="os:strerror"), "cannot be loaded: TypeError"),
        (installed(shel="builtins:dict"), "is not one: expected `name` and `commands"),
    ],
)  # fmt: skip
def test_why_a_plug_in_cannot_be_had(there: Iterable[EntryPoint], message: str) -> None:
    with pytest.raises(FarmError, match=message):
        find("shel", installed=lambda: there)
