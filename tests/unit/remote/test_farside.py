"""What another machine tells of itself, and what is sent there."""

from __future__ import annotations

import ast
import sys
from importlib import resources

import pytest

from computefarm.errors import FarmError, UsageError
from computefarm.remote.far.there import ANSWER
from computefarm.remote.farside import _MODULES, no_python, read_answer, read_facts
from computefarm.remote.ssh import Target

SAID = """\
Welcome to nn02!
CF home=/home/alice
CF user=alice
CF cf_home=
CF xdg_data=
CF xdg_config=relative
CF xdg_state=/data/state
CF connection=192.0.2.1 50000 192.0.2.7 22
CF path=/usr/bin:/bin
CF system=Linux
CF processor=aarch64
CF hostname=nn02.lab.example
CF machine=abc
CF python=3.9.2 /usr/bin/python3
CF python=3.12.1 /opt/my python/bin/python3.12
"""


def test_facts_are_read_among_what_login_scripts_print() -> None:
    facts = read_facts(SAID)

    assert (facts.user, facts.hostname, facts.client) == ("alice", "nn02", "192.0.2.1")
    assert (facts.python, facts.version) == ("/opt/my python/bin/python3.12", "3.12.1")
    assert facts.data == "/home/alice/.local/share/computefarm"
    assert facts.config == "/home/alice/.config/computefarm"
    assert facts.state == "/data/state/computefarm"
    assert facts.environ == {"PATH": "/usr/bin:/bin", "XDG_STATE_HOME": "/data/state"}


@pytest.mark.parametrize(
    ("told", "wanted", "root"),
    [("/big/cf", "", "/big/cf"), ("/big/cf", "~/own", "/home/alice/own"), ("", "own", "/home/alice/own")],
)
def test_cf_home_holds_everything(told: str, wanted: str, root: str) -> None:
    facts = read_facts(SAID.replace("cf_home=", f"cf_home={told}"), wanted)

    assert (facts.data, facts.config, facts.cache) == (root, f"{root}/config", f"{root}/cache")
    assert facts.environ["CF_HOME"] == root


def test_a_login_that_runs_no_commands_is_an_error() -> None:
    with pytest.raises(FarmError, match="home, user"):
        read_facts("This account is currently not available.\n")


def test_without_a_good_python_the_error_says_how_to_get_one() -> None:
    old = read_facts(SAID.replace("CF python=3.12.1 /opt/my python/bin/python3.12\n", ""))
    none = read_facts("".join(line for line in SAID.splitlines(True) if "python=" not in line))

    assert old.python == ""
    assert "only Python 3.9.2 (/usr/bin/python3)" in str(no_python(Target("nn02"), old))
    error = no_python(Target("nn02"), none)
    assert isinstance(error, UsageError)
    assert "has no python3" in str(error)
    assert "python3-venv" in error.hint


def test_the_answer_is_the_line_that_says_so() -> None:
    assert read_answer(f'hello\n{ANSWER}{{"result": 1}}\nbye\n') == {"result": 1}
    assert read_answer("hello\n") is None
    assert read_answer(f"{ANSWER}[]\n") is None


def test_what_is_sent_needs_the_standard_library_only() -> None:
    for name in _MODULES:
        source = (resources.files("computefarm.remote") / "far" / f"{name}.py").read_text()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= sys.stdlib_module_names, name
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                assert (node.module or "").split(".")[0] in sys.stdlib_module_names, name
            elif isinstance(node, ast.ImportFrom):
                # In the order in which they are sent.
                assert node.module in _MODULES[: _MODULES.index(name)], name
