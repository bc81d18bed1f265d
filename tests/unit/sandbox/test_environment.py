from __future__ import annotations

import pytest

from computefarm.sandbox.environment import task_environment


def test_whole_environment() -> None:
    env = task_environment(
        "/w/7", [("CC", "gcc"), ("OPT", "")], {"task": "build:lua", "CF_CPUS": 2}, path="/bin"
    )

    assert env == (
        ("PATH", "/bin"),
        ("HOME", "/w/7"),
        ("TMPDIR", "/w/7"),
        ("LANG", "C.UTF-8"),
        ("CF_TASK", "build:lua"),
        ("CF_CPUS", "2"),
        ("CC", "gcc"),
        ("OPT", ""),
    )


def test_action_has_the_last_word() -> None:
    env = dict(
        task_environment(
            "/w", [("PATH", "/opt"), ("LANG", "C"), ("CF_TASK", "x")], {"task": "t"}, path="/bin"
        )
    )

    assert (env["PATH"], env["LANG"], env["CF_TASK"]) == ("/opt", "C", "x")


def test_path_is_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/some/where")
    monkeypatch.setenv("SECRET", "x")

    env = dict(task_environment("/w", [], {}))

    assert env["PATH"] == "/some/where"
    assert "SECRET" not in env
